"""Every check of an answer by hand, and by machine: an answer is sound, or not sound, and never anything else."""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.data.preprocessing import NUM_NUMBERS
from fedhealth.metrics.histogram import NUM_BINS, histogram_to_record, score_histogram
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import (
    LONGEST_REASON,
    NOT_SOUND,
    check_arrays,
    check_trained,
    clip_update,
    describe_problem,
    only_record,
    read_comparisons,
    read_evaluation,
    read_importance,
    read_initial_weights,
    read_label_counts,
    read_member,
    read_moments,
    readable,
)
from fedhealth.transport.messages import SERVER_NODE_ID, node_id_of, set_identity, set_message_id

VA = Member(node_id_of("va"), "va", "own", 60, 3, 1)
MODEL = {"k": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([5, 6], np.float32)}
Check = Callable[[Message], Any]


def reply(content: RecordDict) -> Message:
    """That content as va's answer."""
    set_identity(SERVER_NODE_ID)
    question = Message(RecordDict(), dst_node_id=VA.node_id, message_type="train")
    set_message_id(question, "1")
    return Message(content, reply_to=question)


def record_of(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})


def refusal(check: Check, content: RecordDict) -> str:
    with pytest.raises(NOT_SOUND) as caught:
        check(reply(content))
    line = describe_problem(caught.value)
    assert line.isprintable()
    return line


# --- weights ----------------------------------------------------------------------------------------------------------


def trained(arrays: ArrayRecord | None = None, metrics: dict[str, Any] | None = None, **more: Any) -> RecordDict:
    """What va sends after training: honest but for what is given."""
    honest = {"num-examples": 60, "train-loss": 0.5}
    records = {"arrays": record_of(MODEL) if arrays is None else arrays, "metrics": MetricRecord(metrics or honest)}
    return RecordDict({**records, **more})


def is_trained(message: Message) -> None:
    check_trained(message, record_of(MODEL), declared=60)


def test_weights_of_the_model_trained_on_the_declared_patients_are_sound() -> None:
    is_trained(reply(trained()))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"k": MODEL["k"]}, "other names, shapes or types"),
        ({**MODEL, "c": MODEL["b"]}, "other names, shapes or types"),
        ({"b": MODEL["b"], "k": MODEL["k"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].reshape(4), "b": MODEL["b"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].reshape(1, 2, 2), "b": MODEL["b"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].astype(np.float64), "b": MODEL["b"]}, "other names, shapes or types"),
        ({"k": MODEL["k"].astype(np.int32), "b": MODEL["b"]}, "other names, shapes or types"),
        ({**MODEL, "b": np.array([5, np.nan], np.float32)}, "not finite"),
        ({**MODEL, "b": np.array([5, np.inf], np.float32)}, "not finite"),
        ({**MODEL, "b": np.array([-np.inf, 5], np.float32)}, "not finite"),
        ({}, "other names, shapes or types"),
    ],
)
def test_weights_that_are_not_the_models_are_not_sound(arrays: dict[str, np.ndarray], told: str) -> None:
    assert told in refusal(is_trained, trained(record_of(arrays)))


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
def test_bytes_that_are_not_what_their_description_says_are_not_sound(data: bytes) -> None:
    lying = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=data)
    content = trained(ArrayRecord({"k": Array(MODEL["k"]), "b": lying}))
    assert refusal(is_trained, content) == "its bytes are not what they say they are (type float32, shape (2,))"


