"""Rows of the table by sex and age band: all hospitals' told counts together, small groups kept out once more.

A hospital tells of groups of patients; here the ill and the healthy of a group must each be enough, too, because the page
says how many of them were called rightly.
"""

from collections.abc import Callable, Sequence

from fedhealth.metrics.subgroups import DIVISIONS, Outcomes, Subgroups, add_subgroups, suppress_small_cells
from fedhealth.reporting.html.curves import SMALL_COUNT, wilson_interval
from fedhealth.reporting.html.run_reader import RunRecord

Row = tuple[str, ...]
HEADINGS = ("group", "patients", "sensitivity", "specificity", "accuracy", "hospitals")


def subgroup_rows(run: RunRecord) -> list[Row]:
    """A line per group: how many patients, three shares with 95 % intervals (Wilson), and how many hospitals told of it."""
    found = run.summary.subgroups if run.summary else None
    if found is None or not any(found.told.values()):
        return []
    pooled = add_subgroups(found.told.values())
    rows: list[Row] = []
    for division, groups in DIVISIONS.items():
        outcomes = [pooled[group] for group in groups]
        columns = (
            _shares(outcomes, lambda each: (each.true_positives, each.ill)),
            _shares(outcomes, lambda each: (each.true_negatives, each.healthy)),
            _shares(outcomes, lambda each: (each.true_positives + each.true_negatives, each.patients)),
        )
        for place, group in enumerate(groups):
            name = group if division == "sex" else f"age {group}"
            patients = f"{outcomes[place].patients:,}"
            rows.append((name, patients, *(column[place] for column in columns), _told_by(found, group)))
    return rows


def _shares(outcomes: Sequence[Outcomes], pick: Callable[[Outcomes], tuple[int, int]]) -> list[str]:
    """One share (part of whole) per group of a division; "few" where the whole is small or would tell of a small one."""
    parts = [pick(each) for each in outcomes]
    tellable = suppress_small_cells([whole for _, whole in parts], SMALL_COUNT)
    return [_share(*part) if yes else "few" for part, yes in zip(parts, tellable, strict=True)]


def _share(part: int, whole: int) -> str:
    if not whole:
        return "n/a"
    low, high = wilson_interval(part, whole)
    return f"{part / whole:.2f} ({low:.2f} to {high:.2f})"


def _told_by(subgroups: Subgroups, group: str) -> str:
    """How many hospitals tested such patients and told of them."""
    told = sum(group in each and each[group].patients > 0 for each in subgroups.told.values())
    return f"{told} of {len(subgroups.told) + len(subgroups.silent)}"


def subgroup_notes(run: RunRecord) -> list[str]:
    """What a careful reader of the table should know."""
    found = run.summary.subgroups if run.summary else None
    if found is None:
        return ["Subgroups (sex, age band) were not asked for in this run (--no-subgroups), or it has not ended."]
    notes = [f"No answer about subgroups from {name}: {reason}." for name, reason in found.silent.items()]
    if not any(found.told.values()):
        return ["No hospital's subgroups (sex, age band) were large enough to be told.", *notes]
    return [
        "Tested patients, the final model, a risk threshold of 0.5; intervals: 95 % (Wilson). A hospital tells nothing of a "
        f"group that is small ({SMALL_COUNT} patients are the least) nor of what would give it away by subtraction, so these "
        "are not all tested patients.",
        "Groups differ in more than sex or age: in how many are ill, and in the hospitals that examined them.",
        *notes,
    ]
