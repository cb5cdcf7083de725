"""Horizontal bar charts with markers, as SVG text; all text is escaped here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from fedhealth.reporting.html.svg import Range, find_range, find_ticks

WIDTH, LABELS_WIDTH, RIGHT, ROW, SCALE_HEIGHT = 800, 380, 12, 24, 40
MARKS = {
    "s0": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s1": "M-4-4h8v8h-8z",
    "s2": "M0-5L5 4H-5z",
    "s3": "M0-5L5 0L0 5L-5 0z",
    "s4": "M0 5L5-4H-5z",
    "s5": "M-1.5-5h3v3.5h3.5v3h-3.5V5h-3v-3.5H-5v-3h3.5z",
    "s6": "M-1.5-5h3V5h-3z",
}
"""Style -> the outline of its marker; shapes distinguish hospitals without colour."""


@dataclass(frozen=True)
class Bar:
    """One bar: its value, and either a marker (name, style, value) per hospital or the range (low, high) of many."""

    label: str
    value: float
    marks: Sequence[tuple[str, str, float]] = ()
    spread: Range | None = None


def draw_bars(title: str, bars: Sequence[Bar], x_label: str) -> Markup:
    """An SVG chart of the bars, one below the other, with labels on the left."""
    values = [value for bar in bars for value in (bar.value, 0.0, *(m[2] for m in bar.marks), *(bar.spread or ()))]
    low, high = find_range(values)
    bottom, length = ROW * len(bars) + 4, WIDTH - RIGHT - LABELS_WIDTH

    def x(value: float) -> float:
        return round(LABELS_WIDTH + (value - low) / (high - low) * length, 1)

    parts = [
        f'<svg class="chart bars" viewBox="0 0 {WIDTH} {bottom + SCALE_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
    ]
    for value in find_ticks(low, high, most=8):
        parts.append(f'<line class="grid" x1="{x(value)}" y1="0" x2="{x(value)}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(value)}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for place, bar in enumerate(bars):
        parts += _bar(bar, place * ROW + ROW / 2, x)
    middle = LABELS_WIDTH + length / 2
    parts.append(f'<line class="axis" x1="{x(0.0)}" y1="0" x2="{x(0.0)}" y2="{bottom}"/>')
    parts.append(f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle">{escape(x_label)}</text></svg>')
    return Markup("".join(parts))  # noqa: S704  # every text in it is escaped above


def _bar(bar: Bar, y: float, x: Callable[[float], float]) -> Iterator[str]:
    left, right = sorted((x(0.0), x(bar.value)))
    box = f'x="{left}" y="{y - 8}" width="{round(right - left, 1)}" height="16"'
    yield f'<text x="{LABELS_WIDTH - 8}" y="{y + 4}" text-anchor="end">{escape(bar.label)}</text>'
    yield f"<rect {box}><title>{escape(bar.label)}: {bar.value:.3f}</title></rect>"
    if bar.spread:
        low, high = map(x, bar.spread)
        yield f'<line class="spread" x1="{low}" y1="{y}" x2="{high}" y2="{y}"/>'
    for name, style, value in bar.marks:
        yield _mark(style, x(value), y, f"{name}: {value:.3f}")


def draw_mark(style: str) -> Markup:
    """A single marker, for a legend."""
    picture = _mark(style, 7, 7)
    return Markup(f'<svg class="bars mark" viewBox="0 0 14 14" aria-hidden="true">{picture}</svg>')  # noqa: S704  # no text


def _mark(style: str, x: float, y: float, hint: str = "") -> str:
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<path class="{escape(style)}" transform="translate({x} {y})" d="{MARKS.get(style, MARKS["s6"])}">{title}</path>'