def test_a_pickle_is_never_opened() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("the pickle was opened",))

    packed = io.BytesIO()
    np.save(packed, np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
    for dtype in ("float32", "object"):
        bomb = Array(dtype=dtype, shape=(2,), stype="numpy.ndarray", data=packed.getvalue())
        with pytest.raises(NOT_SOUND):
            check_arrays(ArrayRecord({"w": bomb}), ArrayRecord({"w": bomb}))


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"num-examples": 61, "train-loss": 0.5}, "it trained on 61 patients but declared 60"),
        ({"num-examples": 0, "train-loss": 0.5}, "it trained on 0 patients but declared 60"),
        ({"num-examples": -60, "train-loss": 0.5}, "it trained on -60 patients but declared 60"),
        ({"num-examples": [60], "train-loss": 0.5}, "it trained on [60] patients but declared 60"),
        ({"num-examples": 60, "train-loss": math.nan}, "its training loss is not finite"),
        ({"num-examples": 60, "train-loss": math.inf}, "its training loss is not finite"),
        ({"num-examples": 60, "train-loss": [0.5]}, ""),
        ({"num-examples": 60}, "other metrics than num-examples and train-loss"),
        ({"num-examples": 60, "train-loss": 0.5, "age": 61}, "other metrics than num-examples and train-loss"),
        ({"train-loss": 0.5}, "other metrics than num-examples and train-loss"),
    ],
)
def test_other_counts_and_other_metrics_than_asked_for_are_not_sound(metrics: dict[str, Any], told: str) -> None:
    assert told in refusal(is_trained, trained(metrics=metrics))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (RecordDict(), "it sent nothing where metrics was asked for"),
        (trained(second=MetricRecord({"num-examples": 60})), "it sent metrics, second where metrics was asked for"),
        (trained(second=record_of(MODEL)), "it sent arrays, second where arrays was asked for"),
        (
            RecordDict({"metrics": MetricRecord({"num-examples": 60, "train-loss": 0.5})}),
            "it sent nothing where arrays",
        ),
        (RecordDict({"weights": record_of(MODEL), "metrics": MetricRecord()}), "it sent weights where arrays"),
    ],
)
def test_more_records_or_others_than_asked_for_are_not_sound(content: RecordDict, told: str) -> None:
    assert told in refusal(is_trained, content)


def test_the_first_weights_must_be_some_and_finite() -> None:
    assert read_initial_weights(reply(RecordDict({"arrays": record_of(MODEL)}))) == record_of(MODEL)
    assert refusal(read_initial_weights, RecordDict({"arrays": ArrayRecord()})) == "it sent no weights"
    endless = record_of({"w": np.array([np.inf], np.float32)})
    assert refusal(read_initial_weights, RecordDict({"arrays": endless})) == "its weights are not finite"
    assert refusal(read_initial_weights, RecordDict()) == "no 'arrays'"


# --- who, sums, histograms --------------------------------------------------------------------------------------------


def described(**changes: Any) -> RecordDict:
    counts = {"train-patients": 60, "test-patients": 3, "test-ill": 1}
    counts.update({key.replace("_", "-"): value for key, value in changes.items()})
    who = ConfigRecord({"name": "va", "source": "own"})
    return RecordDict({"hospital": who, "counts": MetricRecord(dict(counts))})


def test_a_hospital_is_as_it_describes_itself() -> None:
    assert read_member(reply(described())) == VA


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"test_ill": 4}, "4 of its 3 test patients are ill"),
        ({"test_ill": -1}, "-1 of its 3 test patients are ill"),
        ({"train_patients": 0}, "it has no patient to train or to test on"),
        ({"test_patients": 0, "test_ill": 0}, "it has no patient to train or to test on"),
        ({"train_patients": 60.5}, ""),
        ({"train_patients": [60]}, ""),
        ({"train_patients": math.nan}, ""),
    ],
)
def test_counts_that_are_no_counts_of_patients_are_not_sound(changes: dict[str, Any], told: str) -> None:
    assert told in refusal(read_member, described(**changes))


def test_a_name_is_made_fit_for_a_terminal() -> None:
    content = described()
    content.config_records["hospital"]["name"] = "\x1b[31mva\n" + "x" * 1000
    assert read_member(reply(content)).name == r"\x1b[31mva\n" + "x" * (LONGEST_REASON - 15) + "..."


def sums(counts: Any = (60,) * NUM_NUMBERS, values: Any = (1.0,) * NUM_NUMBERS) -> RecordDict:
    return RecordDict({"moments": MetricRecord({"counts": list(counts), "sums": list(values)})})


def are_sums(message: Message) -> Any:
    return read_moments(message, declared=60)


def test_sums_come_as_they_were_sent() -> None:
    assert are_sums(reply(sums())).counts == (60,) * NUM_NUMBERS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (sums(counts=[60]), "its sums have the wrong length"),
        (sums(values=[1.0]), "its sums have the wrong length"),
        (sums(counts=[], values=[]), "its sums have the wrong length"),
        (sums(values=[math.nan] * NUM_NUMBERS), "its sums are not finite"),
        (sums(values=[math.inf] * NUM_NUMBERS), "its sums are not finite"),
        (sums(counts=[-1] * NUM_NUMBERS), "its counts are no counts of its 60 training patients"),
        (sums(counts=[61] * NUM_NUMBERS), "its counts are no counts of its 60 training patients"),
        (sums(counts=[1.0] * NUM_NUMBERS), "its counts are no counts of its 60 training patients"),
        (RecordDict({"moments": MetricRecord({"counts": 1, "sums": 1.0})}), ""),
        (RecordDict(), "no 'moments'"),
    ],
)
def test_sums_without_sense_are_not_sound(content: RecordDict, told: str) -> None:
    assert told in refusal(are_sums, content)


