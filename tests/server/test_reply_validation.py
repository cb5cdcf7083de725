"""Every check of a reply, by hand and with random replies: a reply is accepted or raises a `ValueError`."""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.histogram import score_histogram
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import (
    LONGEST_REASON,
    check_comparisons,
    check_evaluation,
    check_importance,
    check_label_counts,
    check_moments,
    check_trained,
    make_member,
    readable,
)
from fedhealth.transport.messages import node_id_of
from fedhealth.transport.protocol.evaluation import decode_evaluate_reply
from fedhealth.transport.protocol.fields import decode_arrays
from fedhealth.transport.protocol.finalization import decode_finish_reply, decode_importance
from fedhealth.transport.protocol.setup import (
    Description,
    LabelCounts,
    decode_description,
    decode_label_counts,
    decode_moments,
    encode_description,
)
from fedhealth.transport.protocol.training import TrainReply, decode_train_reply

VA = Member(node_id_of("va"), "va", "own", 60, 3, 1)
MODEL = {"k": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([5, 6], np.float32)}
Check = Callable[[RecordDict], Any]


def record_of(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})


def refusal(check: Check, content: RecordDict) -> str:
    with pytest.raises(ValueError) as caught:
        check(content)
    return str(caught.value)


# --- weights ----------------------------------------------------------------------------------------------------------


def trained(arrays: ArrayRecord | None = None, metrics: dict[str, Any] | None = None, **more: Any) -> RecordDict:
    """Va's reply after training: valid except for the given changes."""
    honest = {"num-examples": 60, "train-loss": 0.5}
    records = {"arrays": record_of(MODEL) if arrays is None else arrays, "metrics": MetricRecord(metrics or honest)}
    return RecordDict({**records, **more})


def is_trained(content: RecordDict) -> TrainReply:
    return check_trained(decode_train_reply(content), record_of(MODEL), VA)


def test_weights_of_the_model_trained_on_the_declared_patients_are_valid() -> None:
    assert is_trained(trained()).num_examples == 60


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"k": MODEL["k"]}, "other names, shapes or types"),
        ({**MODEL, "c": MODEL["b"]}, "other names, shapes or types"),
        ({"b": MODEL["b"], "k": MODEL["k"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].reshape(4), "b": MODEL["b"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].reshape(1, 2, 2), "b": MODEL["b"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].astype(np.float64), "b": MODEL["b"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].astype(np.int32), "b": MODEL["b"]}, "other names, shapes or types"),
        ({**MODEL, "b": np.array([5, np.nan], np.float32)}, "not all are finite"),
        ({**MODEL, "b": np.array([5, np.inf], np.float32)}, "not all are finite"),
        ({**MODEL, "b": np.array([-np.inf, 5], np.float32)}, "not all are finite"),
        ({}, "other names, shapes or types"),
    ],
)
def test_weights_that_do_not_fit_the_model_are_invalid(arrays: dict[str, np.ndarray], expected: str) -> None:
    assert expected in refusal(is_trained, trained(record_of(arrays)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"nonsense" * 20,
        Array(MODEL["b"]).data[:-1],
        Array(MODEL["b"]).data + b"\0",
        Array(np.ones(3, np.float32)).data,
        Array(MODEL["b"].astype(np.float64)).data,
        Array(np.ones((2, 1), np.float32)).data,
    ],
    ids=["empty", "no header", "nonsense", "cut", "too long", "longer", "doubles", "another shape"],
)
def test_bytes_that_do_not_match_their_description_are_invalid(data: bytes) -> None:
    lying = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=data)
    content = trained(ArrayRecord({"k": Array(MODEL["k"]), "b": lying}))
    assert refusal(is_trained, content) == "its weights are invalid: they cannot be read"


