"""How sure a metric is: a bootstrap over the bins, so that even an interval needs no more than the sums.

Efron 1979, "Bootstrap methods: another look at the jackknife". Each class is drawn anew from its own bins (a multinomial), as
many patients as there were; that is the ordinary bootstrap over patients, stratified by label, for every metric that depends
on patients through their bins. All draws are computed at once: arrays are (num_draws, NUM_BINS).
"""

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_LOG_ODDS, BIN_RISKS, NUM_BINS, find_edge
from fedhealth.metrics.clinical import MOST_STEPS, STEEPEST, WANTED_SPECIFICITY
from fedhealth.metrics.histogram import ScoreHistogram

BOOTSTRAP_STREAM = 0xB007
"""Keeps these random numbers apart from every other use of the same seed."""
DRAWS = 1000

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def bootstrap_intervals(
    histogram: ScoreHistogram, num_draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Percentile interval of each metric; None where it is undefined in the sample or in half the draws.

    Brier score and loss count every risk as the middle of its bin; their intervals are moved by what that changes.
    """
    generator = np.random.default_rng([BOOTSTRAP_STREAM, seed])
    draws = resampled_metrics(*(_draw(counts, num_draws, generator) for counts in _classes(histogram)))
    sample = resampled_metrics(*(counts[np.newaxis] for counts in _classes(histogram)))
    here = {name: float(values[0]) for name, values in sample.items()}
    total = max(histogram.num_examples, 1)
    exact = {"brier": histogram.squared_error / total, "loss": histogram.log_loss / total}
    shifts = {name: value - here[name] for name, value in exact.items()}
    tails = ((1 - level) / 2, (1 + level) / 2)
    return {name: _interval(values, here[name], shifts.get(name, 0.0), tails) for name, values in draws.items()}


def _classes(histogram: ScoreHistogram) -> tuple[Counts, Counts]:
    return histogram.positives, histogram.negatives


def _draw(counts: Counts, num_draws: int, generator: np.random.Generator) -> Counts:
    """As many patients as there are, drawn anew from their bins."""
    total = int(counts.sum())
    if not total:
        return np.zeros((num_draws, NUM_BINS), np.int64)
    return generator.multinomial(total, counts / total, size=num_draws)


def _interval(values: Values, here: float, shift: float, tails: tuple[float, float]) -> tuple[float, float] | None:
    defined = values[np.isfinite(values)]
    if not np.isfinite(here) or 2 * len(defined) < len(values):
        return None
    low, high = np.quantile(defined, tails)
    return float(low) + shift, float(high) + shift


def resampled_metrics(ill: Counts, healthy: Counts) -> dict[str, Values]:
    """Every metric (num_draws,) of histograms (num_draws, NUM_BINS); NaN where it is undefined.

    Not the calibration error: the noise of a draw adds to its absolute values, so it has no sound percentile interval.
    """
    half = find_edge(0.5)
    num_ill, num_healthy = ill.sum(axis=1), healthy.sum(axis=1)
    total = num_ill + num_healthy
    found_ill, found_healthy = ill[:, half:].sum(axis=1), healthy[:, :half].sum(axis=1)
    slope, intercept = _calibration_lines(ill, healthy)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may lack a class
        return {
            "auroc": (ill * (np.cumsum(healthy, axis=1) - healthy / 2)).sum(axis=1) / (num_ill * num_healthy),
            "pr_auc": _pr_auc(ill, healthy),
            "accuracy": (found_ill + found_healthy) / total,
            "sensitivity": found_ill / num_ill,
            "specificity": found_healthy / num_healthy,
            "sensitivity_at_90": _sensitivity_at_specificity(ill, healthy),
            "brier": (ill @ (1 - BIN_RISKS) ** 2 + healthy @ BIN_RISKS**2) / total,
            "loss": -(ill @ np.log(BIN_RISKS) + healthy @ np.log(1 - BIN_RISKS)) / total,
            "calibration_slope": slope,
            "calibration_intercept": intercept,
        }


def _pr_auc(ill: Counts, healthy: Counts) -> Values:
    """As `clinical.compute_pr_auc`."""
    found, called = np.cumsum(ill[:, ::-1], axis=1), np.cumsum((ill + healthy)[:, ::-1], axis=1)
    precision = np.divide(found, called, out=np.zeros(ill.shape), where=called > 0)
    area = (precision * ill[:, ::-1]).sum(axis=1) / ill.sum(axis=1)
    return np.where(healthy.sum(axis=1) > 0, area, np.nan)


def _sensitivity_at_specificity(ill: Counts, healthy: Counts) -> Values:
    """As `clinical.sensitivity_at_specificity`."""
    nobody = np.zeros((len(ill), 1), np.int64)
    spared, missed = (np.concatenate([nobody, np.cumsum(each, axis=1)], axis=1) for each in (healthy, ill))
    place = np.argmax(spared >= WANTED_SPECIFICITY * healthy.sum(axis=1, keepdims=True) - 1e-9, axis=1)
    share = 1 - np.take_along_axis(missed, place[:, None], axis=1)[:, 0] / ill.sum(axis=1)
    return np.where(healthy.sum(axis=1) > 0, share, np.nan)


def _calibration_lines(ill: Counts, healthy: Counts) -> tuple[Values, Values]:
    """As `clinical.compute_calibration`: slopes and intercepts by Newton's method, NaN where no finite line fits."""
    used = (ill + healthy).any(axis=0)
    ill, healthy, log_odds = ill[:, used], healthy[:, used], BIN_LOG_ODDS[used]
    counts = ill + healthy
    slope, intercept = np.zeros(len(ill)), np.zeros(len(ill))
    step = np.full((2, len(ill)), np.inf)
    with np.errstate(all="ignore"):
        for _ in range(MOST_STEPS):
            risks = 1 / (1 + np.exp(-np.clip(slope[:, None] * log_odds + intercept[:, None], -500, 500)))
            rest, weight = ill - counts * risks, counts * risks * (1 - risks)
            down, across, both = weight @ log_odds**2, weight.sum(axis=1), weight @ log_odds
            towards, up = rest @ log_odds, rest.sum(axis=1)
            area = down * across - both**2
            step = np.stack([across * towards - both * up, down * up - both * towards]) / area
            slope, intercept = slope + step[0], intercept + step[1]
            runs_away = ~(np.maximum(np.abs(slope), np.abs(intercept)) <= STEEPEST) | (area <= 1e-9 * down * across)
            slope, intercept = np.where(runs_away, np.nan, slope), np.where(runs_away, np.nan, intercept)
            if not np.any(np.abs(step[:, np.isfinite(slope)]) >= 1e-10):
                break
    unfinished = ~(np.abs(step).max(axis=0) < 1e-8) | (ill.sum(axis=1) == 0) | (healthy.sum(axis=1) == 0)
    return np.where(unfinished, np.nan, slope), np.where(unfinished, np.nan, intercept)
