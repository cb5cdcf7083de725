"""The encoding of every message of the protocol, its decoding, and the errors for invalid content."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.serverapp.strategy import FedAvg, FedProx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.data.preprocessing import SMALLEST_STD
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.metrics.bins import NUM_BINS, find_edge
from fedhealth.metrics.histogram import score_histogram
from fedhealth.metrics.paired_comparison import METRIC_NAMES
from fedhealth.server.strategies.flower_fixes import ALL_NODES
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity
from fedhealth.transport.protocol import evaluation, fields, finalization, setup, training
from fedhealth.transport.protocol.evaluation import EvaluateReply, EvaluateRequest, Histogram
from fedhealth.transport.protocol.feasibility import (
    ALL_BUT_FEW,
    FEW,
    FeasibilityReply,
    decode_feasibility,
    encode_feasibility,
)
from fedhealth.transport.protocol.fields import Scale, decode_arrays, encode_arrays
from fedhealth.transport.protocol.finalization import Comparison, FinalRequest, ImportanceDrops
from fedhealth.transport.protocol.setup import Description, LabelCounts, MomentSums
from fedhealth.transport.protocol.training import TrainReply, TrainRequest

KERNEL, BIAS = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6], np.float32)
WEIGHTS = {"kernel": KERNEL, "bias": BIAS}
MEANS, STDS = (54.0, 131.0, 240.0, 149.0, 1.0, 0.7), (9.0, 17.0, 50.0, 22.0, 1.1, 0.9)
SCALE = Scale(MEANS, STDS)
DROPS = (0.0,) * 11 + (0.25, -0.125)
COMPARISON = Comparison("auroc", 0.74, 0.67, 0.07, 0.01, 0.12)
SCORES = score_histogram([0.9, 0.2, 0.1], [1, 0, 0])
HISTOGRAM = Histogram(3, SCORES.positives, SCORES.negatives, SCORES.log_loss, SCORES.squared_error)
COMPARISON_VALUES = {"value": 0.74, "alone": 0.67, "difference": 0.07, "low": 0.01, "high": 0.12}

Decoder = Callable[[RecordDict], Any]
Encoder = Callable[[Any], RecordDict]


def to_bytes(content: RecordDict) -> bytes:
    encoded: bytes = recorddict_to_proto(content).SerializeToString()
    return encoded


def from_bytes(payload: bytes) -> RecordDict:
    return recorddict_from_proto(ProtoRecordDict.FromString(payload))


def arrays() -> ArrayRecord:
    return ArrayRecord({"kernel": Array(KERNEL), "bias": Array(BIAS)})


def metrics(**values: Any) -> MetricRecord:
    return MetricRecord({key.replace("_", "-"): value for key, value in values.items()})


def config(**values: Any) -> ConfigRecord:
    return ConfigRecord({key.replace("_", "-"): value for key, value in values.items()})


def scaled(**values: Any) -> ConfigRecord:
    return config(means=list(MEANS), stds=list(STDS), **values)


def sums_record(**changes: Any) -> MetricRecord:
    return metrics(
        **{"num_examples": 3, "log_loss": HISTOGRAM.log_loss, "squared_error": HISTOGRAM.squared_error, **changes}
    )


def bins_array() -> Array:
    """Risks 0.9 of an ill patient and 0.2 and 0.1 of two healthy ones."""
    counts = np.zeros((2, NUM_BINS), np.uint8)
    counts[0, find_edge(0.9)] = counts[1, find_edge(0.2)] = counts[1, find_edge(0.1)] = 1
    return Array(counts)


def evaluated(*parts: str) -> RecordDict:
    bins = ArrayRecord({part: bins_array() for part in parts})
    return RecordDict({**{part: sums_record() for part in parts}, "bins": bins})


# --- encoding and decoding --------------------------------------------------------------------------------------------

DESCRIPTION = Description("va", "uci", "0123456789ab", 60, 20, 8)
TRAIN_REQUEST = TrainRequest(WEIGHTS, 3, SCALE)

MESSAGES: dict[str, tuple[Any, Encoder, Decoder, RecordDict]] = {
    "welcome": (
        {"rounds": 20, "model": "mlp", "dp-delta": 1e-4, "importance": True},
        setup.encode_welcome,
        setup.decode_welcome,
        RecordDict({"run-config": config(rounds=20, model="mlp", dp_delta=1e-4, importance=True)}),
    ),
    "description": (
        DESCRIPTION,
        setup.encode_description,
        setup.decode_description,
        RecordDict(
            {
                "hospital": config(name="va", source="uci", schema="0123456789ab"),
                "counts": metrics(train_patients=60, test_patients=20, test_ill=8),
            }
        ),
    ),
    "description with a hash of the test patients": (
        replace(DESCRIPTION, split_hash="0123abcd-" + "e" * 32),
        setup.encode_description,
        setup.decode_description,
        RecordDict(
            {
                "hospital": config(name="va", source="uci", schema="0123456789ab", split_hash="0123abcd-" + "e" * 32),
                "counts": metrics(train_patients=60, test_patients=20, test_ill=8),
            }
        ),
    ),
    "description with a validation set": (
        replace(DESCRIPTION, validation_patients=12, validation_ill=5),
        setup.encode_description,
        setup.decode_description,
        RecordDict(
            {
                "hospital": config(name="va", source="uci", schema="0123456789ab"),
                "counts": metrics(
                    train_patients=60, test_patients=20, test_ill=8, validation_patients=12, validation_ill=5
                ),
            }
        ),
    ),
    "description under differential privacy": (
        Description("va", "uci", "0123456789ab", 61, epsilon=2.5),
        setup.encode_description,
        setup.decode_description,
        RecordDict(
            {
                "hospital": config(name="va", source="uci", schema="0123456789ab"),
                "counts": metrics(train_patients=61, epsilon=2.5),
            }
        ),
    ),
    "feasibility": (
        FeasibilityReply("va", "uci", "0123456789ab", 80, 32, 5, (0, FEW, ALL_BUT_FEW, 80)),
        encode_feasibility,
        decode_feasibility,
        RecordDict(
            {
                "hospital": config(name="va", source="uci", schema="0123456789ab"),
                "counts": metrics(patients=80, ill=32, min_count=5),
                "columns": metrics(missing=[0, -1, -2, 80]),
            }
        ),
    ),
    "request for second moments": (
        MEANS,
        setup.encode_second_moments_request,
        setup.decode_second_moments_request,
        RecordDict({"config": config(means=list(MEANS))}),
    ),
    "moments": (
        MomentSums((60, 59, 0, 60, 60, 7), (3000.0, 7000.5, 0.0, 8000.0, 60.0, 1.5)),
        setup.encode_moments,
        setup.decode_moments,
        RecordDict({"moments": metrics(counts=[60, 59, 0, 60, 60, 7], sums=[3000.0, 7000.5, 0.0, 8000.0, 60.0, 1.5])}),
    ),
    "label counts": (
        LabelCounts(40, 20),
        setup.encode_label_counts,
        setup.decode_label_counts,
        RecordDict({"labels": metrics(healthy=40, ill=20)}),
    ),
    "initial weights": (
        WEIGHTS,
        setup.encode_initial_weights,
        setup.decode_initial_weights,
        RecordDict({"arrays": arrays()}),
    ),
    "train request": (
        TRAIN_REQUEST,
        training.encode_train_request,
        training.decode_train_request,
        RecordDict({"arrays": arrays(), "config": scaled(server_round=3)}),
    ),
    "train request without a standardisation": (
        TrainRequest(WEIGHTS, 3),
        training.encode_train_request,
        training.decode_train_request,
        RecordDict({"arrays": arrays(), "config": config(server_round=3)}),
    ),
    "train request with all that there is": (
        TrainRequest(WEIGHTS, 3, SCALE, (0.5, 3.0), 0.25, {"kernel": -KERNEL, "bias": -BIAS}),
        training.encode_train_request,
        training.decode_train_request,
        RecordDict(
            {
                "arrays": arrays(),
                "config": scaled(class_weights=[0.5, 3.0], proximal_mu=0.25, server_round=3),
                "correction": ArrayRecord({"kernel": Array(-KERNEL), "bias": Array(-BIAS)}),
            }
        ),
    ),
    "train reply": (
        TrainReply(WEIGHTS, 60, 0.5),
        training.encode_train_reply,
        training.decode_train_reply,
        RecordDict({"arrays": arrays(), "metrics": metrics(num_examples=60, train_loss=0.5)}),
    ),
    "train reply under differential privacy": (
        TrainReply(WEIGHTS, 61),
        training.encode_train_reply,
        training.decode_train_reply,
        RecordDict({"arrays": arrays(), "metrics": metrics(num_examples=61)}),
    ),
    "evaluate request": (
        EvaluateRequest(WEIGHTS, 3, SCALE),
        evaluation.encode_evaluate_request,
        evaluation.decode_evaluate_request,
        RecordDict({"arrays": arrays(), "config": scaled(server_round=3)}),
    ),
    "evaluate request for the final model": (
        EvaluateRequest(WEIGHTS, 20, SCALE, final=True),
        evaluation.encode_evaluate_request,
        evaluation.decode_evaluate_request,
        RecordDict({"arrays": arrays(), "config": scaled(server_round=20, final=True)}),
    ),
    "evaluate reply": (
        EvaluateReply(HISTOGRAM),
        evaluation.encode_evaluate_reply,
        evaluation.decode_evaluate_reply,
        evaluated("tested"),
    ),
    "evaluate reply with a validation set": (
        EvaluateReply(HISTOGRAM, HISTOGRAM),
        evaluation.encode_evaluate_reply,
        evaluation.decode_evaluate_reply,
        evaluated("tested", "validation"),
    ),
    "final request": (
        FinalRequest(WEIGHTS, SCALE),
        finalization.encode_final_request,
        finalization.decode_final_request,
        RecordDict({"arrays": arrays(), "config": scaled()}),
    ),
    "final request with a threshold": (
        FinalRequest(WEIGHTS, None, 0.435),
        finalization.encode_final_request,
        finalization.decode_final_request,
        RecordDict({"arrays": arrays(), "config": config(threshold=0.435)}),
    ),
    "subgroups": (
        {"female": (1, 2, 3, 4), "male": (5, 6, 7, 0)},
        finalization.encode_subgroups,
        finalization.decode_subgroups,
        RecordDict({"subgroups": metrics(female=[1, 2, 3, 4], male=[5, 6, 7, 0])}),
    ),
    "subgroups, all suppressed": (
        {},
        finalization.encode_subgroups,
        finalization.decode_subgroups,
        RecordDict({"subgroups": MetricRecord()}),
    ),
    "importance": (
        ImportanceDrops(DROPS, 20),
        finalization.encode_importance,
        finalization.decode_importance,
        RecordDict({"importance": metrics(auroc_drops=list(DROPS), num_examples=20)}),
    ),
    "importance that is not disclosed": (
        None,
        finalization.encode_importance,
        finalization.decode_importance,
        RecordDict(),
    ),
    "comparisons": (
        {"global": COMPARISON, "personal": replace(COMPARISON, metric="brier")},
        finalization.encode_finish_reply,
        finalization.decode_finish_reply,
        RecordDict({"global-auroc": metrics(**COMPARISON_VALUES), "personal-brier": metrics(**COMPARISON_VALUES)}),
    ),
    "comparisons that are not shared": (
        {},
        finalization.encode_finish_reply,
        finalization.decode_finish_reply,
        RecordDict(),
    ),
}


def plain(value: Any) -> Any:
    """The value with each array as its type and nested lists, so that two of them can be compared."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return [(key, plain(each)) for key, each in value.items()]
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if hasattr(value, "__dataclass_fields__"):
        return [(name, plain(getattr(value, name))) for name in sorted(vars(value))]
    return value


