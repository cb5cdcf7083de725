"""Is an answer sound? Everything that a hospital sends is checked here before anything is made of it."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.common.constant import ErrorCode

from fedhealth.common.array_codec import read_array
from fedhealth.common.safe_text import printable
from fedhealth.data import preprocessing
from fedhealth.data.preprocessing import Moments
from fedhealth.data.schema import FEATURE_NAMES
from fedhealth.metrics.histogram import ScoreHistogram, histogram_from_record
from fedhealth.metrics.paired_comparison import DIGITS, METRIC_NAMES, PairedComparison
from fedhealth.metrics.subgroups import Disclosed, check_subgroups, read_outcomes
from fedhealth.server.records import Member

T = TypeVar("T")

COUNTS = ("train-patients", "test-patients", "test-ill")
"""What a hospital tells of its size."""
VALIDATION_COUNTS = ("validation-patients", "validation-ill")
"""What it tells besides, in a run that chooses something."""
LONGEST_REASON = 200
"""Letters of a hospital's reason that are shown."""
ABSENT = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's codes for: nobody there, or no answer in time. The hospital may come back."""
NOT_SOUND = (ValueError, KeyError, TypeError, EOFError, OSError, OverflowError)
"""What an answer that makes no sense may raise while it is read."""


def readable(text: str) -> str:
    """What another program sent, made fit for one line of a terminal."""
    return printable(text, LONGEST_REASON)


def describe_problem(problem: Exception) -> str:
    """Why an answer is not sound, in one line."""
    return f"no {readable(str(problem))}" if isinstance(problem, KeyError) else readable(str(problem))


def read_private_member(reply: Message) -> Member:
    """Who answered under differential privacy: name, source, a noisy count, what its patients are promised."""
    who, counts = reply.content.config_records["hospital"], reply.content.metric_records["counts"]
    patients, epsilon = operator.index(counts["train-patients"]), counts["epsilon"]  # type: ignore[arg-type]
    if patients < 1 or type(epsilon) is not float or not epsilon > 0:
        raise ValueError("its count or its epsilon is no number above 0")
    name, source = readable(str(who["name"])), readable(str(who["source"]))
    return Member(reply.metadata.src_node_id, name, source, patients, test_patients=0, test_ill=0, epsilon=epsilon)


def read_member(reply: Message, validates: bool = False) -> Member:
    """Who answered: name, source, counts; with `validates` also of the patients that are held out for choices."""
    who, counts = reply.content.config_records["hospital"], reply.content.metric_records["counts"]
    asked = (*COUNTS, *VALIDATION_COUNTS) if validates else COUNTS
    values = {key: operator.index(counts[key]) for key in asked}  # type: ignore[arg-type]  # raises on a list
    for part in ("test", "validation") if validates else ("test",):
        if not 0 <= values[f"{part}-ill"] <= values[f"{part}-patients"]:
            raise ValueError(f"{values[f'{part}-ill']} of its {values[f'{part}-patients']} {part} patients are ill")
    if min(values["train-patients"], values["test-patients"]) < 1:
        raise ValueError("it has no patient to train or to test on")
    if validates and values["validation-patients"] < 1:
        raise ValueError("it holds no patient out for choices")
    return Member(
        node_id=reply.metadata.src_node_id,
        name=readable(str(who["name"])),
        source=readable(str(who["source"])),
        **{key.replace("-", "_"): value for key, value in values.items()},
    )


def read_moments(reply: Message, declared: int) -> Moments:
    """Counts and sums per number, of no more than the `declared` training patients."""
    record = reply.content.metric_records["moments"]
    moments = Moments(tuple(record["counts"]), tuple(record["sums"]))  # type: ignore[arg-type]  # lists, as sent
    if {len(moments.counts), len(moments.sums)} != {preprocessing.NUM_NUMBERS}:
        raise ValueError("its sums have the wrong length")
    if not all(map(math.isfinite, (*moments.counts, *moments.sums))):
        raise ValueError("its sums are not finite")
    if not all(type(count) is int and 0 <= count <= declared for count in moments.counts):
        raise ValueError(f"its counts are no counts of its {declared} training patients")
    return moments


