"""How sure a metric is: a bootstrap over the bins, so that even an interval needs no more than the sums.

Efron 1979, "Bootstrap methods: another look at the jackknife". Each class is drawn anew from its own bins (a multinomial), as
many patients as there were; that is the ordinary bootstrap over patients, stratified by label, for every metric that depends
on patients through their bins. All draws are computed at once: arrays are (num_draws, NUM_BINS).
"""

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_RISKS, NUM_BINS, find_edge
from fedhealth.metrics.calibration import fit_lines
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics, pr_aucs, sensitivities_at
from fedhealth.metrics.histogram import ScoreHistogram, compute_metrics

BOOTSTRAP_STREAM = 0xB007
"""Keeps these random numbers apart from every other use of the same seed."""
DRAWS = 1000

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def bootstrap_intervals(
    histogram: ScoreHistogram, num_draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Percentile interval of each metric; None where it is undefined in the sample or in half the draws.

    In the draws every risk is the middle of its bin; the intervals of Brier score, loss and calibration are moved by what
    that changes in the sample.
    """
    generator = np.random.default_rng([BOOTSTRAP_STREAM, seed])
    draws = resampled_metrics(*(_draw(counts, num_draws, generator) for counts in _classes(histogram)))
    sample = resampled_metrics(*(counts[np.newaxis] for counts in _classes(histogram)))
    here = {name: float(values[0]) for name, values in sample.items()}
    exact = {**vars(compute_metrics(histogram)), **flat_metrics(compute_clinical_metrics(histogram))}
    shifts = {name: value - here[name] for name in draws if (value := exact[name]) is not None}
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
    slopes, intercepts = fit_lines(ill, healthy)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may lack a class
        return {
            "auroc": (ill * (np.cumsum(healthy, axis=1) - healthy / 2)).sum(axis=1) / (num_ill * num_healthy),
            "pr_auc": pr_aucs(ill, healthy),
            "accuracy": (found_ill + found_healthy) / total,
            "sensitivity": found_ill / num_ill,
            "specificity": found_healthy / num_healthy,
            "sensitivity_at_90": sensitivities_at(ill, healthy),
            "brier": (ill @ (1 - BIN_RISKS) ** 2 + healthy @ BIN_RISKS**2) / total,
            "loss": -(ill @ np.log(BIN_RISKS) + healthy @ np.log(1 - BIN_RISKS)) / total,
            "calibration_slope": slopes,
            "calibration_intercept": intercepts,
        }
