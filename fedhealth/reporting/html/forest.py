"""Forest plot of odds ratios: a line per contrast with its interval, on a logarithmic scale."""

import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from fedhealth.metrics.odds_ratios import QUANTILE, OddsRatio, OddsRatios
from fedhealth.reporting.html.svg_bars import LABELS_WIDTH, MARKS, RIGHT, ROW, SCALE_HEIGHT, WIDTH

SMALLEST, LARGEST = 0.01, 100.0
"""Intervals end at the edge of the plot beyond these."""
LARGEST_LOG = 700.0
"""Beyond it, an odds ratio or its inverse is no float."""


def draw_forest(odds_ratios: OddsRatios) -> Markup | None:
    """An SVG chart of all rows with an odds ratio: of numbers, for a standard deviation more; None if there is no row."""
    rows = [(row, scaled) for row in odds_ratios.rows if (scaled := _per_deviation(row))]
    if not rows:
        return None
    low, high = _range([value for _, values in rows for value in values])
    bottom, length = ROW * len(rows) + 4, WIDTH - RIGHT - LABELS_WIDTH

    def x(value: float) -> float:
        share = (math.log(min(max(value, low), high)) - math.log(low)) / (math.log(high) - math.log(low))
        return round(LABELS_WIDTH + share * length, 1)

    title = "Odds ratios with 95 % intervals"
    parts = [
        f'<svg class="chart bars" viewBox="0 0 {WIDTH} {bottom + SCALE_HEIGHT}" role="img" aria-label="{title}">',
        f"<title>{title}</title>",
    ]
    for tick in (tick for power in range(-2, 3) for tick in (10.0**power, 3 * 10.0**power) if low <= tick <= high):
        parts.append(f'<line class="grid" x1="{x(tick)}" y1="0" x2="{x(tick)}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<line class="axis" x1="{x(1)}" y1="0" x2="{x(1)}" y2="{bottom}"/>')
    for place, (row, (value, *ends)) in enumerate(rows):
        y = place * ROW + ROW / 2
        parts.append(f'<text x="{LABELS_WIDTH - 8}" y="{y + 4}" text-anchor="end">{escape(_label(row))}</text>')
        if ends:
            parts.append(f'<line class="spread" x1="{x(ends[0])}" y1="{y}" x2="{x(ends[1])}" y2="{y}"/>')
        hint = f"{_label(row)}: {value:.3g}" + (f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else "")
        parts.append(
            f'<path class="s0" transform="translate({x(value)} {y})" d="{MARKS["s1"]}"><title>{escape(hint)}</title></path>'
        )
    middle = LABELS_WIDTH + length / 2
    words = "odds ratio (logarithmic scale)"
    parts.append(f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle">{words}</text></svg>')
    return Markup("".join(parts))  # noqa: S704  # every text in it is escaped above


def _per_deviation(row: OddsRatio) -> tuple[float, ...]:
    """Odds ratio and, if there is one, its interval; of a number for a deviation more. Empty without an odds ratio."""
    if row.log_odds is None:
        return ()
    power = math.log(row.per_deviation) / row.log_odds if row.per_deviation and row.log_odds else 1.0
    half = QUANTILE * row.standard_error if row.standard_error else 0.0
    logs = (row.log_odds, row.log_odds - half, row.log_odds + half) if half else (row.log_odds,)
    return tuple(math.exp(min(max(power * each, -LARGEST_LOG), LARGEST_LOG)) for each in logs)


def _label(row: OddsRatio) -> str:
    return f"{row.feature}, {'per deviation' if row.per_deviation else row.contrast}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the smallest to the largest value, at least 0.5 to 2, at most the limits."""
    return max(SMALLEST, min([0.5, *values]) / 1.1), min(LARGEST, max([2.0, *values]) * 1.1)
