"""Clinical metrics of a risk model, from the summed histogram alone: no score and no label is needed.

At a threshold on a bin's edge the counts are exact. Where the order within a bin matters, a bound on what the bins can change
is computed beside the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_EDGES, find_edge
from fedhealth.metrics.calibration import Calibration, Counts, Values, compute_calibration
from fedhealth.metrics.histogram import ScoreHistogram

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Risks of the decision curve; all are edges of bins."""
WANTED_SPECIFICITY = 0.9


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit of treating patients with risks from `threshold` up, in true positives per patient, and of treating all."""

    threshold: float
    model: float
    everybody: float


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity at the lowest edge of bins that has the wanted specificity.

    The lowest of all risks with that specificity can be lower, within the bin below: sensitivity is then higher, by `bound`
    at most.
    """

    sensitivity: float
    threshold: float
    bound: float


@dataclass(frozen=True)
class ClinicalMetrics:
    """The clinical metrics of some patients; None where undefined."""

    pr_auc: float | None
    pr_auc_bound: float | None
    calibration: Calibration | None
    at_90: OperatingPoint | None
    """At a specificity of 90 %."""
    decision_curve: tuple[NetBenefit, ...]


def compute_clinical_metrics(histogram: ScoreHistogram) -> ClinicalMetrics:
    """All clinical metrics."""
    pr_auc, bound = compute_pr_auc(histogram)
    return ClinicalMetrics(
        pr_auc=pr_auc,
        pr_auc_bound=bound,
        calibration=compute_calibration(histogram),
        at_90=sensitivity_at_specificity(histogram),
        decision_curve=compute_decision_curve(histogram),
    )


def flat_metrics(metrics: ClinicalMetrics) -> dict[str, float | None]:
    """All but the decision curve, by their names in files and tables."""
    line, point = metrics.calibration, metrics.at_90
    return {
        "pr_auc": metrics.pr_auc,
        "pr_auc_bound": metrics.pr_auc_bound,
        "sensitivity_at_90": point.sensitivity if point else None,
        "sensitivity_at_90_bound": point.bound if point else None,
        "threshold_at_90": point.threshold if point else None,
        "calibration_slope": line.slope if line else None,
        "calibration_slope_bound": line.slope_bound if line else None,
        "calibration_intercept": line.intercept if line else None,
        "calibration_intercept_bound": line.intercept_bound if line else None,
        "calibration_in_the_large": line.in_the_large if line else None,
        "calibration_in_the_large_bound": line.in_the_large_bound if line else None,
    }


def compute_pr_auc(histogram: ScoreHistogram) -> tuple[float | None, float | None]:
    """Average precision and the largest error that the bins can have caused; (None, None) if a class is missing.

    Davis & Goadrich 2006, "The relationship between precision-recall and ROC curves"; in steps, as in scikit-learn. All
    patients of a bin share its precision. At most they share that of its ill alone; at least the ill of a bin come one by one
    and after its healthy.
    """
    ill, healthy = histogram.positives, histogram.negatives
    value = float(pr_aucs(ill, healthy))
    if np.isnan(value):
        return None, None
    ill, healthy = ill[::-1], healthy[::-1]
    found, false_positives = np.cumsum(ill), np.cumsum(healthy)
    before = false_positives - healthy
    highest = np.divide(ill * found, found + before, out=np.zeros(len(ill)), where=ill > 0).sum()
    # The ill one by one: the sum of 1 - f / k for k patients so far, f of them healthy; 1 / k < log((k + .5) / (k - .5)).
    first = found - ill + false_positives + 0.5
    one_by_one = np.where(ill == 1, 1 / (first + 0.5), np.log((first + ill) / first))
    lowest = (ill - false_positives * one_by_one).sum()
    return value, float(max(highest / ill.sum() - value, value - lowest / ill.sum()))