@pytest.mark.parametrize("name", MESSAGES)
def test_the_encoding_of_a_message_has_not_changed(name: str) -> None:
    value, encode, _, wire = MESSAGES[name]
    assert to_bytes(encode(value)) == to_bytes(wire)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_decoded_as_it_was_sent(name: str) -> None:
    value, _, decode, wire = MESSAGES[name]
    assert plain(decode(from_bytes(to_bytes(wire)))) == plain(value)


def test_a_request_without_content_is_empty() -> None:
    assert to_bytes(setup.encode_empty_request()) == b""


@pytest.mark.parametrize(("count", "dtype"), [(0, "uint8"), (255, "uint8"), (256, "uint16"), (70_000, "uint32")])
def test_the_counts_of_a_histogram_have_the_smallest_type_that_holds_them(count: int, dtype: str) -> None:
    counts = np.array([count, 0])
    encoded = evaluation.encode_evaluate_reply(EvaluateReply(Histogram(count, counts, counts, 0.5, 0.5)))
    array = encoded["bins"]["tested"]
    assert array.dtype == dtype
    decoded = evaluation.decode_evaluate_reply(encoded).tested
    assert decoded.positives.dtype == np.int64
    assert decoded.positives.tolist() == decoded.negatives.tolist() == [count, 0]


