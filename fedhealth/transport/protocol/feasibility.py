"""The message of a run with --feasibility: how many patients lack each value, and how many have the outcome.

The request is empty: hospitals do not read its content.
"""

from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from fedhealth.transport.protocol.fields import is_list, take_counts, take_records

FEASIBILITY = "query.feasibility"
HOSPITAL, COUNTS, COLUMNS = "hospital", "counts", "columns"
NAME, SOURCE, SCHEMA = "name", "source", "schema"
PATIENTS, ILL, MIN_COUNT, MISSING = "patients", "ill", "min-count", "missing"
FEW, ALL_BUT_FEW = -1, -2
"""Stand for a count of fewer than `min_count` patients, and of all patients but fewer than that."""


@dataclass(frozen=True)
class FeasibilityReply:
    """What a hospital has; a count can be `FEW` or `ALL_BUT_FEW`."""

    name: str
    source: str
    schema: str
    """The fingerprint of its columns."""
    patients: int
    ill: int
    """Patients who have the outcome."""
    min_count: int
    missing: tuple[int, ...]
    """Patients who lack the value, for each feature in the order of the schema."""


def encode_feasibility(reply: FeasibilityReply) -> RecordDict:
    """The reply to `FEASIBILITY`."""
    who = ConfigRecord({NAME: reply.name, SOURCE: reply.source, SCHEMA: reply.schema})
    counts = MetricRecord({PATIENTS: reply.patients, ILL: reply.ill, MIN_COUNT: reply.min_count})
    return RecordDict({HOSPITAL: who, COUNTS: counts, COLUMNS: MetricRecord({MISSING: list(reply.missing)})})


def decode_feasibility(content: RecordDict) -> FeasibilityReply:
    """The decoded reply; raises a `ValueError` if a count is outside of what the patients allow."""
    who, counts, columns = take_records(content, {HOSPITAL: ConfigRecord, COUNTS: MetricRecord, COLUMNS: MetricRecord})
    names: list[Any] = [who.get(NAME), who.get(SOURCE), who.get(SCHEMA)]
    missing: Any = columns.get(MISSING)
    if len(who) != len(names) or not is_list(names, str):
        raise ValueError(f"it must send exactly the texts {NAME}, {SOURCE} and {SCHEMA}")
    if len(columns) != 1 or not is_list(missing, int):
        raise ValueError(f"it must send exactly the list {MISSING} (integers)")
    patients, ill, min_count = take_counts(counts, (PATIENTS, ILL, MIN_COUNT))
    if min(patients, min_count) < 1 or not all(ALL_BUT_FEW <= count <= patients for count in (ill, *missing)):
        raise ValueError("a count is not one of its patients")
    name, source, schema = names
    return FeasibilityReply(name, source, schema, patients, ill, min_count, tuple(missing))
