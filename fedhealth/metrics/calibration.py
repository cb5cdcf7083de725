"""Calibration slope and intercept from the bins, with a bound on what the bins can change.

Cox 1958, "Two further applications of a model for binary regression"; Van Calster et al. 2019, "Calibration: the Achilles
heel of predictive analytics".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_LOG_ODDS, HALF_WIDTHS
from fedhealth.metrics.histogram import ScoreHistogram

MOST_STEPS = 50
STEEPEST = 100.0
"""A slope or intercept beyond this means that no finite one fits: the bins are separated."""

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """`log odds of disease = intercept + slope * predicted log odds`: (1, 0) is perfect, a slope below 1 overconfident.

    `in_the_large` is the intercept with the slope held at 1: above 0, risks are too low on the whole. Each bound is the
    largest difference from the value on the patients' own risks, to first order in the width of the bins.
    """

    slope: float
    intercept: float
    in_the_large: float
    slope_bound: float
    intercept_bound: float
    in_the_large_bound: float


def compute_calibration(histogram: ScoreHistogram) -> Calibration | None:
    """Logistic recalibration fitted on the bins; None if a class is missing or no finite line fits.

    The bins give each patient the log odds `x` of the middle, off by some `d`. The slope's score then lacks
    `sum((y - fitted(x)) * d)`. Most of it is known: `sum((y - risk(x)) * d)` is what the log loss of the middles exceeds the
    exact log loss by, which every hospital sends. One step of Newton's method adds it. What is left depends on no label.
    """
    counts, log_odds = histogram.positives + histogram.negatives, BIN_LOG_ODDS
    slope, intercept = (float(each[0]) for each in fit_lines(histogram.positives[None], histogram.negatives[None]))
    shift = _fit_shift(histogram)
    if np.isnan(slope) or np.isnan(shift):
        return None
    risks, fitted = risks_of(log_odds), risks_of(slope * log_odds + intercept)
    weights, design = fitted * (1 - fitted), np.stack([log_odds, np.ones(len(log_odds))])
    inverse = np.linalg.inv((counts * weights * design) @ design.T)
    slope_step, intercept_step = inverse @ (_excess_loss(histogram, risks), 0.0)
    left = np.stack([risks - fitted - slope * weights * log_odds, -slope * weights])
    slope_bound, intercept_bound = np.abs(inverse @ left) @ (counts * HALF_WIDTHS)
    shifted = counts * (moved := risks_of(log_odds + shift)) * (1 - moved)
    return Calibration(
        slope=float(slope + slope_step),
        intercept=float(intercept + intercept_step),
        in_the_large=shift,
        slope_bound=float(slope_bound),
        intercept_bound=float(intercept_bound),
        in_the_large_bound=float(shifted @ HALF_WIDTHS / shifted.sum()),
    )


def _excess_loss(histogram: ScoreHistogram, risks: Values) -> float:
    """The log loss of the middles less the exact one, held to what the width of the bins allows."""
    ill, healthy = histogram.positives, histogram.negatives
    binned = -(ill @ np.log(risks) + healthy @ np.log1p(-risks))
    most = (ill * (1 - risks) + healthy * risks) @ HALF_WIDTHS
    return float(np.clip(binned - histogram.log_loss, -most, most))


def risks_of(log_odds: Values) -> Values:
    """The risk at each of `log_odds`, of the same shape."""
    risks: Values = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
    return risks


def fit_lines(ill: Counts, healthy: Counts) -> tuple[Values, Values]:
    """Slopes and intercepts (num_draws,) of histograms (num_draws, NUM_BINS), all patients in the middle of their bins.

    Newton's method, for all histograms at once; NaN where a class is missing or no finite line fits.
    """
    used = (ill + healthy).any(axis=0)
    ill, healthy, log_odds = ill[:, used], healthy[:, used], BIN_LOG_ODDS[used]
    lines, steps = np.zeros((2, len(ill))), np.full((2, len(ill)), np.inf)
    with np.errstate(all="ignore"):
        for _ in range(MOST_STEPS):
            steps = _newton_steps(lines, ill, ill + healthy, log_odds)
            lines = lines + steps
            lines[:, ~(np.abs(lines).max(axis=0) <= STEEPEST)] = np.nan
            if not np.any(np.abs(steps[:, np.isfinite(lines[0])]) >= 1e-10):
                break
        sound = (np.abs(steps).max(axis=0) < 1e-8) & (ill.sum(axis=1) > 0) & (healthy.sum(axis=1) > 0)
    slopes, intercepts = np.where(sound, lines, np.nan)
    return slopes, intercepts


def _newton_steps(lines: Values, ill: Counts, counts: Counts, log_odds: Values) -> Values:
    """The next step (2, num_draws) of each slope and intercept; NaN where the curvature is singular."""
    risks = risks_of(lines[0][:, None] * log_odds + lines[1][:, None])
    rest, weights = ill - counts * risks, counts * risks * (1 - risks)
    down, across, both = weights @ log_odds**2, weights.sum(axis=1), weights @ log_odds
    towards, up = rest @ log_odds, rest.sum(axis=1)
    area = down * across - both**2
    steps: Values = np.stack([across * towards - both * up, down * up - both * towards]) / area
    return np.where(area > 1e-9 * down * across, steps, np.nan)


def _fit_shift(histogram: ScoreHistogram) -> float:
    """What to add to all log odds so that the mean risk is the share of the ill; NaN if Newton's method finds no end."""
    counts, ill, shift = histogram.positives + histogram.negatives, histogram.positives.sum(), 0.0
    with np.errstate(all="ignore"):
        for _ in range(MOST_STEPS):
            risks = risks_of(BIN_LOG_ODDS + shift)
            step = float((ill - counts @ risks) / (counts @ (risks * (1 - risks))))
            shift += step
            if not abs(shift) <= STEEPEST:
                break
            if abs(step) < 1e-10:
                return shift
    return np.nan