def test_decoded_weights_share_the_messages_memory_and_cannot_be_changed() -> None:
    decoded = decode_arrays(arrays())
    with pytest.raises(ValueError, match="read-only"):
        decoded["bias"][0] = 7


def test_the_message_types_are_flowers() -> None:
    assert (training.TRAIN, evaluation.EVALUATE) == ("train", "evaluate")
    assert [fields.action(kind) for kind in (setup.DESCRIBE, setup.FIRST_MOMENTS, finalization.FINISH)] == [
        "describe",
        "first_moments",
        "finish",
    ]


# --- what must agree with other modules -------------------------------------------------------------------------------


def test_hospitals_accept_every_deviation_that_the_server_computes() -> None:
    assert fields.SMALLEST_STD == SMALLEST_STD


def test_the_protocol_has_all_metrics_of_a_comparison() -> None:
    assert get_args(finalization.ComparedMetric) == tuple(METRIC_NAMES)


class OneNode:
    """A grid of one node."""

    def get_node_ids(self) -> list[int]:
        return [101]


def request_of(strategy: FedAvg, kind: str, asked: ConfigRecord, round_num: int) -> RecordDict:
    """The request that Flower's strategy makes."""
    set_identity(SERVER_NODE_ID)
    configure = strategy.configure_train if kind == "train" else strategy.configure_evaluate
    (message,) = configure(round_num, encode_arrays(WEIGHTS), asked, OneNode())  # type: ignore[arg-type]
    assert isinstance(message, Message)
    assert message.metadata.message_type == kind
    return message.content


