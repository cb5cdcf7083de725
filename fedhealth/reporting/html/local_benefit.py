"""Rows of the table that compares the final model with each hospital's local one."""

from collections.abc import Mapping

from fedhealth.metrics.paired_comparison import DIGITS, PairedComparison
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.html.tables import METRICS, Row
from fedhealth.server.records import ModelComparison

COMPARISON_HEADINGS = (
    "hospital",
    "model",
    "metric",
    "value",
    "local model",
    "difference",
    "95 % interval",
    "conclusion",
)


def comparison_rows(run: RunRecord) -> list[Row]:
    """A row per hospital that shared its comparison, and per model (global, personal)."""
    rows: list[Row] = []
    comparisons: Mapping[str, Mapping[str, ModelComparison | PairedComparison]] = (
        run.summary.comparisons if run.summary else {}
    )
    for name, each in sorted(comparisons.items()):
        for model, found in each.items():
            metric, digits = METRICS[found.metric][0], DIGITS[found.metric]
            values = (f"{value:.{digits}f}" for value in (found.value, found.alone))
            difference, interval = (
                f"{found.difference:+.{digits}f}",
                f"{found.low:.{digits}f} to {found.high:.{digits}f}",
            )
            rows.append((name, model, metric, *values, difference, interval, found.words))
    return rows
