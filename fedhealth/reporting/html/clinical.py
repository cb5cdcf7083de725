"""Rows of two tables: figures with 95 % intervals by hospital, and net benefit by threshold."""

from collections.abc import Mapping, Sequence

from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import ScoreHistogram, compute_auroc
from fedhealth.metrics.intervals import confidence_intervals
from fedhealth.reporting.format import POOLED
from fedhealth.reporting.html.curves import FEWEST_FOR_ROC, is_small
from fedhealth.reporting.html.run_reader import RunRecord

Row = tuple[str, ...]
MANY = 20
"""With more hospitals than this there are no intervals by hospital: the table would be long, and ten take a second."""
COLUMNS = {
    "auroc": "AUROC",
    "pr_auc": "PR-AUC",
    "sensitivity_at_90": "sensitivity at 90 % specificity",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
}
HEADINGS = ("hospital", *COLUMNS.values())
BENEFIT_HEADINGS = ("threshold", "model", "treat all")


def clinical_rows(run: RunRecord) -> list[Row]:
    """A row per hospital, pooled last: figures with 95 % intervals, or "few" as in the table of hospitals.

    Empty if only sums over all hospitals are known; their figures are in the table of metrics.
    """
    pooled = run.pooled
    if pooled is None or run.are_sums or len(run.histograms) > MANY:
        return []
    names = [name for name in run.names if name in run.histograms]
    lines = [(name, *_figures(run.histograms[name], 2)) for name in names]
    return [*lines, (POOLED, *_figures(pooled, 3))]


def _figures(histogram: ScoreHistogram, digits: int) -> Sequence[str]:
    if any(is_small(int(counts.sum())) for counts in (histogram.positives, histogram.negatives)):
        return ["few"] * len(COLUMNS)
    values = {"auroc": compute_auroc(histogram)[0], **flat_metrics(compute_clinical_metrics(histogram))}
    intervals = confidence_intervals(histogram)
    return [_figure(values, intervals, key, digits) for key in COLUMNS]


def _figure(
    values: Mapping[str, float | None], intervals: Mapping[str, tuple[float, float] | None], key: str, digits: int
) -> str:
    value, interval = values[key], intervals[key]
    if value is None:
        return "n/a"
    between = f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else ""
    return f"{value:.{digits}f}{between}"


def bound_line(run: RunRecord) -> str:
    """By how much the bins can change the figures of all together; empty without histograms and with noisy ones."""
    if run.pooled is None or any(member.epsilon for member in run.settings.hospitals):
        return ""
    values = {"auroc_bound": compute_auroc(run.pooled)[1], **flat_metrics(compute_clinical_metrics(run.pooled))}
    bounds = [(name, values[f"{key}_bound"]) for key, name in COLUMNS.items()]
    found = [f"{name} by {bound:.2g}" for name, bound in bounds if bound is not None]
    if not found:
        return ""
    return f"Risks are counted in bins, which changes some metrics by at most: {', '.join(found)}."


def benefit_rows(run: RunRecord) -> list[Row]:
    """Net benefit per 100 patients at a few thresholds, as whole numbers, so that no single patient can be inferred."""
    pooled = run.pooled
    if pooled is None or min(pooled.positives.sum(), pooled.negatives.sum()) < FEWEST_FOR_ROC:
        return []
    curve = compute_clinical_metrics(pooled).decision_curve
    return [(f"{each.threshold:.2f}", f"{100 * each.model:.0f}", f"{100 * each.everybody:.0f}") for each in curve]
