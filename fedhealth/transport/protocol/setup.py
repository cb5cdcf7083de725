"""The messages of the setup: welcome, description, sums for the standardisation, label counts, and initial weights.

The requests `DESCRIBE`, `FIRST_MOMENTS`, `LABEL_COUNTS` and `INITIAL_WEIGHTS` are empty: hospitals do not read their
content.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedhealth.transport.protocol.fields import (
    ARRAYS,
    CONFIG,
    MEANS,
    Weights,
    decode_arrays,
    decode_means,
    encode_arrays,
    is_list,
    take_config,
    take_counts,
    take_records,
)


def encode_empty_request() -> RecordDict:
    """A request that needs no content."""
    return RecordDict()


# --- the welcome: the first message of a connection; it has no reply --------------------------------------------------

WELCOME = "query.welcome"
RUN_CONFIG = "run-config"


def encode_welcome(run_config: Mapping[str, Any]) -> RecordDict:
    """The federation's settings."""
    return RecordDict({RUN_CONFIG: ConfigRecord(dict(run_config))})


def decode_welcome(content: RecordDict) -> dict[str, Any]:
    """The federation's settings, not checked further."""
    (record,) = take_records(content, {RUN_CONFIG: ConfigRecord})
    return dict(record)


# --- the description of a hospital; the reply also means that it is ready ---------------------------------------------

DESCRIBE = "query.describe"
COUNTS_SUM = "query.counts"
"""Asks for the counts of a description under secure aggregation, which no hospital sends alone."""
HOSPITAL, COUNTS = "hospital", "counts"
NAME, SOURCE, SCHEMA, SPLIT_HASH = "name", "source", "schema", "split-hash"
GOOD_HASH = re.compile(r"[0-9a-f]{8}-[0-9a-f]{32}")
"""Name of the key, and the hash."""
TRAIN_PATIENTS, EPSILON = "train-patients", "epsilon"
TEST_COUNTS = ("test-patients", "test-ill")
VALIDATION_COUNTS = ("validation-patients", "validation-ill")


@dataclass(frozen=True)
class Description:
    """The description of a hospital; values that it does not send are None.

    Under differential privacy it sends `train_patients` (a noisy count) and the `epsilon` of its guarantee; otherwise
    also its test counts, in a run with a validation set its validation counts, and the keyed hash of its test patients,
    unless it cannot keep a key.
    """

    name: str
    source: str
    schema: str
    """The fingerprint of its columns."""
    train_patients: int
    test_patients: int | None = None
    test_ill: int | None = None
    validation_patients: int | None = None
    validation_ill: int | None = None
    epsilon: float | None = None
    split_hash: str | None = None


def encode_description(description: Description) -> RecordDict:
    """The reply to `DESCRIBE`."""
    keys = (TRAIN_PATIENTS, *TEST_COUNTS, *VALIDATION_COUNTS, EPSILON)
    values = {key: getattr(description, key.replace("-", "_")) for key in keys}
    counts = MetricRecord({key: value for key, value in values.items() if value is not None})
    who = {NAME: description.name, SOURCE: description.source, SCHEMA: description.schema}
    who |= {SPLIT_HASH: description.split_hash} if description.split_hash else {}
    return RecordDict({HOSPITAL: ConfigRecord(dict(who)), COUNTS: counts})


@dataclass(frozen=True)
class Who:
    """The description of a hospital under secure aggregation: no counts."""

    name: str
    source: str
    schema: str


def encode_who(who: Who) -> RecordDict:
    """The reply to `DESCRIBE` under secure aggregation."""
    return RecordDict({HOSPITAL: ConfigRecord({NAME: who.name, SOURCE: who.source, SCHEMA: who.schema})})


def decode_who(content: RecordDict) -> Who:
    """The decoded description."""
    (record,) = take_records(content, {HOSPITAL: ConfigRecord})
    names: list[Any] = [record.get(NAME), record.get(SOURCE), record.get(SCHEMA)]
    if len(record) != len(names) or not is_list(names, str):
        raise ValueError(f"it must send exactly the texts {NAME}, {SOURCE} and {SCHEMA}")
    return Who(*names)


def decode_description(content: RecordDict) -> Description:
    """The decoded description; raises a `ValueError` if its counts contradict each other."""
    who, counts = take_records(content, {HOSPITAL: ConfigRecord, COUNTS: MetricRecord})
    names = [who.get(NAME), who.get(SOURCE), who.get(SCHEMA)]
    if {*who} - {SPLIT_HASH} != {NAME, SOURCE, SCHEMA} or not is_list(names, str):
        raise ValueError(
            f"it must send exactly the texts {NAME}, {SOURCE} and {SCHEMA}, and {SPLIT_HASH} if it has one"
        )
    if EPSILON in counts:
        return Description(*names, **_decode_private_counts(counts))
    return replace(Description(*names, **_decode_counts(counts)), split_hash=_decode_split_hash(who))


