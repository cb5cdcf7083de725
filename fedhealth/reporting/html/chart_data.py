"""The data of a line chart as a table that only screen readers show. All text is escaped here."""

from collections.abc import Sequence
from html import escape
from typing import TypeVar

from markupsafe import Markup

MOST_ROWS = 25
"""Of a line with more points, this many are listed, evenly spaced, with the first and the last."""
T = TypeVar("T")
Cells = Sequence[tuple[float, str]]
"""(x, text of y) per point of a line."""


def data_table(title: str, lines: Sequence[tuple[str, Cells]], x_label: str, y_label: str) -> Markup:
    """A table of the named lines: a column per line if they share their x values, else a row per point."""
    shared = _shared_values(lines)
    if shared is None:
        headings = ["line", x_label, y_label]
        rows = [[name, _number(x), text] for name, cells in lines for x, text in _thin(cells)]
    else:
        headings = [x_label, *(f"{y_label}: {name}" for name, _ in lines)]
        found = [dict(cells) for _, cells in lines]
        rows = [[_number(x), *(each.get(x, "n/a") for each in found)] for x in _thin(shared)]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return Markup(  # noqa: S704  # every text in it is escaped above
        f'<div class="unseen"><table><caption>Data: {escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _shared_values(lines: Sequence[tuple[str, Cells]]) -> list[float] | None:
    """The x values of all lines, if one line has them all and none has one twice."""
    found = [[x for x, _ in cells] for _, cells in lines]
    every = {x for values in found for x in values}
    once = all(len(values) == len(set(values)) for values in found)
    return sorted(every) if once and any(len(values) == len(every) for values in found) else None


def _thin(values: Sequence[T]) -> list[T]:
    """At most `MOST_ROWS` of the values, evenly spaced, with the first and the last."""
    if len(values) <= MOST_ROWS:
        return list(values)
    return [values[round(place * (len(values) - 1) / (MOST_ROWS - 1))] for place in range(MOST_ROWS)]


def _number(value: float) -> str:
    return f"{round(value, 3):g}"