def pr_aucs(ill: Counts, healthy: Counts) -> Values:
    """Average precision (...,) of histograms (..., NUM_BINS), from the highest bin down; NaN where a class is missing."""
    ill, healthy = ill[..., ::-1], healthy[..., ::-1]
    found, positive = np.cumsum(ill, axis=-1), np.cumsum(ill + healthy, axis=-1)
    precision = np.divide(found, positive, out=np.zeros(ill.shape), where=positive > 0)
    return _ratio((precision * ill).sum(axis=-1), ill, healthy)


def sensitivity_at_specificity(histogram: ScoreHistogram, wanted: float = WANTED_SPECIFICITY) -> OperatingPoint | None:
    """Sensitivity at the lowest bin edge with a specificity of at least `wanted`; None if a class is missing."""
    ill, healthy = histogram.positives, histogram.negatives
    if not ill.sum() or not healthy.sum():
        return None
    place = int(find_specific(healthy, wanted))
    bound = ill[place - 1] / ill.sum() if place else 0.0
    return OperatingPoint(float(sensitivities_at(ill, healthy, wanted)), float(BIN_EDGES[place]), float(bound))


def find_specific(healthy: Counts, wanted: float) -> NDArray[np.int64]:
    """Place (...,) of the lowest edge with at least that specificity, of histograms (..., NUM_BINS)."""
    below = _below_edges(healthy)
    places: NDArray[np.int64] = np.argmax(below >= wanted * below[..., -1:] - 1e-9, axis=-1)
    return places


def sensitivities_at(ill: Counts, healthy: Counts, wanted: float = WANTED_SPECIFICITY) -> Values:
    """Sensitivity (...,) at the lowest edge with at least that specificity; NaN where a class is missing."""
    place = find_specific(healthy, wanted)[..., np.newaxis]
    missed = np.take_along_axis(_below_edges(ill), place, axis=-1)[..., 0]
    return _ratio(ill.sum(axis=-1) - missed, ill, healthy)


def _below_edges(counts: Counts) -> Counts:
    """Patients below each edge (..., NUM_BINS + 1)."""
    nobody = np.zeros((*counts.shape[:-1], 1), np.int64)
    return np.concatenate([nobody, np.cumsum(counts, axis=-1)], axis=-1)


def _ratio(part: NDArray[np.generic], ill: Counts, healthy: Counts) -> Values:
    """`part` per ill patient; NaN where a class is missing."""
    num_ill, num_healthy = ill.sum(axis=-1), healthy.sum(axis=-1)
    return np.where((num_ill > 0) & (num_healthy > 0), part / np.maximum(num_ill, 1), np.nan)


def youden_threshold(histogram: ScoreHistogram) -> float | None:
    """The bin edge with the largest sensitivity + specificity, of several the nearest to 0.5; None if a class is missing.

    Youden 1950, "Index for rating diagnostic tests".
    """
    ill, healthy = int(histogram.positives.sum()), int(histogram.negatives.sum())
    if not ill or not healthy:
        return None
    # In whole numbers, so that equals are equal: specificity - (1 - sensitivity), times both numbers of patients.
    index = _below_edges(histogram.negatives) * ill - _below_edges(histogram.positives) * healthy
    best = BIN_EDGES[index == index.max()]
    return float(best[np.argmin(np.round(np.abs(best - 0.5), 12))])


def compute_decision_curve(
    histogram: ScoreHistogram, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[NetBenefit, ...]:
    """Net benefit at each threshold (on an edge of bins); empty for no patient.

    Vickers & Elkin 2006, "Decision curve analysis": true positives minus false positives, each multiplied by the odds of the
    threshold, per patient. Treating nobody has a net benefit of 0.
    """
    total, ill = histogram.num_examples, int(histogram.positives.sum())
    if not total:
        return ()
    curve = []
    for threshold in thresholds:
        place, odds = find_edge(threshold), threshold / (1 - threshold)
        right, wrong = int(histogram.positives[place:].sum()), int(histogram.negatives[place:].sum())
        curve.append(NetBenefit(threshold, (right - odds * wrong) / total, (ill - odds * (total - ill)) / total))
    return tuple(curve)
