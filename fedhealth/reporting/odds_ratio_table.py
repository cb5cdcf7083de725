"""The odds ratios of a run with the strategy newton, as a table for people, as CSV and as JSON."""

import csv
import io

from msgspec import json, structs

from fedhealth.common.text_table import format_table
from fedhealth.metrics.odds_ratios import OddsRatio, OddsRatios

HEADINGS = ("feature", "contrast", "odds ratio", "95 % interval", "p-value", "robust interval", "per deviation")
CLEAR = 0.05
"""A difference between hospitals with a smaller p-value is listed."""
NONE = "-"


def table_rows(odds_ratios: OddsRatios) -> list[tuple[str, ...]]:
    """The cells under `HEADINGS`."""
    return [_cells(row) for row in odds_ratios.rows]


def remarks(odds_ratios: OddsRatios) -> list[str]:
    """What restricts the table: notes on single rows, whether the hospitals differ, and notes on all rows."""
    notes = [f"{row.feature} ({row.contrast}): {row.note}" for row in odds_ratios.rows if row.note]
    return [*notes, *_differences(odds_ratios), *odds_ratios.notes]


def _differences(odds_ratios: OddsRatios) -> list[str]:
    """A line on the features whose effects differ between hospitals; none if that was not tested."""
    tested = {row.feature: row for row in odds_ratios.rows if row.differs_p_value is not None}
    if not tested:
        return []
    clear = ", ".join(
        f"{feature} (chi-squared {row.differs_statistic:.1f}, {row.differs_degrees} df, p {_p_value(row.differs_p_value)})"
        for feature, row in tested.items()
        if row.differs_p_value is not None and row.differs_p_value < CLEAR
    )
    of_how_many = "1 test" if len(tested) == 1 else f"{len(tested)} tests, not corrected for their number"
    return [
        f"effects that differ between hospitals (score test of hospital x feature, p < {CLEAR:g}): {clear or 'none'} "
        f"({of_how_many})"
    ]


def as_table(odds_ratios: OddsRatios, *, terminal: bool) -> str:
    """The table and its remarks, as text."""
    table = format_table(HEADINGS, table_rows(odds_ratios), text_columns=2, terminal=terminal)
    return "\n".join([table, *(f"- {line}" for line in remarks(odds_ratios))])


def as_csv(odds_ratios: OddsRatios) -> str:
    """A line per row with all its numbers in full."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(OddsRatio.__struct_fields__)
    writer.writerows(structs.astuple(row) for row in odds_ratios.rows)
    return stream.getvalue()


def as_json(odds_ratios: OddsRatios) -> str:
    """Rows and notes."""
    return json.format(json.encode(odds_ratios), indent=2).decode()


def _cells(row: OddsRatio) -> tuple[str, ...]:
    interval, robust = _interval(row.low, row.high), _interval(row.robust_low, row.robust_high)
    ratio, p_value = _number(row.odds_ratio), _p_value(row.p_value)
    return (row.feature, row.contrast, ratio, interval, p_value, robust, _number(row.per_deviation))


def _interval(low: float | None, high: float | None) -> str:
    return NONE if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _p_value(value: float | None) -> str:
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None) -> str:
    """Three decimals near 1, where a unit of a number often has its odds ratio; fewer for large ones."""
    if value is None:
        return NONE
    if 0.01 <= value < 1000:
        return f"{value:.3f}" if value < 10 else f"{value:.1f}"
    return f"{value:.2e}"