def test_a_pickle_is_never_opened() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("the pickle was opened",))

    packed = io.BytesIO()
    np.save(packed, np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
    for dtype in ("float32", "object"):
        bomb = Array(dtype=dtype, shape=(2,), stype="numpy.ndarray", data=packed.getvalue())
        with pytest.raises(ValueError):
            decode_arrays(ArrayRecord({"w": bomb}))


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"num-examples": 61, "train-loss": 0.5}, "it trained on 61 patients but declared 60"),
        ({"num-examples": 0, "train-loss": 0.5}, "it trained on 0 patients but declared 60"),
        ({"num-examples": -60, "train-loss": 0.5}, "it trained on -60 patients but declared 60"),
        ({"num-examples": [60], "train-loss": 0.5}, "it must send exactly an integer num-examples"),
        ({"num-examples": 60, "train-loss": math.nan}, "its training loss is not finite"),
        ({"num-examples": 60, "train-loss": math.inf}, "its training loss is not finite"),
        ({"num-examples": 60, "train-loss": [0.5]}, ""),
        ({"num-examples": 60}, "it sent no training loss"),
        ({"num-examples": 60, "train-loss": 0.5, "age": 61}, "without privacy, train-loss"),
        ({"train-loss": 0.5}, "it must send exactly an integer num-examples"),
    ],
)
def test_other_counts_and_other_metrics_than_requested_are_invalid(metrics: dict[str, Any], expected: str) -> None:
    assert expected in refusal(is_trained, trained(metrics=metrics))


def test_a_loss_is_invalid_under_differential_privacy() -> None:
    private = replace(VA, epsilon=4.0)
    sent = decode_train_reply(trained())
    assert refusal(lambda _: check_trained(sent, record_of(MODEL), private), RecordDict()) == "it sent a training loss"
    assert check_trained(replace(sent, train_loss=None), record_of(MODEL), private).num_examples == 60


# --- who, sums, histograms --------------------------------------------------------------------------------------------


def described(**changes: Any) -> RecordDict:
    counts = {"train-patients": 60, "test-patients": 3, "test-ill": 1}
    counts.update({key.replace("_", "-"): value for key, value in changes.items()})
    who = ConfigRecord({"name": "va", "source": "own", "schema": HEART.fingerprint})
    return RecordDict({"hospital": who, "counts": MetricRecord(dict(counts))})


def is_member(content: RecordDict, private: bool = False, validates: bool = False) -> Member:
    return make_member(VA.node_id, decode_description(content), private=private, validates=validates)


def test_a_hospital_is_as_it_describes_itself() -> None:
    assert is_member(described()) == VA


@pytest.mark.parametrize(
    "split_hash", ["", "0" * 41, f"{'0' * 8}-{'0' * 31}", f"{'0' * 8}-{'A' * 32}", f"{'0' * 8}-{'0' * 32}\n", 1, [1, 2]]
)
def test_a_hash_of_another_form_is_invalid(split_hash: Any) -> None:
    content = described()
    content.config_records["hospital"]["split-hash"] = split_hash
    assert "its split-hash is malformed" in refusal(is_member, content)


def test_under_differential_privacy_a_hospital_sends_its_epsilon_and_no_exact_count() -> None:
    content = encode_description(Description("va", "own", HEART.fingerprint, 61, epsilon=2.5))
    assert is_member(content, private=True) == Member(VA.node_id, "va", "own", 61, 0, 0, epsilon=2.5)
    assert refusal(is_member, content) == "it sent an epsilon"
    assert refusal(lambda each: is_member(each, private=True), described()) == "it sent no epsilon"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"test_ill": 4}, "4 of 3 test patients are ill"),
        ({"test_ill": -1}, "-1 of 3 test patients are ill"),
        ({"train_patients": 0}, "it has no training, no test or no validation patient"),
        ({"test_patients": 0, "test_ill": 0}, "it has no training, no test or no validation patient"),
        ({"train_patients": 60.5}, ""),
        ({"train_patients": [60]}, ""),
        ({"train_patients": math.nan}, ""),
    ],
)
def test_counts_that_are_no_counts_of_patients_are_invalid(changes: dict[str, Any], expected: str) -> None:
    assert expected in refusal(is_member, described(**changes))


