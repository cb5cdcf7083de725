"""Percentile intervals of metrics: a bootstrap over the bins, which needs no more than the sums.

Efron 1979, "Bootstrap methods: another look at the jackknife". Each class is drawn anew from its own bins (a multinomial), as
many patients as there were: the ordinary bootstrap over patients, stratified by label, for every metric that depends on
patients through their bins. All draws are computed at once: arrays are (num_draws, NUM_BINS).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_RISKS, NUM_BINS
from fedhealth.metrics.calibration import fit_lines
from fedhealth.metrics.clinical import pr_aucs, sensitivities_at
from fedhealth.metrics.histogram import ScoreHistogram

BOOTSTRAP_STREAM = 0xB007
"""Keeps these random numbers apart from every other use of the same seed."""
DRAWS = 1000
TAILS = (0.025, 0.975)

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Interval = tuple[float, float]


def bootstrap_intervals(
    histogram: ScoreHistogram, values: Mapping[str, float | None], num_draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval | None]:
    """95 % percentile intervals of metrics; None where one is undefined in the sample or in half the draws.

    In the draws every risk is the middle of its bin; each interval is moved by what that changes in the sample, whose
    `values` are known more exactly. An interval has no width where all draws are alike.
    """
    generator = np.random.default_rng([BOOTSTRAP_STREAM, seed])
    classes = histogram.positives, histogram.negatives
    draws = resampled_metrics(*(_draw(counts, num_draws, generator) for counts in classes))
    sample = resampled_metrics(*(counts[np.newaxis] for counts in classes))
    return {name: _interval(draws[name], float(sample[name][0]), values[name]) for name in draws}


def _draw(counts: Counts, num_draws: int, generator: np.random.Generator) -> Counts:
    """As many patients as there are, drawn anew from their bins."""
    total = int(counts.sum())
    if not total:
        return np.zeros((num_draws, NUM_BINS), np.int64)
    return generator.multinomial(total, counts / total, size=num_draws)


def _interval(draws: Values, sample: float, value: float | None) -> Interval | None:
    defined = draws[np.isfinite(draws)]
    if value is None or not np.isfinite(sample) or 2 * len(defined) < len(draws):
        return None
    low, high = np.quantile(defined, TAILS) + (value - sample)
    return float(low), float(high)


def resampled_metrics(ill: Counts, healthy: Counts) -> dict[str, Values]:
    """Metrics (num_draws,) of histograms (num_draws, NUM_BINS); NaN where one is undefined.

    Not the calibration error: the noise of a draw adds to its absolute values, so it has no sound percentile interval.
    """
    total = ill.sum(axis=1) + healthy.sum(axis=1)
    slopes, intercepts = fit_lines(ill, healthy)
    with np.errstate(invalid="ignore"):  # nobody at all
        return {
            "pr_auc": pr_aucs(ill, healthy),
            "sensitivity_at_90": sensitivities_at(ill, healthy),
            "brier": (ill @ (1 - BIN_RISKS) ** 2 + healthy @ BIN_RISKS**2) / total,
            "loss": -(ill @ np.log(BIN_RISKS) + healthy @ np.log1p(-BIN_RISKS)) / total,
            "calibration_slope": slopes,
            "calibration_intercept": intercepts,
        }