def labels_of(**counts: Any) -> RecordDict:
    return RecordDict({"labels": MetricRecord(counts)})


def are_label_counts(message: Message) -> Any:
    return read_label_counts(message, declared=60)


@pytest.mark.parametrize(("healthy", "ill"), [(20, 40), (60, 0), (0, 0)])
def test_label_counts_are_of_all_that_are_trained_on_or_kept_in_the_hospital(healthy: int, ill: int) -> None:
    assert are_label_counts(reply(labels_of(healthy=healthy, ill=ill))) == (healthy, ill)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (labels_of(healthy=20, ill=39), "20 healthy and 39 ill are not its 60 training patients"),
        (labels_of(healthy=-1, ill=61), "-1 healthy and 61 ill are not its 60 training patients"),
        (labels_of(healthy=-5, ill=5), "-5 healthy and 5 ill are not its 60 training patients"),
        (labels_of(healthy=60), "no 'ill'"),
        (labels_of(healthy=20.0, ill=40.0), ""),
        (labels_of(healthy=[20], ill=[40]), ""),
        (RecordDict(), "it sent nothing where labels was asked for"),
        (RecordDict({"labels": MetricRecord(), "more": MetricRecord()}), "it sent labels, more where labels"),
    ],
)
def test_label_counts_that_are_none_are_not_sound(content: RecordDict, told: str) -> None:
    assert told in refusal(are_label_counts, content)


def evaluated(risks: list[float], labels: list[int]) -> dict[str, Any]:
    return histogram_to_record(score_histogram(risks, labels))


def is_histogram(message: Message) -> Any:
    return read_evaluation(message, VA)


def test_a_histogram_of_the_declared_patients_is_sound() -> None:
    content = RecordDict({"metrics": MetricRecord(evaluated([0.9, 0.2, 0.1], [1, 0, 0]))})
    tested, held = is_histogram(reply(content))
    assert (tested.num_examples, held) == (3, None)


def held_out(**changes: Any) -> RecordDict:
    """What a hospital answers that holds two patients out for choices, one of them ill."""
    records = {"metrics": evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "validation": evaluated([0.8, 0.3], [1, 0])}
    return RecordDict({key: MetricRecord(record) for key, record in {**records, **changes}.items() if record})


def are_both_histograms(message: Message) -> Any:
    return read_evaluation(message, replace(VA, validation_patients=2, validation_ill=1))


def test_a_hospital_that_holds_patients_out_sends_a_histogram_of_them_too() -> None:
    tested, held = are_both_histograms(reply(held_out()))
    assert (tested.num_examples, held.num_examples) == (3, 2)
    assert held.log_loss == pytest.approx(-math.log(0.8) - math.log(0.7))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (held_out(validation=None), "it sent metrics where metrics and validation were asked for"),
        (held_out(metrics=None), "it sent validation where metrics and validation were asked for"),
        (held_out(more={"age": 61}), "it sent metrics, validation, more where metrics and validation were asked for"),
        (held_out(validation=evaluated([0.8], [1])), "it evaluated 1 patients (1 ill) but declared 2 (1 ill)"),
        (held_out(validation=evaluated([0.8, 0.3], [0, 0])), "it evaluated 2 patients (0 ill) but declared 2 (1 ill)"),
        (held_out(metrics=evaluated([0.8, 0.3], [1, 0])), "it evaluated 2 patients (1 ill) but declared 3 (1 ill)"),
        (held_out(validation={**evaluated([0.8, 0.3], [1, 0]), "log-loss": -1.0}), "out of range"),
    ],
)
def test_histograms_of_others_than_those_held_out_are_not_sound(content: RecordDict, told: str) -> None:
    assert told in refusal(are_both_histograms, content)


def test_a_histogram_that_was_not_asked_for_is_not_sound() -> None:
    assert refusal(is_histogram, held_out()) == "it sent metrics, validation where metrics was asked for"


def holds_out(message: Message) -> Any:
    return read_member(message, validates=True)


