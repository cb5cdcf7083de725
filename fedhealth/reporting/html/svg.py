"""Small line charts as SVG text, coloured by the page's style sheet and readable by a screen reader.

All text is escaped here. No plotting library is used, because importing one takes a second.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from fedhealth.reporting.html.chart_data import data_table

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 42
MOST_CELLS = 2000
"""With more cells than this, equal neighbouring cells of a matrix are drawn as one rectangle."""
Point = tuple[float, float]
Range = tuple[float, float]
Axis = tuple[str, Range]
"""Label and range."""


@dataclass(frozen=True)
class Series:
    """One line of a chart; `style` is a class of the style sheet."""

    name: str
    points: Sequence[Point]
    style: str
    bars: Sequence[Range] = field(default=())
    """Low and high end of an error bar per point; with error bars, points have markers."""


def draw_chart(title: str, series: Sequence[Series], x: Axis, y: Axis) -> Markup:
    """An SVG line chart of all series, with their data as a table; values outside the y range are clipped to it.

    The table has no guides, and none of very many hospitals.
    """
    (x_label, x_range), (y_label, y_range) = x, y
    place = _Frame(x_range, y_range)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        *_axes(place, x_label, y_label),
        *(part for each in series for part in _line(each, place)),
        "</svg>",
    ]
    named = [(each.name, list(_cells(each))) for each in series if each.style not in ("guide", "many")]
    parts.append(data_table(title, named, x_label, y_label))
    return Markup("".join(parts))  # noqa: S704  # every text in it is escaped above


def _cells(series: Series) -> Iterator[tuple[float, str]]:
    """(x, text of y) of the finite points, with the interval if there are error bars."""
    finite = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    for place, (x, y) in enumerate(finite):
        interval = f" ({series.bars[place][0]:.3f} to {series.bars[place][1]:.3f})" if series.bars else ""
        yield x, f"{y:.3f}{interval}"


class _Frame:
    """Maps a chart's values to SVG coordinates."""

    def __init__(self, x_range: Range, y_range: Range) -> None:
        self.x_range, self.y_range = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        clipped = min(max(value, low), high)
        return round(TOP + (high - clipped) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)


def _axes(place: _Frame, x_label: str, y_label: str) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in find_ticks(*place.y_range):
        y = place.y(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
    low, high = place.x_range
    for value in find_ticks(low, high, most=min(6, int(high - low)) if high > 1 else 6):  # rounds are whole numbers
        yield f'<text x="{place.x(value)}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
    yield f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text transform="rotate(-90 11 {middle})" x="11" y="{middle}" text-anchor="middle">{escape(y_label)}</text>'


def _line(series: Series, place: _Frame) -> Iterator[str]:
    seen = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    corners = " ".join(f"{place.x(x)},{place.y(y)}" for x, y in seen)
    style = escape(series.style)
    yield f'<g class="{style}"><title>{escape(series.name)}</title>'
    if len(seen) > 1:
        yield f'<polyline points="{corners}"/>'
    for (x, _), (low, high) in zip(seen, series.bars, strict=False):
        yield f'<line x1="{place.x(x)}" y1="{place.y(low)}" x2="{place.x(x)}" y2="{place.y(high)}"/>'
    for x, y in seen if series.bars or len(seen) == 1 else ():
        yield f'<circle cx="{place.x(x)}" cy="{place.y(y)}" r="3"/>'
    yield "</g>"


def find_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Tick values from `low` to `high` in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def find_range(values: Sequence[float]) -> Range:
    """The range of the finite values, with a margin on both sides."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * 0.06 or max(abs(high) * 0.1, 0.05)
    return low - room, high + room


def draw_matrix(title: str, rows: Sequence[tuple[str, Sequence[str]]]) -> Markup:
    """An SVG matrix of hospitals (rows) and rounds (columns); a cell's style is a class: trained, tested or absent."""
    columns = max(len(cells) for _, cells in rows)
    width, height = min(14.0, 560 / columns), 18
    left = 14 + 7 * min(22, max(len(name) for name, _ in rows))
    gap = 1.5 if width > 6 and columns * len(rows) <= MOST_CELLS else 0.0
    total_width, total_height = left + width * columns + 4, height * len(rows) + 22
    parts = [
        f'<svg class="matrix" width="{total_width:g}" height="{total_height}" role="img" aria-label="{escape(title)}">'
    ]
    for number, (name, cells) in enumerate(rows):
        short = name if len(name) <= 22 else name[:21] + "…"
        y = number * height
        parts.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(short)}<title>{escape(name)}</title></text>'
        )
        for start, stop, style in _runs(cells):
            for x in range(start, stop) if gap else [start]:
                length = (1 if gap else stop - start) * width - gap
                box = f'x="{left + x * width:.2f}" y="{y + 1}" width="{length:.2f}" height="{height - 3}"'
                parts.append(f'<rect class="{escape(style)}" {box}/>')
    last = left + columns * width
    parts.append(f'<text x="{left}" y="{total_height - 6}">round 1</text>')
    if columns > 8:
        parts.append(f'<text x="{last:g}" y="{total_height - 6}" text-anchor="end">{columns}</text>')
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704  # every text in it is escaped above


def _runs(cells: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(start, stop, style) of equal neighbouring cells; keeps the file small after thousands of rounds."""
    start = 0
    for place in range(1, len(cells) + 1):
        if place == len(cells) or cells[place] != cells[start]:
            yield start, place, cells[start]
            start = place