def _decode_split_hash(who: ConfigRecord) -> str | None:
    split_hash = who.get(SPLIT_HASH)
    if split_hash is None:
        return None
    if not isinstance(split_hash, str) or not GOOD_HASH.fullmatch(split_hash):
        raise ValueError(f"its {SPLIT_HASH} is malformed")
    return split_hash


def _decode_private_counts(counts: MetricRecord) -> dict[str, Any]:
    patients, epsilon = counts.get(TRAIN_PATIENTS), counts[EPSILON]
    if len(counts) != 2 or type(patients) is not int or type(epsilon) is not float:
        raise ValueError(f"it must send exactly {TRAIN_PATIENTS} and {EPSILON}")
    if patients < 1 or not 0 < epsilon < math.inf:
        raise ValueError("its count or its epsilon is not a finite number above 0")
    return {"train_patients": patients, "epsilon": epsilon}


def _decode_counts(counts: MetricRecord) -> dict[str, Any]:
    validates = any(key in counts for key in VALIDATION_COUNTS)
    keys = (TRAIN_PATIENTS, *TEST_COUNTS, *(VALIDATION_COUNTS if validates else ()))
    trained, *others = take_counts(counts, keys)
    for part, patients, ill in zip(("test", "validation"), others[::2], others[1::2], strict=False):
        if not 0 <= ill <= patients:
            raise ValueError(f"its counts contradict each other: {ill} of {patients} {part} patients are ill")
    if min(trained, *others[::2]) < 1:
        raise ValueError("it has no training, no test or no validation patient")
    return {key.replace("-", "_"): value for key, value in zip(keys, (trained, *others), strict=True)}


# --- sums for the standardisation -------------------------------------------------------------------------------------

FIRST_MOMENTS, SECOND_MOMENTS = "query.first_moments", "query.second_moments"
MOMENTS, SUMS = "moments", "sums"


@dataclass(frozen=True)
class MomentSums:
    """Per number, in the order of `Schema.numbers`: how many training patients have a value, and a sum over them."""

    counts: tuple[int, ...]
    sums: tuple[float, ...]


def encode_second_moments_request(means: tuple[float, ...]) -> RecordDict:
    """The request for sums of squared deviations from the federation's `means`."""
    return RecordDict({CONFIG: ConfigRecord({MEANS: list(means)})})


def decode_second_moments_request(content: RecordDict) -> tuple[float, ...]:
    """The federation's means, in the order of `Schema.numbers`."""
    return decode_means(take_config(content))


def encode_moments(moments: MomentSums) -> RecordDict:
    """The reply to `FIRST_MOMENTS` and to `SECOND_MOMENTS`."""
    return RecordDict({MOMENTS: MetricRecord({COUNTS: list(moments.counts), SUMS: list(moments.sums)})})


def decode_moments(content: RecordDict) -> MomentSums:
    """As many integers of any size as finite sums."""
    (record,) = take_records(content, {MOMENTS: MetricRecord})
    counts, sums = record.get(COUNTS), record.get(SUMS)
    if len(record) != 2 or not is_list(counts, int) or not is_list(sums, float):
        raise ValueError(f"it must send exactly the lists {COUNTS} (integers) and {SUMS} (floats)")
    if len(counts) != len(sums):
        raise ValueError("its sums have the wrong length")
    if not all(map(math.isfinite, sums)):
        raise ValueError("its sums are not finite")
    return MomentSums(tuple(counts), tuple(sums))


# --- training patients by label ---------------------------------------------------------------------------------------

LABEL_COUNTS = "query.label_counts"
LABELS = "labels"
HEALTHY, ILL = "healthy", "ill"


@dataclass(frozen=True)
class LabelCounts:
    """Training patients by label; 0 and 0 if the hospital does not disclose them."""

    healthy: int
    ill: int


def encode_label_counts(counts: LabelCounts) -> RecordDict:
    """The reply to `LABEL_COUNTS`."""
    return RecordDict({LABELS: MetricRecord({HEALTHY: counts.healthy, ILL: counts.ill})})


def decode_label_counts(content: RecordDict) -> LabelCounts:
    """Two integers of any sign."""
    (record,) = take_records(content, {LABELS: MetricRecord})
    return LabelCounts(*take_counts(record, (HEALTHY, ILL)))


# --- the initial weights ----------------------------------------------------------------------------------------------

INITIAL_WEIGHTS = "query.initial_weights"


def encode_initial_weights(weights: Weights) -> RecordDict:
    """The reply to `INITIAL_WEIGHTS`."""
    return RecordDict({ARRAYS: encode_arrays(weights)})


def decode_initial_weights(content: RecordDict) -> Weights:
    """The initial weights: at least one array."""
    (record,) = take_records(content, {ARRAYS: ArrayRecord})
    if not record:
        raise ValueError("it sent no weights")
    return decode_arrays(record)