def test_a_name_is_escaped_for_a_terminal() -> None:
    content = described()
    content.config_records["hospital"]["name"] = "\x1b[31mva\n" + "x" * 1000
    assert is_member(content).name == r"\x1b[31mva\n" + "x" * (LONGEST_REASON - 15) + "..."


def sums(counts: Any = (60,) * 6, values: Any = (1.0,) * 6) -> RecordDict:
    return RecordDict({"moments": MetricRecord({"counts": list(counts), "sums": list(values)})})


def are_sums(content: RecordDict) -> Any:
    return check_moments(len(HEART.numbers), decode_moments(content), VA)


def test_valid_sums_are_not_changed() -> None:
    assert are_sums(sums()).counts == (60,) * len(HEART.numbers)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (sums(counts=[60]), "its sums have the wrong length"),
        (sums(values=[1.0]), "its sums have the wrong length"),
        (sums(values=[math.nan] * len(HEART.numbers)), "its sums are not finite"),
        (sums(values=[math.inf] * len(HEART.numbers)), "its sums are not finite"),
        (sums(counts=[-1] * len(HEART.numbers)), "a count is negative or above its 60 training patients"),
        (sums(counts=[61] * len(HEART.numbers)), "a count is negative or above its 60 training patients"),
        (RecordDict({"moments": MetricRecord({"counts": 1, "sums": 1.0})}), ""),
    ],
)
def test_invalid_sums_are_refused(content: RecordDict, expected: str) -> None:
    assert expected in refusal(are_sums, content)


def labels_of(**counts: Any) -> RecordDict:
    return RecordDict({"labels": MetricRecord(counts)})


def are_label_counts(content: RecordDict) -> Any:
    return check_label_counts(decode_label_counts(content), VA)


@pytest.mark.parametrize(("healthy", "ill"), [(20, 40), (60, 0), (0, 0)])
def test_label_counts_are_of_all_that_are_trained_on_or_kept_in_the_hospital(healthy: int, ill: int) -> None:
    assert are_label_counts(labels_of(healthy=healthy, ill=ill)) == LabelCounts(healthy, ill)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (labels_of(healthy=20, ill=39), "20 healthy and 39 ill do not add up to its 60 training patients"),
        (labels_of(healthy=-1, ill=61), "-1 healthy and 61 ill do not add up to its 60 training patients"),
        (labels_of(healthy=-5, ill=5), "-5 healthy and 5 ill do not add up to its 60 training patients"),
        (labels_of(healthy=20.0, ill=40.0), ""),
        (labels_of(healthy=[20], ill=[40]), ""),
    ],
)
def test_invalid_label_counts_are_refused(content: RecordDict, expected: str) -> None:
    assert expected in refusal(are_label_counts, content)


def evaluated(risks: list[float], labels: list[int]) -> dict[str, Any]:
    """The values of a hospital's histogram by their names."""
    histogram = score_histogram(risks, labels)
    sums = {"log-loss": histogram.log_loss, "squared-error": histogram.squared_error}
    bins = {"positives": histogram.positives, "negatives": histogram.negatives}
    return {"num-examples": histogram.num_examples, **sums, **bins}


def sent(**histograms: dict[str, Any]) -> RecordDict:
    """The reply with these histograms."""
    sides = ("positives", "negatives")
    bins = {part: Array(np.array([each.get(side, []) for side in sides])) for part, each in histograms.items()}
    sums = {part: {key: value for key, value in each.items() if key not in sides} for part, each in histograms.items()}
    return RecordDict({**{part: MetricRecord(each) for part, each in sums.items()}, "bins": ArrayRecord(bins)})


