"""Curves and intervals from histograms of risk, such that they disclose no small group of patients.

The page is meant to be shared. Counts by threshold and the ROC curve are rounded to the nearest multiple of 5 (as in the
rounding methodology of the UK's Higher Education Statistics Agency); reliability and decision curve are computed from bins
merged until none holds 1 to 4 ill or healthy patients. Metrics are computed from the unrounded histogram.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_EDGES, BIN_RISKS, NUM_BINS, find_edge
from fedhealth.metrics.histogram import ScoreHistogram

SMALL_COUNT = 5
"""Counts of patients from 1 to one less than this are not shown."""
ROUNDING = 5
FEWEST_FOR_ROC = 20
"""The least number of ill, and of healthy, test patients; with fewer, a curve of rounded counts has under four steps."""
RELIABILITY_GROUPS = 10
Point = tuple[float, float]
Count = TypeVar("Count", int, NDArray[np.int64])


@dataclass(frozen=True)
class Group:
    """Merged neighbouring bins: risks from `low` to `high`."""

    low: float
    high: float
    mean: float
    """Mean risk of its patients, each at the middle of its bin (0.005 wide at most)."""
    ill: int
    healthy: int

    @property
    def patients(self) -> int:
        """Ill and healthy."""
        return self.ill + self.healthy


@dataclass(frozen=True)
class Outcome:
    """The confusion matrix if patients with at least the risk `threshold` are predicted positive."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


def is_small(count: int) -> bool:
    """Whether a count is so small that it could identify somebody: 1 to 4."""
    return 0 < count < SMALL_COUNT


def shown(count: int) -> str:
    """A count as text; `<5` for 1 to 4."""
    return f"<{SMALL_COUNT}" if is_small(count) else f"{count:,}"


def merge_bins(histogram: ScoreHistogram) -> list[Group]:
    """Groups without a small count, lowest risk first; empty if the histogram's own totals are small.

    0.5 stays an edge if possible, since metrics are reported at this threshold.
    """
    middle = find_edge(0.5)
    halves = [_merge(histogram, 0, middle), _merge(histogram, middle, NUM_BINS)]
    if all(half is not None for half in halves):
        return [group for half in halves for group in half or []]
    return _merge(histogram, 0, NUM_BINS) or []


def _merge(histogram: ScoreHistogram, start: int, stop: int) -> list[Group] | None:
    """Groups of the bins from `start` to `stop`, from the low end; None if even their total has a small count."""
    edges = [start]
    for place in range(start + 1, stop + 1):
        if _is_disclosable(histogram, edges[-1], place):
            edges.append(place)
    while len(edges) > 1 and edges[-1] < stop:  # merge the rest with as many neighbours as it needs
        edges.pop()
        if _is_disclosable(histogram, edges[-1], stop):
            edges.append(stop)
    if edges[-1] < stop and int((histogram.positives + histogram.negatives)[start:stop].sum()):
        return None
    return [_group(histogram, low, high) for low, high in itertools.pairwise(edges)]


def _is_disclosable(histogram: ScoreHistogram, low: int, high: int) -> bool:
    ill, healthy = int(histogram.positives[low:high].sum()), int(histogram.negatives[low:high].sum())
    return ill + healthy > 0 and not is_small(ill) and not is_small(healthy)


def _group(histogram: ScoreHistogram, low: int, high: int) -> Group:
    ill, healthy = histogram.positives[low:high], histogram.negatives[low:high]
    mean = float(((ill + healthy) * BIN_RISKS[low:high]).sum() / (ill + healthy).sum())
    return Group(float(BIN_EDGES[low]), float(BIN_EDGES[high]), mean, int(ill.sum()), int(healthy.sum()))


def find_outcomes(groups: Sequence[Group]) -> list[Outcome]:
    """The confusion matrix at each edge between groups, and at 0 and 1, where all or none are predicted positive."""
    ill, healthy = (sum(getattr(group, name) for group in groups) for name in ("ill", "healthy"))
    outcomes, below_ill, below_healthy = [Outcome(0.0, ill, healthy, 0, 0)], 0, 0
    for group in groups:
        below_ill, below_healthy = below_ill + group.ill, below_healthy + group.healthy
        outcomes.append(Outcome(group.high, ill - below_ill, healthy - below_healthy, below_ill, below_healthy))
    return outcomes


def count_outcomes(histogram: ScoreHistogram, thresholds: Sequence[float]) -> list[Outcome]:
    """The confusion matrix at each threshold; thresholds must be edges of bins."""
    edges = [find_edge(threshold) for threshold in thresholds]
    parts = histogram.positives, histogram.negatives
    counts = [[int(part[start:stop].sum()) for start, stop in ((e, None), (0, e)) for part in parts] for e in edges]
    return [Outcome(threshold, *each) for threshold, each in zip(thresholds, counts, strict=True)]


def round_count(count: Count) -> Count:
    """The nearest multiple of 5: 0 and 2 become equal, and so do 113 and 117."""
    return ROUNDING * ((count + ROUNDING // 2) // ROUNDING)


def roc_points(histogram: ScoreHistogram) -> list[Point]:
    """(1 - specificity, sensitivity) from (0, 0) to (1, 1), of rounded counts; empty with under 20 patients of a class."""
    positive = [np.cumsum(np.append(0, part[::-1])) for part in (histogram.negatives, histogram.positives)]
    if min(counts[-1] for counts in positive) < FEWEST_FOR_ROC:
        return []
    shares = [(round_count(counts) / round_count(int(counts[-1]))).tolist() for counts in positive]
    return list(dict.fromkeys(zip(*shares, strict=True)))


def reliability_groups(groups: Sequence[Group]) -> list[Group]:
    """About ten groups of about equal numbers of patients."""
    wanted = sum(group.patients for group in groups) / RELIABILITY_GROUPS
    joined: list[Group] = []
    for group in groups:
        if joined and joined[-1].patients < wanted:
            joined[-1] = _join(joined[-1], group)
        else:
            joined.append(group)
    if len(joined) > 1 and joined[-1].patients < wanted / 2:
        joined[-2:] = [_join(joined[-2], joined[-1])]
    return joined


def _join(one: Group, other: Group) -> Group:
    patients = one.patients + other.patients
    mean = (one.mean * one.patients + other.mean * other.patients) / patients
    return Group(one.low, other.high, mean, one.ill + other.ill, one.healthy + other.healthy)


def decision_points(outcomes: Sequence[Outcome]) -> tuple[list[Point], list[Point]]:
    """(threshold, net benefit per patient) of the model, and of treating all patients.

    Net benefit is true positives minus false positives weighted by the odds of the threshold, per patient (Vickers & Elkin
    2006, "Decision curve analysis: a novel method for evaluating prediction models").
    """
    total = outcomes[0].true_positives + outcomes[0].false_positives
    within = [each for each in outcomes if each.threshold < 1]
    thresholds = sorted({*(each.threshold for each in within), *np.linspace(0, 0.98, 50).tolist()})

    def net_benefit(each: Outcome, threshold: float) -> float:
        return (each.true_positives - each.false_positives * threshold / (1 - threshold)) / total

    return (
        [(each.threshold, net_benefit(each, each.threshold)) for each in within],
        [(threshold, net_benefit(outcomes[0], threshold)) for threshold in thresholds],
    )