def test_flowers_strategies_make_the_same_train_requests() -> None:
    weighed = training.encode_train_config(SCALE, (0.5, 3.0))
    request = TrainRequest(WEIGHTS, 4, SCALE, (0.5, 3.0))
    assert to_bytes(request_of(FedAvg(**ALL_NODES), "train", weighed, 4)) == to_bytes(
        training.encode_train_request(request)
    )
    weighed = training.encode_train_config(SCALE, (0.5, 3.0))
    pulled = request_of(FedProx(**ALL_NODES, proximal_mu=0.25), "train", weighed, 4)
    assert to_bytes(pulled) == to_bytes(training.encode_train_request(replace(request, proximal_mu=0.25)))


def test_flowers_strategies_make_the_same_evaluate_requests() -> None:
    made = request_of(FedAvg(**ALL_NODES), "evaluate", evaluation.encode_evaluate_config(SCALE), 4)
    assert to_bytes(made) == to_bytes(evaluation.encode_evaluate_request(EvaluateRequest(WEIGHTS, 4, SCALE)))


def test_a_correction_is_added_without_a_change_to_the_request_that_hospitals_share() -> None:
    request = training.encode_train_request(TRAIN_REQUEST)
    corrected = training.add_correction(request, {"kernel": -KERNEL, "bias": -BIAS})
    assert list(request) == ["arrays", "config"]
    assert list(corrected) == ["arrays", "config", "correction"]
    assert corrected["arrays"] is request["arrays"]


# --- encoding and decoding of random values ---------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**9)
bounded = st.floats(-1, 1)
any_weights = st.dictionaries(
    st.text(max_size=8),
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements=st.integers(-9, 9),
    ),
    min_size=1,
    max_size=3,
)
scales = st.builds(
    Scale,
    st.tuples(*[st.floats(-1e6, 1e6)] * len(HEART.numbers)),
    st.tuples(*[st.floats(SMALLEST_STD, 1e6)] * len(HEART.numbers)),
)
rounds = st.integers(1, 2**31 - 1)
patients = st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)).map(sorted)
descriptions = st.one_of(
    st.builds(Description, st.text(), st.text(), st.text(), st.integers(1, 10**6), epsilon=st.floats(1e-9, 1e9)),
    st.builds(
        lambda name, train, test, held, split_hash: Description(
            name,
            "own",
            "0123456789ab",
            train,
            test[1],
            test[0],
            *((held[1], held[0]) if held else ()),
            split_hash=split_hash,
        ),
        st.text(),
        st.integers(1, 10**6),
        patients,
        st.none() | patients,
        st.none() | st.from_regex(setup.GOOD_HASH, fullmatch=True),
    ),
)
bins = hnp.arrays(np.int64, st.tuples(st.just(2), st.integers(1, 20)), elements=counts)
histograms = st.builds(lambda total, both, *sums: Histogram(total, *both, *sums), counts, bins, finite, finite)
comparisons = st.builds(Comparison, st.sampled_from(["auroc", "brier"]), *[bounded] * 5)
train_requests = st.builds(
    TrainRequest,
    any_weights,
    rounds,
    st.none() | scales,
    st.none() | st.tuples(*[st.floats(0.5, 1e4)] * 2),
    st.floats(0, 100),
    st.none() | any_weights,
    st.booleans(),
)
sent_moments = st.builds(
    MomentSums,
    st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * len(HEART.numbers)),
    st.tuples(*[finite] * len(HEART.numbers)),
)

feasible = st.integers(1, 10**9).flatmap(
    lambda patients: st.builds(
        FeasibilityReply,
        *[st.text(max_size=9)] * 3,
        st.just(patients),
        st.integers(-2, patients),
        st.integers(1, 99),
        st.lists(st.integers(-2, patients), max_size=20).map(tuple),
    )
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "feasibility": feasible,
    "description": descriptions,
    "request for second moments": st.tuples(*[st.floats(-1e6, 1e6)] * len(HEART.numbers)),
    "moments": sent_moments,
    "label counts": st.builds(LabelCounts, st.integers(-9, 10**9), counts),
    "initial weights": any_weights,
    "train request": train_requests,
    "train reply": st.builds(TrainReply, any_weights, st.integers(-9, 10**9), st.none() | finite),
    "evaluate request": st.builds(EvaluateRequest, any_weights, rounds, st.none() | scales, st.booleans()),
    "evaluate reply": st.builds(EvaluateReply, histograms, st.none() | histograms),
    "final request": st.builds(FinalRequest, any_weights, st.none() | scales, st.none() | st.floats(0, 1)),
    "subgroups": st.dictionaries(st.text(max_size=9), st.tuples(*[counts] * 4), max_size=5),
    "importance": st.none() | st.builds(ImportanceDrops, st.tuples(*[bounded] * len(FEATURE_NAMES)), counts),
    "comparisons": st.just({}) | st.fixed_dictionaries({"global": comparisons}, optional={"personal": comparisons}),
}


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_is_encoded_is_decoded_to_the_same(name: str, data: st.DataObject) -> None:
    _, encode, decode, _ = MESSAGES[name]
    value = data.draw(VALUES[name])
    assert plain(decode(from_bytes(to_bytes(encode(value))))) == plain(value)