def is_histogram(content: RecordDict) -> Any:
    return check_evaluation(decode_evaluate_reply(content), VA)


def test_a_histogram_of_the_declared_patients_is_valid() -> None:
    content = sent(tested=evaluated([0.9, 0.2, 0.1], [1, 0, 0]))
    tested, held = is_histogram(content)
    assert (tested.num_examples, held) == (3, None)


def held_out(**changes: Any) -> RecordDict:
    """The reply of a hospital with two validation patients, one of them ill."""
    records = {"tested": evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "validation": evaluated([0.8, 0.3], [1, 0])}
    return sent(**{key: record for key, record in {**records, **changes}.items() if record})


def are_both_histograms(content: RecordDict) -> Any:
    return check_evaluation(decode_evaluate_reply(content), replace(VA, validation_patients=2, validation_ill=1))


def test_a_hospital_that_holds_patients_out_sends_a_histogram_of_them_too() -> None:
    tested, held = are_both_histograms(held_out())
    assert (tested.num_examples, held.num_examples) == (3, 2)
    assert held.log_loss == pytest.approx(-math.log(0.8) - math.log(0.7))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (held_out(validation=None), "it sent no histogram of validation patients"),
        (held_out(tested=None), "it sent validation, bins instead of tested and validation and bins"),
        (
            held_out(more={"age": 61}),
            "it sent tested, validation, more, bins instead of tested and validation and bins",
        ),
        (held_out(validation=evaluated([0.8], [1])), "it evaluated 1 patients (1 ill) but declared 2 (1 ill)"),
        (held_out(validation=evaluated([0.8, 0.3], [0, 0])), "it evaluated 2 patients (0 ill) but declared 2 (1 ill)"),
        (held_out(tested=evaluated([0.8, 0.3], [1, 0])), "it evaluated 2 patients (1 ill) but declared 3 (1 ill)"),
        (held_out(validation={**evaluated([0.8, 0.3], [1, 0]), "log-loss": -1.0}), "out of range"),
    ],
)
def test_histograms_of_other_patients_than_the_validation_patients_are_invalid(
    content: RecordDict, expected: str
) -> None:
    assert expected in refusal(are_both_histograms, content)


def test_a_histogram_that_was_not_requested_is_invalid() -> None:
    assert refusal(is_histogram, held_out()) == "it sent a histogram of validation patients"


def holds_out(content: RecordDict) -> Member:
    return is_member(content, validates=True)


def test_a_hospital_sends_its_validation_counts_if_it_has_validation_patients() -> None:
    content = described(validation_patients=12, validation_ill=5)
    assert holds_out(content) == replace(VA, validation_patients=12, validation_ill=5)
    assert holds_out(content).patients == 60 + 12 + 3
    assert refusal(is_member, content) == "it sent counts of validation patients"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "it sent no counts of validation patients"),
        ({"validation_patients": 12}, "it must send exactly the integers train-patients, "),
        ({"validation_patients": 0, "validation_ill": 0}, "it has no training, no test or no validation patient"),
        ({"validation_patients": 12, "validation_ill": 13}, "13 of 12 validation patients are ill"),
        ({"validation_patients": 12.0, "validation_ill": 5}, ""),
        ({"validation_patients": 12, "validation_ill": 5, "test_ill": 4}, "4 of 3 test patients are ill"),
    ],
)
def test_invalid_validation_counts_are_refused(changes: dict[str, Any], expected: str) -> None:
    assert expected in refusal(holds_out, described(**changes))


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (evaluated([0.9, 0.2], [1, 0]), "it evaluated 2 patients (1 ill) but declared 3 (1 ill)"),
        (evaluated([0.9, 0.2, 0.1], [1, 1, 0]), "it evaluated 3 patients (2 ill) but declared 3 (1 ill)"),
        (evaluated([0.9] * 4, [1, 0, 0, 0]), "it evaluated 4 patients (1 ill) but declared 3 (1 ill)"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "num-examples": 2}, "do not add up"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "log-loss": math.nan}, "squared error is not finite"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "squared-error": -1.0}, "out of range"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "positives": [1], "negatives": [2]}, f"must have {NUM_BINS} bins"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "positives": [0.5] * NUM_BINS}, "not a count"),
        ({}, "a histogram must have exactly the keys num-examples, "),
    ],
)
def test_histograms_of_other_patients_or_of_none_are_invalid(metrics: dict[str, Any], expected: str) -> None:
    assert expected in refusal(is_histogram, sent(tested=metrics))


