"""The odds ratios of a run with the strategy newton, as a table for people, as CSV and as JSON."""

import csv
import io

from msgspec import json, structs

from fedhealth.common.text_table import format_table
from fedhealth.metrics.odds_ratios import OddsRatio, OddsRatios

HEADINGS = ("feature", "contrast", "odds ratio", "95 % interval", "p-value", "per deviation")
NONE = "-"


def table_rows(odds_ratios: OddsRatios) -> list[tuple[str, ...]]:
    """The cells under `HEADINGS`."""
    return [_cells(row) for row in odds_ratios.rows]


def remarks(odds_ratios: OddsRatios) -> list[str]:
    """What restricts the table: notes on single rows, then those on all."""
    return [f"{row.feature} ({row.contrast}): {row.note}" for row in odds_ratios.rows if row.note] + [
        *odds_ratios.notes
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
    interval = NONE if row.low is None or row.high is None else f"{_number(row.low)} to {_number(row.high)}"
    p_value = NONE if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
    return (row.feature, row.contrast, _number(row.odds_ratio), interval, p_value, _number(row.per_deviation))


def _number(value: float | None) -> str:
    """Three decimals near 1, where a unit of a number often has its odds ratio; fewer for large ones."""
    if value is None:
        return NONE
    if 0.01 <= value < 1000:
        return f"{value:.3f}" if value < 10 else f"{value:.1f}"
    return f"{value:.2e}"
