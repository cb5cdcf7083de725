"""How sure a metric is: a bootstrap over the bins, so that even an interval needs no more than the sums.

Efron 1979, "Bootstrap methods: another look at the jackknife". Each class is drawn anew from its own bins (a multinomial), as
many patients as there were; that is the ordinary bootstrap over patients, stratified by label, for every metric that depends
on patients through their bins.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.clinical import compute_calibration, compute_pr_auc, sensitivity_at_specificity
from fedhealth.metrics.histogram import (
    NUM_BINS,
    ScoreHistogram,
    compute_auroc,
    compute_calibration_error,
    compute_metrics,
)

BOOTSTRAP_STREAM = 0xB007
"""Keeps these random numbers apart from every other use of the same seed."""

METRICS: dict[str, Callable[[ScoreHistogram], float | None]] = {
    "auroc": lambda histogram: compute_auroc(histogram)[0],
    "pr_auc": compute_pr_auc,
    "accuracy": lambda histogram: compute_metrics(histogram).accuracy,
    "sensitivity": lambda histogram: compute_metrics(histogram).sensitivity,
    "specificity": lambda histogram: compute_metrics(histogram).specificity,
    "sensitivity_at_90": lambda histogram: (sensitivity_at_specificity(histogram) or (None,))[0],
    "brier": lambda histogram: compute_metrics(histogram).brier,
    "ece": compute_calibration_error,
    "calibration_slope": lambda histogram: getattr(compute_calibration(histogram), "slope", None),
}
"""Name -> what computes it."""


def bootstrap_intervals(
    histogram: ScoreHistogram, num_draws: int = 500, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Percentile interval of each of `METRICS`; None where the metric is undefined in the sample or in half the draws."""
    generator = np.random.default_rng([BOOTSTRAP_STREAM, seed])
    draws = [_draw(histogram, generator) for _ in range(num_draws)]
    return {name: _interval(metric, histogram, draws, level) for name, metric in METRICS.items()}


def _draw(histogram: ScoreHistogram, generator: np.random.Generator) -> ScoreHistogram:
    """As many ill and as many healthy patients, drawn from their bins."""
    positives, negatives = (_redraw(counts, generator) for counts in (histogram.positives, histogram.negatives))
    middles = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    squares = float((positives * (1 - middles) ** 2 + negatives * middles**2).sum())
    losses = -float((positives * np.log(middles) + negatives * np.log(1 - middles)).sum())
    return ScoreHistogram(positives, negatives, log_loss=losses, squared_error=squares)


def _redraw(counts: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    total = int(counts.sum())
    return generator.multinomial(total, counts / total) if total else counts


def _interval(
    metric: Callable[[ScoreHistogram], float | None],
    histogram: ScoreHistogram,
    draws: list[ScoreHistogram],
    level: float,
) -> tuple[float, float] | None:
    values = [value for value in map(metric, draws) if value is not None]
    if metric(histogram) is None or 2 * len(values) < len(draws):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
