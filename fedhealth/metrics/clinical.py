"""What a doctor asks of a risk model, from the summed histogram alone: no score and no label is needed.

Risks count as the middle of their bin where a formula needs a number; where only the order or a threshold on a bin's edge
matters, the counts are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_EDGES, BIN_LOG_ODDS, NUM_BINS, find_edge
from fedhealth.metrics.histogram import ScoreHistogram

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Risks above which somebody might act; all on the edges of bins."""
WANTED_SPECIFICITY = 0.9
MOST_STEPS = 50
STEEPEST = 100.0
"""A calibration slope or intercept beyond this means that no finite one fits: the bins are separated."""


@dataclass(frozen=True)
class Calibration:
    """`log odds of disease = intercept + slope * predicted log odds`: (1, 0) is perfect, a slope below 1 overconfident.

    `in_the_large` is the intercept with the slope held at 1: above 0, risks are too low on the whole.
    """

    slope: float
    intercept: float
    in_the_large: float


@dataclass(frozen=True)
class NetBenefit:
    """What acting on risks from `threshold` up is worth, in true positives per patient; beside it, acting on everybody."""

    threshold: float
    model: float
    everybody: float


@dataclass(frozen=True)
class ClinicalMetrics:
    """The clinical metrics of some patients; None where undefined."""

    pr_auc: float | None
    calibration: Calibration | None
    sensitivity_at_90: float | None
    """Sensitivity at the lowest threshold that is at least 90 % specific."""
    threshold_at_90: float | None
    decision_curve: tuple[NetBenefit, ...]


def compute_clinical_metrics(histogram: ScoreHistogram) -> ClinicalMetrics:
    """All clinical metrics."""
    sensitivity, threshold = sensitivity_at_specificity(histogram) or (None, None)
    return ClinicalMetrics(
        pr_auc=compute_pr_auc(histogram),
        calibration=compute_calibration(histogram),
        sensitivity_at_90=sensitivity,
        threshold_at_90=threshold,
        decision_curve=compute_decision_curve(histogram),
    )


def flat_metrics(metrics: ClinicalMetrics) -> dict[str, float | None]:
    """All but the decision curve by the names that files and tables have for them."""
    line = metrics.calibration
    return {
        "pr_auc": metrics.pr_auc,
        "sensitivity_at_90": metrics.sensitivity_at_90,
        "threshold_at_90": metrics.threshold_at_90,
        "calibration_slope": line.slope if line else None,
        "calibration_intercept": line.intercept if line else None,
        "calibration_in_the_large": line.in_the_large if line else None,
    }


def compute_pr_auc(histogram: ScoreHistogram) -> float | None:
    """Average precision over the bins from the highest risk down; None without an ill and a healthy patient.

    Davis & Goadrich 2006, "The relationship between precision-recall and ROC curves"; in steps, as scikit-learn does it.
    """
    ill = int(histogram.positives.sum())
    if ill in (0, histogram.num_examples):
        return None
    found = histogram.positives[::-1]
    called = np.cumsum((histogram.positives + histogram.negatives)[::-1])
    precision = np.divide(np.cumsum(found), called, out=np.zeros(NUM_BINS), where=called > 0)
    return float((precision * found).sum() / ill)


def compute_calibration(histogram: ScoreHistogram) -> Calibration | None:
    """Logistic recalibration fitted on the bins; None if a class is missing or no finite line fits.

    Cox 1958, "Two further applications of a model for binary regression"; Van Calster et al. 2019, "Calibration: the Achilles
    heel of predictive analytics".
    """
    ill, healthy = histogram.positives, histogram.negatives
    if not ill.sum() or not healthy.sum():
        return None
    line = _fit_logistic(np.stack([BIN_LOG_ODDS, np.ones(NUM_BINS)], axis=1), np.zeros(NUM_BINS), histogram)
    large = _fit_logistic(np.ones((NUM_BINS, 1)), BIN_LOG_ODDS, histogram)
    if line is None or large is None:
        return None
    return Calibration(slope=float(line[0]), intercept=float(line[1]), in_the_large=float(large[0]))


def _fit_logistic(
    design: NDArray[np.float64], offset: NDArray[np.float64], histogram: ScoreHistogram
) -> NDArray[np.float64] | None:
    """Most likely coefficients of `design` (NUM_BINS, k) by Newton's method; None if they run away."""
    counts = histogram.positives + histogram.negatives
    coefficients = np.zeros(design.shape[1])
    for _ in range(MOST_STEPS):
        risks = 1 / (1 + np.exp(-np.clip(design @ coefficients + offset, -500, 500)))
        gradient = design.T @ (histogram.positives - counts * risks)
        curvature = (design * (counts * risks * (1 - risks))[:, np.newaxis]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return None
        step = np.linalg.solve(curvature, gradient)
        coefficients = coefficients + step
        if np.abs(coefficients).max() > STEEPEST:
            return None
        if np.abs(step).max() < 1e-10:
            return coefficients
    return None


def sensitivity_at_specificity(
    histogram: ScoreHistogram, wanted: float = WANTED_SPECIFICITY
) -> tuple[float, float] | None:
    """(sensitivity, threshold) at the lowest bin edge with a specificity of at least `wanted`; None if a class is missing."""
    ill, healthy = int(histogram.positives.sum()), int(histogram.negatives.sum())
    if not ill or not healthy:
        return None
    spared = np.concatenate([[0], np.cumsum(histogram.negatives)])
    place = int(np.argmax(spared >= wanted * healthy - 1e-9))
    return float(histogram.positives[place:].sum() / ill), float(BIN_EDGES[place])


def youden_threshold(histogram: ScoreHistogram) -> float | None:
    """The bin edge with the largest sensitivity + specificity, of several the one nearest to 0.5; None if a class is missing.

    Youden 1950, "Index for rating diagnostic tests".
    """
    ill, healthy = int(histogram.positives.sum()), int(histogram.negatives.sum())
    if not ill or not healthy:
        return None
    missed, spared = (np.concatenate([[0], np.cumsum(part)]) for part in (histogram.positives, histogram.negatives))
    # In whole numbers, so that equals are equal: spared / healthy - missed / ill, times both.
    index = spared * ill - missed * healthy
    best = BIN_EDGES[index == index.max()]
    return float(best[np.argmin(np.round(np.abs(best - 0.5), 12))])


def compute_decision_curve(
    histogram: ScoreHistogram, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[NetBenefit, ...]:
    """Net benefit at each threshold (on an edge of bins); empty for nobody.

    Vickers & Elkin 2006, "Decision curve analysis": true positives less false positives, each false one weighed by the odds
    of the threshold, per patient. Acting on nobody is worth 0.
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
