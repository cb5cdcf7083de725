"""Text tables: with rules in a terminal; plain aligned lines (for grep and awk) when piped or too wide."""

import io
from collections.abc import Sequence

Line = Sequence[str]


def format_table(
    headings: Line, lines: Sequence[Line], *, text_columns: int, terminal: bool, total: bool = False
) -> str:
    """A table; the first `text_columns` columns are aligned left, the others (numbers) right.

    `total` separates the last line from the others (in a terminal).
    """
    ruled = _ruled(headings, lines, text_columns, total) if terminal else None
    return ruled or _aligned([headings, *lines], text_columns)


def _aligned(lines: Sequence[Line], text_columns: int) -> str:
    """Columns padded to equal width, separated by two blanks."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = (
        "  ".join(
            cell.ljust(width) if place < text_columns else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def _ruled(headings: Line, lines: Sequence[Line], text_columns: int, total: bool) -> str | None:
    """The table drawn by rich; None if the terminal is too narrow, where rich would cut off digits."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, heading in enumerate(headings):
        table.add_column(heading.replace(" ", "\n"), justify="left" if place < text_columns else "right", no_wrap=True)
    for number, line in enumerate(lines):
        before_total = total and number == len(lines) - 2
        table.add_row(*(Text(cell) for cell in line), end_section=before_total)  # Text: a name is never markup
    console = Console(file=io.StringIO(), force_terminal=True)
    if console.measure(table, options=console.options.update(width=10_000)).maximum > console.width:
        return None
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")
