"""The record of a run with --feasibility."""

from collections.abc import Mapping

from msgspec import Struct


class HospitalFeasibility(Struct, frozen=True, rename="kebab"):
    """What a hospital has; a count that is not disclosed is a bound, such as "<5" or ">118"."""

    source: str
    patients: int
    outcome: int | str
    """Patients who have the outcome."""
    missing: Mapping[str, int | str]
    """Feature -> patients who lack it."""


class Feasibility(Struct, frozen=True, rename="kebab"):
    """feasibility.json: who lacks what, by hospital in the order of names."""

    schema: str
    """Its fingerprint."""
    outcome: str
    """The column."""
    hospitals: Mapping[str, HospitalFeasibility]
    left_out: Mapping[str, str]
    """Hospital -> why it is not among them."""