@given(
    trained=VALUES["train reply"],
    evaluated=VALUES["evaluate reply"],
)
@settings(max_examples=40, deadline=None)
def test_a_train_reply_with_an_evaluation_is_split_into_both(trained: TrainReply, evaluated: EvaluateReply) -> None:
    alone = training.encode_train_reply(trained)
    assert training.split_train_reply(alone) == (alone, None)
    first, second = training.split_train_reply(from_bytes(to_bytes(training.add_evaluation(alone, evaluated))))
    assert plain(training.decode_train_reply(first)) == plain(trained)
    assert second is not None
    assert plain(evaluation.decode_evaluate_reply(second)) == plain(evaluated)


# --- invalid content --------------------------------------------------------------------------------------------------

DECODERS = {decode for _, _, decode, _ in MESSAGES.values()}
KEYS = sorted({key for *_, wire in MESSAGES.values() for record in wire.values() for key in record})
NAMES = sorted({name for *_, wire in MESSAGES.values() for name in wire})

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.sampled_from([0, 1, 3, 60, 0.5])
listed = st.lists(st.integers(-5, 5), max_size=14) | st.lists(st.floats(), max_size=14)
sizes = st.sampled_from([4, 6, 13])
fitting = sizes.flatmap(lambda size: st.lists(bounded, min_size=size, max_size=size))
metric_values = numbers | listed | fitting
config_values = (
    metric_values | st.text(max_size=4) | st.booleans() | st.binary(max_size=4) | st.lists(st.text(max_size=2))
)
dtypes = st.sampled_from(["float32", "f4", ">f4", "int64", "object", "V8", "U3", "M8[s]", "bool", "", "no type"])
saved = st.sampled_from(["float32", ">f4", "int64", "V8", "U3", "M8[s]", "bool"]).map(
    lambda kind: Array(np.zeros(2, kind))
)
any_arrays = saved | st.builds(
    Array,
    dtype=dtypes,
    shape=st.lists(st.integers(-2, 3), max_size=3).map(tuple),
    stype=st.sampled_from(["numpy.ndarray", "pickle", ""]),
    data=st.binary(max_size=9) | saved.map(lambda array: array.data),
)
any_record = (
    st.dictionaries(st.sampled_from(KEYS), metric_values, max_size=6).map(MetricRecord)
    | st.dictionaries(st.sampled_from(KEYS), config_values, max_size=6).map(ConfigRecord)
    | st.dictionaries(st.sampled_from(["kernel", "bias", ""]), any_arrays, max_size=3).map(ArrayRecord)
)
any_content = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), any_record, max_size=4).map(RecordDict)


@st.composite
def almost(draw: st.DrawFn, wire: RecordDict) -> RecordDict:
    """A message of the protocol with one value, one key or one record that is another."""
    records: dict[str, Any] = dict(wire)
    name = draw(st.sampled_from([*records, "more"]))
    record = records.get(name)
    if record is None or draw(st.booleans()):
        return RecordDict({**records, name: draw(any_record)})
    values = st.just(None) | (
        any_arrays
        if isinstance(record, ArrayRecord)
        else metric_values
        if isinstance(record, MetricRecord)
        else config_values
    )
    key, value = draw(st.sampled_from([*record, "more"])), draw(values)
    changed = {**record, key: value} if value is not None else {k: v for k, v in record.items() if k != key}
    return RecordDict({**records, name: type(record)(changed)})


def require_value_error_or_nothing(decode: Decoder, content: RecordDict) -> None:
    try:
        decode(content)
    except ValueError as problem:
        assert str(problem)  # any other error fails the test


@settings(deadline=None)
@given(content=any_content)
def test_any_records_are_decoded_or_raise_a_value_error(content: RecordDict) -> None:
    for decode in DECODERS:
        require_value_error_or_nothing(decode, content)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(MESSAGES)))
def test_a_message_with_one_fault_is_decoded_or_raises_a_value_error(name: str, data: st.DataObject) -> None:
    _, _, decode, wire = MESSAGES[name]
    require_value_error_or_nothing(decode, data.draw(almost(wire)))