def test_a_hospital_tells_how_many_it_holds_out_if_it_is_to_hold_some_out() -> None:
    content = described(validation_patients=12, validation_ill=5)
    assert holds_out(reply(content)) == replace(VA, validation_patients=12, validation_ill=5)
    assert holds_out(reply(content)).patients == 60 + 12 + 3
    assert read_member(reply(content)) == VA


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "no 'validation-patients'"),
        ({"validation_patients": 12}, "no 'validation-ill'"),
        ({"validation_patients": 0, "validation_ill": 0}, "it holds no patient out for choices"),
        ({"validation_patients": 12, "validation_ill": 13}, "13 of its 12 validation patients are ill"),
        ({"validation_patients": 12.0, "validation_ill": 5}, ""),
        ({"validation_patients": 12, "validation_ill": 5, "test_ill": 4}, "4 of its 3 test patients are ill"),
    ],
)
def test_counts_of_those_held_out_that_are_none_are_not_sound(changes: dict[str, Any], told: str) -> None:
    assert told in refusal(holds_out, described(**changes))


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (evaluated([0.9, 0.2], [1, 0]), "it evaluated 2 patients (1 ill) but declared 3 (1 ill)"),
        (evaluated([0.9, 0.2, 0.1], [1, 1, 0]), "it evaluated 3 patients (2 ill) but declared 3 (1 ill)"),
        (evaluated([0.9] * 4, [1, 0, 0, 0]), "it evaluated 4 patients (1 ill) but declared 3 (1 ill)"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "num-examples": 2}, "do not add up"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "log-loss": math.nan}, "out of range"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "squared-error": -1.0}, "out of range"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "positives": [1]}, f"must have {NUM_BINS} bins"),
        ({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), "positives": [0.5] * NUM_BINS}, "not a count"),
        ({}, "lacks"),
    ],
)
def test_histograms_of_others_or_of_nobody_are_not_sound(metrics: dict[str, Any], told: str) -> None:
    assert told in refusal(is_histogram, RecordDict({"metrics": MetricRecord(metrics)}))


# --- whatever comes ---------------------------------------------------------------------------------------------------

names = st.sampled_from(["arrays", "metrics", "moments", "counts", "hospital", "w", ""]) | st.text(max_size=5)
trained_keys, evaluated_keys = ["num-examples", "train-loss"], ["positives", "negatives", "log-loss", "squared-error"]
other_keys = ["counts", "sums", "train-patients", "test-patients", "test-ill"]
keys = st.sampled_from([*trained_keys, *evaluated_keys, *other_keys])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.sampled_from([0, 1, 3, 60])
values = numbers | st.lists(st.integers(-5, 5), max_size=8) | st.lists(st.floats(), max_size=8)
metric_records = st.dictionaries(keys, values, max_size=6).map(MetricRecord)
config_records = st.dictionaries(
    st.sampled_from(["name", "source"]), st.text() | st.integers(0, 9) | st.binary(max_size=4)
).map(ConfigRecord)
arrays = st.builds(
    Array,
    dtype=st.sampled_from(["float32", "float64", "int64", "object", "V8", "U3", "", "no such type"]),
    shape=st.lists(st.integers(-2, 3), max_size=3).map(tuple),
    stype=st.sampled_from(["numpy.ndarray", "pickle", ""]),
    data=st.binary(max_size=150)
    | hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=3)).map(lambda array: Array(array).data),
) | hnp.arrays(np.float32, st.sampled_from([(2,), (2, 2)])).map(Array)
array_records = st.dictionaries(st.sampled_from(["k", "b", "w"]), arrays, max_size=3).map(ArrayRecord)
contents = st.dictionaries(names, array_records | metric_records | config_records, max_size=4).map(RecordDict)


@given(content=contents)
@pytest.mark.parametrize(
    "check",
    [
        is_trained,
        is_histogram,
        are_both_histograms,
        read_member,
        holds_out,
        are_sums,
        are_label_counts,
        read_initial_weights,
    ],
    ids=lambda c: c.__name__,
)
def test_whatever_a_hospital_sends_is_sound_or_not_sound(check: Check, content: RecordDict) -> None:
    try:
        check(reply(content))
    except NOT_SOUND as problem:
        line = describe_problem(problem)
        assert line.isprintable()
        assert len(line) <= LONGEST_REASON + len("no ")