# --- replies with one fault -------------------------------------------------------------------------------------------

trained_keys, evaluated_keys = ["num-examples", "train-loss"], ["log-loss", "squared-error"]
other_keys = ["counts", "sums", "train-patients", "test-patients", "test-ill"]
keys = st.sampled_from([*trained_keys, *evaluated_keys, *other_keys])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.sampled_from([0, 1, 3, 60])
values = numbers | st.lists(st.integers(-5, 5), max_size=8) | st.lists(st.floats(), max_size=8)
arrays = st.builds(
    Array,
    dtype=st.sampled_from(["float32", "float64", "int64", "object", "V8", "U3", "", "no such type"]),
    shape=st.lists(st.integers(-2, 3), max_size=3).map(tuple),
    stype=st.sampled_from(["numpy.ndarray", "pickle", ""]),
    data=st.binary(max_size=150)
    | hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=3)).map(lambda array: Array(array).data),
) | hnp.arrays(np.float32, st.sampled_from([(2,), (2, 2)])).map(Array)
honest_arrays = st.fixed_dictionaries({"k": arrays, "b": arrays}).map(ArrayRecord)
almost_trained = st.builds(
    trained,
    arrays=st.just(record_of(MODEL)) | honest_arrays,
    metrics=st.fixed_dictionaries({"num-examples": values, "train-loss": values}),
)
almost_evaluated = st.dictionaries(keys, values, max_size=3).map(
    lambda lies: sent(tested={**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), **lies})
)
almost_described = st.dictionaries(keys, values, max_size=2).map(lambda lies: described(**lies))
listed = st.lists(st.integers(-5, 61), max_size=8) | st.lists(st.floats(), max_size=8)
almost_summed = st.builds(sums, counts=listed, values=listed)


@given(data=st.data())
@pytest.mark.parametrize(
    ("check", "almost"),
    [
        (is_trained, almost_trained),
        (is_histogram, almost_evaluated),
        (is_member, almost_described),
        (are_sums, almost_summed),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_reply_with_one_fault_is_accepted_or_raises_a_value_error(
    check: Check, almost: st.SearchStrategy[RecordDict], data: st.DataObject
) -> None:
    try:
        check(data.draw(almost))
    except ValueError as problem:
        assert str(problem)


@given(content=almost_trained)
def test_accepted_weights_are_finite_and_fit_the_model(content: RecordDict) -> None:
    try:
        is_trained(content)
    except ValueError:
        return
    for name, values in MODEL.items():
        sent = content.array_records["arrays"][name].numpy()
        assert (sent.shape, sent.dtype) == (values.shape, values.dtype)
        assert np.isfinite(sent).all()


@given(text=st.text())
def test_untrusted_text_fits_in_one_line(text: str) -> None:
    line = readable(text)
    assert line.isprintable()
    assert len(line) <= LONGEST_REASON
    assert line == text or len(text) > LONGEST_REASON or not text.isprintable()


DROPS = [0.0] * 11 + [0.25, -0.125]


def importance(**changes: Any) -> RecordDict:
    """Va's importance: valid except for the given changes."""
    return RecordDict({"importance": MetricRecord({"auroc-drops": DROPS, "num-examples": 3} | changes)})


def test_the_drops_of_the_declared_patients_are_not_changed() -> None:
    assert check_importance(13, decode_importance(importance()), VA) == DROPS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (RecordDict(), "fewer ill or healthy test patients than --min-count"),
        (importance(**{"num-examples": 4}), "it sent drops of 4 patients but declared 3"),
        (importance(more=1), "its importance must have exactly auroc-drops and an integer num-examples"),
        (importance(**{"auroc-drops": DROPS[1:]}), "it sent 12 drops, but there are 13 features"),
        (importance(**{"auroc-drops": 0.5}), "its auroc-drops are no list of numbers"),
        (importance(**{"auroc-drops": [*DROPS[1:], math.nan]}), "an AUROC drop is not a number from -1 to 1"),
        (importance(**{"auroc-drops": [*DROPS[1:], 1.5]}), "an AUROC drop is not a number from -1 to 1"),
        (importance(**{"auroc-drops": [0] * 13}), "an AUROC drop is not a number from -1 to 1"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 3})}), "it sent metrics instead of importance"),
    ],
)
def test_drops_of_other_patients_or_out_of_range_are_invalid(content: RecordDict, expected: str) -> None:
    assert expected in refusal(lambda each: check_importance(13, decode_importance(each), VA), content)


