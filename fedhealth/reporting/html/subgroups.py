"""Rows of the table by subgroup: the hospitals' disclosed counts, summed, with small cells suppressed again.

Hospitals suppress small groups of patients. Here the ill and the healthy of a group must not be few either, because the table
shows sensitivity and specificity.
"""

from collections.abc import Callable, Sequence

from fedhealth.metrics.intervals import wilson_interval
from fedhealth.metrics.subgroups import Outcomes, Subgroups, add_subgroups, suppress_small_cells
from fedhealth.reporting.format import NOT_DISCLOSED
from fedhealth.reporting.html.curves import SMALL_COUNT
from fedhealth.reporting.html.run_reader import RunRecord

Row = tuple[str, ...]
HEADINGS = ("group", "patients", "sensitivity", "specificity", "accuracy", "hospitals")


def subgroup_rows(run: RunRecord) -> list[Row]:
    """A row per group: patients, three rates with 95 % Wilson intervals, and how many hospitals disclosed the group."""
    found = run.summary.subgroups if run.summary else None
    if found is None or not any(found.disclosed.values()):
        return []
    pooled = add_subgroups(found.divisions, found.disclosed.values())
    rows: list[Row] = []
    for groups in found.divisions.values():
        outcomes = [pooled[group] for group in groups]
        columns = (
            _shares(outcomes, lambda each: (each.true_positives, each.ill)),
            _shares(outcomes, lambda each: (each.true_negatives, each.healthy)),
            _shares(outcomes, lambda each: (each.true_positives + each.true_negatives, each.patients)),
        )
        for place, group in enumerate(groups):
            patients = f"{outcomes[place].patients:,}"
            by = NOT_DISCLOSED if run.are_sums else _disclosed_by(found, group)
            rows.append((group, patients, *(column[place] for column in columns), by))
    return rows


def _shares(outcomes: Sequence[Outcomes], pick: Callable[[Outcomes], tuple[int, int]]) -> list[str]:
    """A share (part of whole) per group of a division; "few" if the whole is small, or would disclose a small one."""
    parts = [pick(each) for each in outcomes]
    disclosed = suppress_small_cells([whole for _, whole in parts], SMALL_COUNT)
    return [_share(*part) if shown else "few" for part, shown in zip(parts, disclosed, strict=True)]


def _share(part: int, whole: int) -> str:
    if not whole:
        return "n/a"
    low, high = wilson_interval(part, whole)
    return f"{part / whole:.2f} ({low:.2f} to {high:.2f})"


def _disclosed_by(subgroups: Subgroups, group: str) -> str:
    """How many hospitals have test patients of this group and disclosed them."""
    disclosed = sum(group in each and each[group].patients > 0 for each in subgroups.disclosed.values())
    return f"{disclosed} of {len(subgroups.disclosed) + len(subgroups.missing)}"


def subgroup_notes(run: RunRecord) -> list[str]:
    """Notes to the table, or why there is none."""
    found = run.summary.subgroups if run.summary else None
    if found is None:
        return [
            "Subgroups were not requested in this run (--no-subgroups), the schema has none, or the run has not ended."
        ]
    notes = [f"No results by subgroup from {name}: {reason}." for name, reason in found.missing.items()]
    if not any(found.disclosed.values()):
        return ["No hospital's subgroups were large enough to be disclosed.", *notes]
    return [
        "The final model on test patients: risk threshold 0.5, 95 % Wilson intervals. Hospitals suppress groups of fewer "
        f"than {SMALL_COUNT} patients, and groups from which such a group could be computed by subtraction. The groups "
        "therefore do not add up to all test patients.",
        "Groups differ in more than their name says: also in prevalence, and in the hospitals that examined them.",
        *notes,
    ]