def read_label_counts(reply: Message, declared: int) -> tuple[int, int]:
    """Healthy and ill among the `declared` training patients; 0 and 0 of a hospital that keeps them to itself."""
    record = only_record(reply.content.metric_records, "labels")
    healthy, ill = (operator.index(record[key]) for key in ("healthy", "ill"))  # type: ignore[arg-type]  # raises on a list
    if min(healthy, ill) < 0 or healthy + ill not in (0, declared):
        raise ValueError(f"{healthy} healthy and {ill} ill are not its {declared} training patients")
    return healthy, ill


def read_initial_weights(reply: Message) -> ArrayRecord:
    """The weights that a run starts from."""
    arrays = reply.content.array_records["arrays"]
    if not arrays:
        raise ValueError("it sent no weights")
    check_arrays(arrays, arrays)
    return arrays


def check_trained(reply: Message, global_arrays: ArrayRecord, declared: int, private: bool = False) -> None:
    """Raise one of `NOT_SOUND` unless these are this hospital's weights, trained on as many patients as it declared.

    Under differential privacy (`private`) no loss comes with them.
    """
    expected = {"num-examples"} if private else {"num-examples", "train-loss"}
    metrics = only_record(reply.content.metric_records, "metrics")
    check_arrays(only_record(reply.content.array_records, "arrays"), global_arrays)
    if set(metrics) != expected:
        raise ValueError(f"it sent other metrics than {' and '.join(sorted(expected))}")
    if metrics["num-examples"] != declared:
        raise ValueError(f"it trained on {metrics['num-examples']} patients but declared {declared}")
    if not private and not math.isfinite(metrics["train-loss"]):  # type: ignore[arg-type]  # a TypeError is an answer, too
        raise ValueError("its training loss is not finite")


def check_arrays(arrays: ArrayRecord, expected: ArrayRecord) -> None:
    """Raise one of `NOT_SOUND` unless names, shapes and types are the expected ones and all values finite."""
    if _describe(arrays) != _describe(expected):
        raise ValueError("its weights have other names, shapes or types than the model's")
    for array in arrays.values():
        values = read_array(array)
        if (str(values.dtype), values.shape) != (array.dtype, tuple(array.shape)):
            raise ValueError("its weights are not what they say they are")
        if not np.all(np.isfinite(values)):
            raise ValueError("its weights are not finite")


def read_evaluation(reply: Message, member: Member) -> tuple[ScoreHistogram, ScoreHistogram | None]:
    """A hospital's score histograms: of its test patients and, if it holds some out, of those to choose on."""
    records = reply.content.metric_records
    if member.epsilon is not None:
        return histogram_from_record(only_record(records, "metrics")), None  # noisy, and so is nobody's declared number
    if not member.validation_patients:
        return _read_histogram(only_record(records, "metrics"), member.test_patients, member.test_ill), None
    if set(records) != {"metrics", "validation"}:
        raise ValueError(f"it sent {describe_names(list(records))} where metrics and validation were asked for")
    return (
        _read_histogram(records["metrics"], member.test_patients, member.test_ill),
        _read_histogram(records["validation"], member.validation_patients, member.validation_ill),
    )


def _read_histogram(record: MetricRecord, patients: int, declared_ill: int) -> ScoreHistogram:
    """A score histogram of as many patients as were declared."""
    histogram = histogram_from_record(record)
    ill = int(histogram.positives.sum())
    if (histogram.num_examples, ill) != (patients, declared_ill):
        declared = f"{patients} ({declared_ill} ill)"
        raise ValueError(f"it evaluated {histogram.num_examples} patients ({ill} ill) but declared {declared}")
    return histogram


