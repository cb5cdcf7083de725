"""What the comparison page says of two runs: whether their test patients are the same, and if so the paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedhealth.metrics.difference_bounds import Difference, bound_differences
from fedhealth.metrics.histogram import ScoreHistogram, add_histograms
from fedhealth.reporting.html.folding import short_list
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.html.tables import METRICS, Row

HEADINGS = ("metric", "difference", "95 % interval, at most")


@dataclass(frozen=True)
class PairedRuns:
    """A run compared with the first one."""

    title: str
    """Such as `second minus first`."""
    problems: Sequence[str]
    """Why no difference can be given, and of which hospitals; empty if the test patients of all are the same."""
    rows: Sequence[Row]
    """A row per metric; empty if there are problems."""


def pair_runs(runs: Sequence[RunRecord]) -> list[PairedRuns]:
    """Every run but the first, compared with the first one."""
    return [pair_with(run, runs[0]) for run in runs[1:]]


def pair_with(run: RunRecord, first: RunRecord) -> PairedRuns:
    """The run compared with the first one."""
    title = f"{run.name} minus {first.name}"
    if problems := find_problems(run, first):
        return PairedRuns(title, [f"{problem}: {short_list(names)}" for problem, names in problems.items()], [])
    ours, theirs = (add_histograms(each.histograms.values()) for each in (run, first))
    return PairedRuns(title, [], [_row(found) for found in bound_differences(ours, theirs)])


def find_problems(run: RunRecord, first: RunRecord) -> dict[str, list[str]]:
    """Problem -> the hospitals that have it; empty if the runs have the same test patients in all hospitals."""
    problems: dict[str, list[str]] = {}
    for name in sorted({*run.names, *first.names}):
        if problem := _find_problem(run, first, name):
            problems.setdefault(problem, []).append(name)
    return problems


def _find_problem(run: RunRecord, first: RunRecord, name: str) -> str:
    """Why the test patients of a hospital cannot be paired; empty if they can."""
    if name not in run.names or name not in first.names:
        return "took part in one of the two runs only"
    if run.are_sums or first.are_sums:
        return "not known whether the test patients are the same (no hash under secure aggregation)"
    ours, theirs = ({member.name: member for member in each.settings.hospitals}[name] for each in (run, first))
    same = ours.tests_same_patients(theirs)
    if same is None:
        return "not known whether the test patients are the same (no hash, or hashes under two keys)"
    if not same:
        return "different test patients"
    histograms = run.histograms.get(name), first.histograms.get(name)
    if histograms[0] is None or histograms[1] is None:
        return "the final model of one run was not evaluated, or its histogram has other bins"
    return "" if _counts(histograms[0]) == _counts(histograms[1]) else "equal hashes, but different numbers of patients"


def _counts(histogram: ScoreHistogram) -> tuple[int, int]:
    return int(histogram.positives.sum()), int(histogram.negatives.sum())


def _row(found: Difference) -> Row:
    limits = "n/a" if found.at_most is None else " to ".join(map(_signed, found.at_most))
    return METRICS[found.metric][0], "n/a" if found.difference is None else _signed(found.difference), limits


def _signed(value: float) -> str:
    rounded = round(value, 3)
    return f"{rounded:+.3f}" if rounded else "0.000"