@pytest.mark.parametrize(
    "name",
    [name for name in MESSAGES if name not in ("importance that is not disclosed", "comparisons that are not shared")],
)
def test_a_record_of_another_kind_or_one_more_raises_a_value_error(name: str) -> None:
    _, _, decode, wire = MESSAGES[name]
    with pytest.raises(ValueError):
        decode(RecordDict({**wire, "more": MetricRecord({"age": 61})}))
    for key, record in wire.items():
        other = ConfigRecord() if isinstance(record, MetricRecord) else MetricRecord()
        with pytest.raises(ValueError):
            decode(RecordDict({**wire, key: other}))


def change(name: str, record: str, /, **values: Any) -> RecordDict:
    """A message of the protocol with other values in one record; None takes a value out."""
    wire = MESSAGES[name][3]
    changed = {**wire[record], **{key.replace("_", "-"): value for key, value in values.items()}}
    kept = {key: value for key, value in changed.items() if value is not None}
    return RecordDict({**wire, record: type(wire[record])(kept)})


def without(name: str, record: str) -> RecordDict:
    return RecordDict({key: value for key, value in MESSAGES[name][3].items() if key != record})


NOT_FINITE = Array(np.array([5, math.nan], np.float32))
UNREADABLE = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=b"\x93NUMPY nonsense")
FAULTS: list[tuple[str, RecordDict, str]] = [
    ("welcome", RecordDict(), "it sent nothing instead of run-config"),
    ("feasibility", without("feasibility", "columns"), "it sent hospital, counts instead of hospital and counts and"),
    (
        "feasibility",
        change("feasibility", "hospital", name=7),
        "it must send exactly the texts name, source and schema",
    ),
    (
        "feasibility",
        change("feasibility", "hospital", more="x"),
        "it must send exactly the texts name, source and schema",
    ),
    (
        "feasibility",
        change("feasibility", "counts", ill=None),
        "it must send exactly the integers patients, ill, min-count",
    ),
    ("feasibility", change("feasibility", "counts", ill=81), "a count is not one of its patients"),
    ("feasibility", change("feasibility", "counts", ill=-3), "a count is not one of its patients"),
    ("feasibility", change("feasibility", "counts", patients=0, ill=0), "a count is not one of its patients"),
    ("feasibility", change("feasibility", "counts", min_count=0), "a count is not one of its patients"),
    ("feasibility", change("feasibility", "columns", missing=[81]), "a count is not one of its patients"),
    (
        "feasibility",
        change("feasibility", "columns", missing=[0.5]),
        "it must send exactly the list missing (integers)",
    ),
    ("feasibility", change("feasibility", "columns", more=1), "it must send exactly the list missing (integers)"),
    ("description", RecordDict(), "it sent nothing instead of hospital and counts"),
    ("description", without("description", "counts"), "it sent hospital instead of hospital and counts"),
    (
        "description",
        change("description", "hospital", name=None),
        "it must send exactly the texts name, source and schema",
    ),
    (
        "description",
        change("description", "hospital", name=7),
        "it must send exactly the texts name, source and schema",
    ),
    (
        "description",
        change("description", "counts", test_ill=21),
        "its counts contradict each other: 21 of 20 test patients are ill",
    ),
    (
        "description",
        change("description", "counts", test_ill=-1),
        "its counts contradict each other: -1 of 20 test patients are ill",
    ),
    (
        "description",
        change("description", "counts", train_patients=0),
        "it has no training, no test or no validation patient",
    ),
    (
        "description",
        change("description", "counts", train_patients=60.5),
        "it must send exactly the integers train-patients, ",
    ),
    (
        "description",
        change("description", "counts", validation_patients=3),
        "it must send exactly the integers train-patients, ",
    ),
    (
        "description",
        change("description", "counts", validation_patients=0, validation_ill=0),
        "it has no training, no test or no validation patient",
    ),
    (
        "description",
        change("description", "counts", validation_patients=12, validation_ill=13),
        "its counts contradict each other: 13 of 12 validation patients are ill",
    ),
    ("description", change("description", "counts", age=61), "it must send exactly the integers train-patients, "),
    *(
        (
            "description",
            change("description under differential privacy", "counts", **lies),
            "its count or its epsilon is not a finite number above 0",
        )
        for lies in (
            {"epsilon": 0.0},
            {"epsilon": math.inf},
            {"epsilon": math.nan},
            {"train_patients": 0},
        )
    ),
    ("request for second moments", RecordDict(), "the server's message is invalid: it has no config"),
    (
        "request for second moments",
        change("request for second moments", "config", means=1.0),
        "the server's means are invalid: they are no list of numbers",
    ),
    (
        "request for second moments",
        change("request for second moments", "config", means=[1e7, *MEANS[1:]]),
        "the server's means are invalid: not all are numbers from -1e+06 to 1e+06",
    ),
    ("moments", RecordDict(), "it sent nothing instead of moments"),
    ("moments", change("moments", "moments", sums=[1.0]), "its sums have the wrong length"),
    (
        "moments",
        change("moments", "moments", counts=1),
        "it must send exactly the lists counts (integers) and sums (floats)",
    ),
    ("moments", change("moments", "moments", sums=[math.nan] * 6), "its sums are not finite"),
    (
        "moments",
        change("moments", "moments", counts=[1.0] * 6),
        "it must send exactly the lists counts (integers) and sums (floats)",
    ),
    ("label counts", RecordDict(), "it sent nothing instead of labels"),
    ("label counts", change("label counts", "labels", ill=None), "it must send exactly the integers healthy, ill"),
    ("label counts", change("label counts", "labels", ill=[40]), "it must send exactly the integers healthy, ill"),
    ("initial weights", RecordDict({"metrics": MetricRecord()}), "it sent metrics instead of arrays"),
    ("initial weights", RecordDict({"arrays": ArrayRecord()}), "it sent no weights"),
    (
        "initial weights",
        change("initial weights", "arrays", bias=NOT_FINITE),
        "its weights are invalid: not all are finite",
    ),
    (
        "initial weights",
        change("initial weights", "arrays", bias=UNREADABLE),
        "its weights are invalid: they cannot be read",
    ),
    (
        "initial weights",
        change("initial weights", "arrays", bias=Array(np.array(["a", "b"]))),
        "its weights are invalid: not all are finite",
    ),
    ("train request", RecordDict(), "the server's message is invalid: it has no config"),
    (
        "train request",
        RecordDict({**MESSAGES["train request"][3], "more": ArrayRecord()}),
        "the server's message is invalid: it has unexpected records",
    ),
    (
        "train request",
        change("train request", "config", means=None),
        "the server's means are invalid",
    ),
    (
        "train request",
        change("train request", "config", stds=None),
        "the server's stds are invalid: they are no list of numbers",
    ),
    (
        "train request",
        change("train request", "config", stds=[0.0, *STDS[1:]]),
        "the server's stds are invalid: not all are numbers from 1e-06 to 1e+06",
    ),
    *(
        (
            "train request",
            change("train request", "config", server_round=round_num),
            "the server's message is invalid: it has no round number",
        )
        for round_num in (0, -1, 2**31, 1.0, "1", [1], True, None)
    ),
    *(
        (
            "train request",
            change("train request", "config", proximal_mu=pull),
            "the server's proximal-mu is invalid: a number from 0 to 100 is needed",
        )
        for pull in (-0.1, 101.0, math.nan, "1", True)
    ),
    *(
        (
            "train request",
            change("train request", "config", class_weights=weights),
            "the server's class-weights are invalid: two numbers from 0.5 to 10000 are needed",
        )
        for weights in ([1.0], [1.0] * 3, 1.0, [0.4, 1.0], [1.0, 2e4], [1.0, math.nan], ["1", "1"], [])
    ),
    (
        "train request",
        without("train request", "arrays"),
        "the server's weights are invalid: they are not those of this model",
    ),
    (
        "train request",
        change("train request", "arrays", bias=UNREADABLE),
        "the server's weights are invalid: they cannot be read",
    ),
    (
        "train request",
        change("train request", "arrays", bias=NOT_FINITE),
        "the server's weights are invalid: not all are finite",
    ),
    (
        "train request",
        change("train request with all that there is", "correction", bias=NOT_FINITE),
        "the server's weights are invalid: not all are finite",
    ),
    ("train reply", RecordDict(), "it sent nothing instead of arrays and metrics"),
    (
        "train reply",
        RecordDict({**MESSAGES["train reply"][3], "second": MetricRecord()}),
        "it sent arrays, metrics, second instead of arrays and metrics",
    ),
    (
        "train reply",
        RecordDict({**MESSAGES["train reply"][3], "second": ArrayRecord()}),
        "it sent arrays, metrics, second instead of arrays and metrics",
    ),
    (
        "train reply",
        RecordDict({**MESSAGES["train reply"][3], "second": ConfigRecord()}),
        "it sent arrays, metrics, second instead of arrays and metrics",
    ),
    ("train reply", without("train reply", "arrays"), "it sent metrics instead of arrays and metrics"),
    ("train reply", change("train reply", "arrays", bias=NOT_FINITE), "its weights are invalid: not all are finite"),
    (
        "train reply",
        change("train reply", "metrics", age=61),
        "it must send exactly an integer num-examples",
    ),
    (
        "train reply",
        change("train reply", "metrics", num_examples=None),
        "it must send exactly an integer num-examples",
    ),
    (
        "train reply",
        change("train reply", "metrics", num_examples=[60]),
        "it must send exactly an integer num-examples",
    ),
    ("train reply", change("train reply", "metrics", train_loss=math.inf), "its training loss is not finite"),
    ("train reply", change("train reply", "metrics", train_loss=[0.5]), "its training loss is not finite"),
    (
        "train request",
        change("train request", "config", evaluates=1),
        "the server's message is invalid: its evaluates is neither true nor false",
    ),
    (
        "evaluate request",
        change("evaluate request", "config", final=1),
        "the server's message is invalid: its final is neither true nor false",
    ),
    ("evaluate reply", RecordDict(), "it sent nothing instead of tested and bins"),
    ("evaluate reply", evaluated("validation"), "it sent validation, bins instead of tested and validation and bins"),
    (
        "evaluate reply",
        RecordDict({**evaluated("tested", "validation"), "more": MetricRecord()}),
        "it sent tested, validation, bins, more instead of tested and validation and bins",
    ),
    (
        "evaluate reply",
        RecordDict({**evaluated("tested", "validation"), "bins": ArrayRecord({"tested": bins_array()})}),
        "its bins must be those of tested and validation",
    ),
    *(
        (
            "evaluate reply",
            RecordDict({**evaluated("tested"), "tested": record}),
            "a histogram must have exactly the keys num-examples, log-loss, squared-error",
        )
        for record in (MetricRecord(), sums_record(age=61))
    ),
    *(
        (
            "evaluate reply",
            RecordDict({**evaluated("tested"), "bins": ArrayRecord({"tested": Array(counts)})}),
            "a bin is not a count of patients",
        )
        for counts in (np.full((2, NUM_BINS), 0.5), np.zeros(NUM_BINS, np.int64), np.zeros((3, NUM_BINS), np.int64))
    ),
    (
        "evaluate reply",
        RecordDict(
            {**evaluated("tested"), "bins": ArrayRecord({"tested": Array("int64", (2, 1), "numpy.ndarray", b"")})}
        ),
        "its histogram cannot be read",
    ),
    ("evaluate reply", change("evaluate reply", "tested", num_examples=3.0), "its num-examples is not an integer"),
    (
        "evaluate reply",
        change("evaluate reply", "tested", log_loss=math.nan),
        "the sum of log loss or of squared error is not finite",
    ),
    *(
        (
            "final request",
            change("final request", "config", threshold=threshold),
            "the server's threshold is invalid: a number from 0 to 1 is needed",
        )
        for threshold in (-0.1, 1.1, math.nan, "0.5", True)
    ),
    ("subgroups", RecordDict(), "it sent nothing instead of subgroups"),
    ("subgroups", change("subgroups", "subgroups", female=[1, 2, 3]), "its female are not four counts"),
    ("subgroups", change("subgroups", "subgroups", female=[1, 2, 3, -4]), "its female are not four counts"),
    ("subgroups", change("subgroups", "subgroups", female=[0.5] * 4), "its female are not four counts"),
    (
        "importance",
        RecordDict({"metrics": metrics(num_examples=3)}),
        "it sent metrics instead of importance",
    ),
    (
        "importance",
        change("importance", "importance", more=1),
        "its importance must have exactly auroc-drops and an integer num-examples",
    ),
    ("importance", change("importance", "importance", auroc_drops=0.5), "its auroc-drops are no list of numbers"),
    (
        "importance",
        change("importance", "importance", auroc_drops=[*DROPS[1:], 1.5]),
        "an AUROC drop is not a number from -1 to 1",
    ),
    (
        "importance",
        change("importance", "importance", auroc_drops=[0] * 13),
        "an AUROC drop is not a number from -1 to 1",
    ),
    (
        "comparisons",
        RecordDict({"personal-auroc": metrics(**COMPARISON_VALUES)}),
        "it sent personal-auroc instead of comparisons",
    ),
    (
        "comparisons",
        RecordDict({"global-loss": metrics(**COMPARISON_VALUES)}),
        "it sent global-loss instead of comparisons",
    ),
    (
        "comparisons",
        RecordDict({"global-auroc": metrics(**COMPARISON_VALUES), "global-brier": metrics(**COMPARISON_VALUES)}),
        "it sent global-auroc, global-brier instead of comparisons",
    ),
    ("comparisons", RecordDict({"arrays": arrays()}), "it sent arrays instead of comparisons"),
    (
        "comparisons",
        change("comparisons", "global-auroc", row=1.0),
        "its comparison must have exactly the keys",
    ),
    (
        "comparisons",
        change("comparisons", "global-auroc", high=1),
        "a value of its comparison is not a number from -1 to 1",
    ),
]


@pytest.mark.parametrize(("name", "content", "text"), FAULTS)
def test_the_text_of_a_value_error_says_what_is_wrong(name: str, content: RecordDict, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        MESSAGES[name][2](from_bytes(to_bytes(content)))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("content", "round_num"),
    [
        (RecordDict({"config": config(server_round=3)}), 3),
        (RecordDict({"config": config(server_round=3.0)}), 0),
        (RecordDict({"config": config()}), 0),
        (RecordDict({"config": metrics(server_round=3)}), 0),
        (RecordDict(), 0),
    ],
)
def test_the_round_of_any_request_is_found_or_zero(content: RecordDict, round_num: int) -> None:
    assert fields.find_round(content) == round_num