def read_subgroups(reply: Message, member: Member, least: int) -> Disclosed:
    """Outcomes by subgroup, none of fewer than `least` of the test patients that the hospital declared."""
    record = only_record(reply.content.metric_records, "subgroups")
    told = {group: read_outcomes(group, counts) for group, counts in record.items()}
    check_subgroups(told, member.test_patients, member.test_ill, least)
    return told


def read_importance(reply: Message, member: Member) -> list[float]:
    """The AUROC drop of each feature, of as many patients as the hospital declared."""
    if not reply.content:
        raise ValueError("too few ill or too few healthy patients to test on (--min-count)")
    record = only_record(reply.content.metric_records, "importance")
    if set(record) != {"auroc-drops", "num-examples"} or record["num-examples"] != member.test_patients:
        raise ValueError("it sent something else than the drops of its test patients")
    drops = record["auroc-drops"]
    if not isinstance(drops, list) or len(drops) != len(FEATURE_NAMES):
        raise ValueError(f"it sent no {len(FEATURE_NAMES)} drops")
    if not all(type(drop) is float and -1 <= drop <= 1 for drop in drops):
        raise ValueError("a drop is no number from -1 to 1")
    if member.test_pairs == 0:
        raise ValueError("it has no ill or no healthy patient to test on, and so no AUROC")
    return [float(drop) for drop in drops]


def read_comparisons(reply: Message, member: Member) -> dict[str, PairedComparison]:
    """What the final model, and the hospital's own one made of it, are worth there; empty if it did not say."""
    verdicts = {}
    for key, record in reply.content.metric_records.items():
        model, _, metric = key.partition("-")
        if model not in ("global", "personal") or metric not in METRIC_NAMES or model in verdicts:
            raise ValueError(f"it sent {readable(key)} where a verdict was asked for")
        verdicts[model] = _read_comparison(record, metric)
    if len(verdicts) != len(reply.content) or set(verdicts) == {"personal"}:
        raise ValueError(f"it sent {describe_names(list(reply.content))} where verdicts were asked for")
    return verdicts


def _read_comparison(record: Mapping[str, object], metric: str) -> PairedComparison:
    if set(record) != {"value", "alone", "difference", "low", "high"}:
        raise ValueError("its verdict has other numbers than a verdict has")
    if not all(type(number) is float and -1 <= number <= 1 for number in record.values()):
        raise ValueError("its verdict holds what is no number from -1 to 1")
    verdict = PairedComparison(metric, **record)  # type: ignore[arg-type]  # checked
    off = abs(verdict.value - verdict.alone - verdict.difference)
    if not (
        min(verdict.value, verdict.alone) >= 0
        and verdict.low <= verdict.high
        and off <= 2 * 0.1 ** DIGITS[verdict.metric]
    ):
        raise ValueError("its verdict contradicts itself")
    return verdict


def clip_update(arrays: ArrayRecord, global_arrays: ArrayRecord, longest: float) -> tuple[ArrayRecord, float | None]:
    """Cut the step from the global weights to `arrays` to an L2 norm of `longest` over all weights together.

    Returns
    -------
    The weights to use, and the step's norm if it was cut.
    """
    before = {name: read_array(array) for name, array in global_arrays.items()}
    steps = {name: read_array(array).astype(np.float64) - before[name] for name, array in arrays.items()}
    norm = math.sqrt(sum(float(np.sum(step**2)) for step in steps.values()))
    if norm <= longest:
        return arrays, None
    cut = {
        name: Array((before[name] + step * (longest / norm)).astype(before[name].dtype)) for name, step in steps.items()
    }
    return ArrayRecord(cut), norm


def only_record(records: Mapping[str, T], key: str) -> T:
    """The record of that name, which must be the only one: strategies refuse answers that differ in their records."""
    if set(records) != {key}:
        raise ValueError(f"it sent {describe_names(list(records))} where {key} was asked for")
    return records[key]


def describe_names(names: Sequence[str]) -> str:
    """Names in a line, or that there is none."""
    return readable(", ".join(names)) or "nothing"


def _describe(arrays: ArrayRecord) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, array.dtype, tuple(array.shape)) for name, array in arrays.items()]