honest_arrays = st.fixed_dictionaries({"k": arrays, "b": arrays}).map(ArrayRecord)
almost_trained = st.builds(
    trained,
    arrays=st.just(record_of(MODEL)) | honest_arrays,
    metrics=st.fixed_dictionaries({"num-examples": values, "train-loss": values}),
)
almost_evaluated = st.dictionaries(keys, values, max_size=3).map(
    lambda lies: RecordDict({"metrics": MetricRecord({**evaluated([0.9, 0.2, 0.1], [1, 0, 0]), **lies})})
)
almost_described = st.dictionaries(keys, values, max_size=2).map(lambda lies: described(**lies))
almost_summed = st.builds(sums, counts=st.lists(numbers, max_size=8), values=st.lists(numbers, max_size=8))


@given(data=st.data())
@pytest.mark.parametrize(
    ("check", "almost"),
    [
        (is_trained, almost_trained),
        (is_histogram, almost_evaluated),
        (read_member, almost_described),
        (are_sums, almost_summed),
        (read_initial_weights, honest_arrays.map(lambda record: RecordDict({"arrays": record}))),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_answer_that_is_almost_honest_is_sound_or_not_sound(
    check: Check, almost: st.SearchStrategy[RecordDict], data: st.DataObject
) -> None:
    try:
        check(reply(data.draw(almost)))
    except NOT_SOUND as problem:
        assert describe_problem(problem).isprintable()


@given(content=almost_trained)
def test_whatever_passes_for_weights_is_finite_and_fits_the_model(content: RecordDict) -> None:
    try:
        is_trained(reply(content))
    except NOT_SOUND:
        return
    for name, values in MODEL.items():
        sent = content.array_records["arrays"][name].numpy()
        assert (sent.shape, sent.dtype) == (values.shape, values.dtype)
        assert np.isfinite(sent).all()


@given(text=st.text())
def test_what_another_program_sent_fits_in_a_line(text: str) -> None:
    line = readable(text)
    assert line.isprintable()
    assert len(line) <= LONGEST_REASON
    assert line == text or len(text) > LONGEST_REASON or not text.isprintable()


DROPS = [0.0] * 11 + [0.25, -0.125]


def importance(**changes: Any) -> RecordDict:
    """What va tells of the final model: honest but for what is given."""
    return RecordDict({"importance": MetricRecord({"auroc-drops": DROPS, "num-examples": 3} | changes)})


def test_the_drops_of_the_declared_patients_come_as_they_were_sent() -> None:
    assert read_importance(reply(importance()), VA) == DROPS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (RecordDict(), "too few ill or too few healthy patients to test on (--min-count)"),
        (importance(**{"num-examples": 4}), "something else than the drops of its test patients"),
        (importance(more=1), "something else than the drops of its test patients"),
        (importance(**{"auroc-drops": DROPS[1:]}), "it sent no 13 drops"),
        (importance(**{"auroc-drops": 0.5}), "it sent no 13 drops"),
        (importance(**{"auroc-drops": [*DROPS[1:], math.nan]}), "a drop is no number from -1 to 1"),
        (importance(**{"auroc-drops": [*DROPS[1:], 1.5]}), "a drop is no number from -1 to 1"),
        (importance(**{"auroc-drops": [0] * 13}), "a drop is no number from -1 to 1"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 3})}), "it sent metrics where importance was asked for"),
    ],
)
def test_drops_of_others_or_without_sense_are_not_sound(content: RecordDict, told: str) -> None:
    assert told in refusal(lambda message: read_importance(message, VA), content)


def test_a_hospital_without_a_healthy_patient_has_no_auroc_that_could_drop() -> None:
    only_ill = replace(VA, test_ill=3)
    assert "no AUROC" in refusal(lambda message: read_importance(message, only_ill), importance())


SOUND = {"value": 0.74, "alone": 0.67, "difference": 0.07, "low": 0.01, "high": 0.12}


def verdicts(**records: dict[str, Any]) -> RecordDict:
    return RecordDict({key.replace("_", "-"): MetricRecord(record) for key, record in records.items()})