def test_a_hospital_without_a_healthy_test_patient_has_no_auroc() -> None:
    only_ill = replace(VA, test_ill=3)
    assert "its AUROC is undefined" in refusal(
        lambda each: check_importance(13, decode_importance(each), only_ill), importance()
    )


SOUND = {"value": 0.74, "alone": 0.67, "difference": 0.07, "low": 0.01, "high": 0.12}


def verdicts(**records: dict[str, Any]) -> RecordDict:
    return RecordDict({key.replace("_", "-"): MetricRecord(record) for key, record in records.items()})


def are_comparisons(content: RecordDict) -> dict[str, PairedComparison]:
    return check_comparisons(decode_finish_reply(content))


def test_valid_comparisons_are_not_changed_and_an_empty_reply_has_none() -> None:
    comparisons = are_comparisons(verdicts(global_auroc=SOUND, personal_brier=SOUND))
    assert comparisons == {"global": PairedComparison("auroc", **SOUND), "personal": PairedComparison("brier", **SOUND)}
    assert are_comparisons(RecordDict()) == {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (verdicts(personal_auroc=SOUND), "it sent personal-auroc instead of comparisons"),
        (verdicts(global_loss=SOUND), "it sent global-loss instead of comparisons"),
        (verdicts(rows=SOUND), "it sent rows instead of comparisons"),
        (
            verdicts(global_auroc=SOUND, global_brier=SOUND),
            "it sent global-auroc, global-brier instead of comparisons",
        ),
        (verdicts(global_auroc={**SOUND, "row": 1.0}), "must have exactly the keys"),
        (verdicts(global_auroc={"value": 0.5}), "must have exactly the keys"),
        (verdicts(global_auroc={**SOUND, "high": math.nan}), "not a number from -1 to 1"),
        (verdicts(global_auroc={**SOUND, "high": 1}), "not a number from -1 to 1"),
        (verdicts(global_auroc={**SOUND, "high": [0.5]}), "not a number from -1 to 1"),
        (verdicts(global_auroc={**SOUND, "low": 0.5}), "contradicts itself"),
        (verdicts(global_auroc={**SOUND, "difference": 0.11}), "contradicts itself"),
        (verdicts(global_auroc={**SOUND, "value": -0.5, "difference": -1.0}), "contradicts itself"),
        (RecordDict({"global-auroc": ConfigRecord({"value": 0.5})}), "instead of comparisons"),
        (RecordDict({"arrays": record_of(MODEL)}), "it sent arrays instead of comparisons"),
    ],
)
def test_invalid_comparisons_are_refused(content: RecordDict, expected: str) -> None:
    assert expected in refusal(are_comparisons, content)
