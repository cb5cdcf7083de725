"""95 % intervals of all metrics. They have a width for patients in perfect order, too, where a bootstrap's has none.

Accuracy, sensitivity and specificity have Wilson's interval, AUROC one of its kind; PR-AUC and sensitivity at 90 %
specificity the bootstrap's, widened to Wilson's over the ill patients; Brier score, loss and calibration the bootstrap's.
They say what another draw of test patients would change, not what another training would.
"""

import numpy as np

from fedhealth.metrics.bootstrap import DRAWS, Counts, Interval, Values, bootstrap_intervals
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import ScoreHistogram, compute_metrics

Z = 1.959964
"""Standard deviations to each side of a normal mean that hold 95 %."""


def confidence_intervals(
    histogram: ScoreHistogram, num_draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval | None]:
    """95 % interval of each metric, by its name in files; None where it is undefined, or where all draws are alike.

    Coverage, simulated with risks of ill and healthy patients from two normals (of equal spread, or one of twice the other's)
    and from two exponentials:

    - AUROC of 0.8 to 0.99, 10 to 50 patients in equal or unequal classes (2,500 samples each, 20,000 in the worst case): 95 %
      or more with equal spreads, 93 % or more with unequal ones.
    - PR-AUC, 20 to 200 patients (400 samples each): 93 % or more, mostly 98 %.
    - Sensitivity at 90 % specificity: 92 % or more with at least 25 healthy patients, but 70 % or more with 10: so few do not
      show which risks 90 % of the healthy are below.
    """
    values = {**vars(compute_metrics(histogram)), **flat_metrics(compute_clinical_metrics(histogram))}
    ill, healthy = int(histogram.positives.sum()), int(histogram.negatives.sum())
    patients = {"accuracy": ill + healthy, "specificity": healthy}
    patients |= dict.fromkeys(("sensitivity", "pr_auc", "sensitivity_at_90"), ill)
    wilson = {name: _wilson(values[name], most) for name, most in patients.items()}
    drawn = bootstrap_intervals(histogram, values, num_draws, seed)
    return {
        **{name: interval if interval and interval[0] < interval[1] else None for name, interval in drawn.items()},
        **{name: _hull(interval, drawn.get(name)) for name, interval in wilson.items()},
        "auroc": auroc_interval(histogram),
    }


def _wilson(share: float | None, patients: int) -> Interval | None:
    return None if share is None else wilson_interval(share * patients, patients)


def _hull(one: Interval | None, other: Interval | None) -> Interval | None:
    """The interval from the lower of two to the higher; one of them if the other is missing."""
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def wilson_interval(part: float, whole: float) -> Interval:
    """95 % interval of the share `part / whole`; `whole` is above 0, and neither needs to be a whole number.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share, spread = part / whole, Z**2 / whole
    centre = (share + spread / 2) / (1 + spread)
    half = Z * float(np.sqrt(share * (1 - share) / whole + spread / (4 * whole))) / (1 + spread)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))  # of 0 and 1 exactly


def auroc_interval(histogram: ScoreHistogram) -> Interval | None:
    """95 % interval of the AUROC; None if a class is missing.

    Wilson's interval for as many patients as give a share the variance of the AUROC (the effective sample size of Korn &
    Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts"). The variance is the
    larger of two: that of DeLong, DeLong & Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
    operating characteristic curves", which is 0 for patients in perfect order, and that of method 5 of Newcombe 2006,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", which is too small where
    the risks of the smaller class spread more widely than those of the other.
    """
    ill, healthy = histogram.positives, histogram.negatives
    num_ill, num_healthy = int(ill.sum()), int(healthy.sum())
    if not num_ill or not num_healthy:
        return None
    won = (np.cumsum(healthy) - healthy / 2) / num_healthy  # by an ill patient of each bin, of the healthy
    lost = (np.cumsum(ill) - ill / 2) / num_ill
    auroc = float(won @ ill / num_ill)
    delong = _mean_variance(won, ill) + _mean_variance(lost, healthy)
    others = (num_ill + num_healthy) / 2 - 1
    # Both variances divided by auroc * (1 - auroc), the variance of a share of one patient.
    newcombe = (1 + others * (1 - auroc) / (2 - auroc) + others * auroc / (1 + auroc)) / (num_ill * num_healthy)
    size = 1 / max(newcombe, delong / (auroc * (1 - auroc)) if 0 < auroc < 1 else 0.0)
    return wilson_interval(auroc * size, size)


def _mean_variance(values: Values, counts: Counts) -> float:
    """Variance of the mean of values (NUM_BINS,) that so many patients have.

    It is the usual estimate times `(n - 1) / (n - 3)`, the variance of Student's t with `n - 1` degrees of freedom: estimated
    from few patients, a variance is often too small.
    """
    total = int(counts.sum())
    mean = values @ counts / total
    return float((values - mean) ** 2 @ counts / max(total - 3, 1) / total)