def test_verdicts_come_as_they_were_sent_and_silence_is_none() -> None:
    told = read_comparisons(reply(verdicts(global_auroc=SOUND, personal_brier=SOUND)), VA)
    assert told == {"global": PairedComparison("auroc", **SOUND), "personal": PairedComparison("brier", **SOUND)}
    assert read_comparisons(reply(RecordDict()), VA) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (verdicts(personal_auroc=SOUND), "it sent personal-auroc where verdicts were asked for"),
        (verdicts(global_loss=SOUND), "it sent global-loss where a verdict was asked for"),
        (verdicts(rows=SOUND), "it sent rows where a verdict was asked for"),
        (verdicts(global_auroc=SOUND, global_brier=SOUND), "it sent global-brier where a verdict was asked for"),
        (verdicts(global_auroc={**SOUND, "row": 1.0}), "other numbers than a verdict has"),
        (verdicts(global_auroc={"value": 0.5}), "other numbers than a verdict has"),
        (verdicts(global_auroc={**SOUND, "high": math.nan}), "no number from -1 to 1"),
        (verdicts(global_auroc={**SOUND, "high": 1}), "no number from -1 to 1"),
        (verdicts(global_auroc={**SOUND, "high": [0.5]}), "no number from -1 to 1"),
        (verdicts(global_auroc={**SOUND, "low": 0.5}), "contradicts itself"),
        (verdicts(global_auroc={**SOUND, "difference": 0.11}), "contradicts itself"),
        (verdicts(global_auroc={**SOUND, "value": -0.5, "difference": -1.0}), "contradicts itself"),
        (RecordDict({"global-auroc": ConfigRecord({"value": 0.5})}), "where verdicts were asked for"),
        (RecordDict({"arrays": record_of(MODEL)}), "it sent arrays where verdicts were asked for"),
    ],
)
def test_verdicts_without_sense_are_not_sound(content: RecordDict, told: str) -> None:
    assert told in refusal(lambda message: read_comparisons(message, VA), content)


def test_a_record_is_taken_only_if_it_is_alone() -> None:
    assert only_record({"arrays": 1}, "arrays") == 1
    for records in ({}, {"arrays": 1, "more": 2}, {"\x1b": 1}):
        with pytest.raises(ValueError, match="where arrays was asked for"):
            only_record(records, "arrays")


# --- long steps -------------------------------------------------------------------------------------------------------


def test_a_step_is_cut_over_all_weights_together() -> None:
    before = record_of({"k": np.array([[1, 1]], np.float32), "b": np.array([2], np.float32)})
    # Steps (2, 3) and (6): a norm of 7 over all three, cut to 3.5, that is by half.
    after = record_of({"k": np.array([[3, 4]], np.float32), "b": np.array([8], np.float32)})
    cut, norm = clip_update(after, before, 3.5)
    assert norm == 7.0
    np.testing.assert_array_equal(cut["k"].numpy(), np.array([[2, 2.5]], np.float32))
    np.testing.assert_array_equal(cut["b"].numpy(), np.array([5], np.float32))
    assert list(cut) == ["k", "b"]
    check_arrays(cut, before)


@pytest.mark.parametrize("longest", [7.0, 7.1, 1e30])
def test_a_step_within_the_limit_is_not_touched(longest: float) -> None:
    before, after = record_of({"w": np.array([0], np.float32)}), record_of({"w": np.array([-7], np.float32)})
    cut, norm = clip_update(after, before, longest)
    assert cut is after
    assert norm is None


@given(
    before=hnp.arrays(np.float64, 5, elements=st.floats(-10, 10)),
    step=hnp.arrays(np.float64, 5, elements=st.floats(-1e150, 1e150)),
    longest=st.floats(1e-3, 1e3),
)
def test_a_cut_step_has_the_limits_length_and_its_old_direction(
    before: np.ndarray, step: np.ndarray, longest: float
) -> None:
    after = before + step
    taken = after - before
    cut, norm = clip_update(record_of({"w": after}), record_of({"w": before}), longest)
    moved = cut["w"].numpy() - before
    if norm is None:
        assert np.linalg.norm(taken) <= longest * (1 + 1e-12)
        np.testing.assert_array_equal(cut["w"].numpy(), after)
    else:
        assert norm == pytest.approx(np.linalg.norm(taken))
        assert np.linalg.norm(moved) == pytest.approx(longest, rel=1e-6)
        np.testing.assert_allclose(moved, taken * (longest / norm), rtol=1e-6, atol=1e-11)


def test_the_longest_step_that_a_model_can_take_is_cut_as_well() -> None:
    far = np.finfo(np.float32).max
    before, after = (
        record_of({"w": np.array([-far, far], np.float32)}),
        record_of({"w": np.array([far, -far], np.float32)}),
    )
    cut, norm = clip_update(after, before, 1.0)
    assert norm == pytest.approx(float(far) * math.sqrt(8))
    check_arrays(cut, before)
