"""The line of a key in a TOML file, which `tomllib` does not report."""

import re
from collections.abc import Sequence

HEADER = re.compile(r"\s*\[\[\s*([\w-]+)\s*\]\]")


def find_line(text: str, path: Sequence[str | int]) -> int:
    """The line (from 1) of a key such as `("column", 3, "unit")` or `("title",)`; of its table if the key is not there."""
    lines = text.splitlines()
    start, end = _table_lines(lines, path)
    key = path[-1] if path and isinstance(path[-1], str) else ""
    found = [number for number in range(start, end) if re.match(rf'\s*["\']?{re.escape(key)}["\']?\s*=', lines[number])]
    return (found[0] if key and found else start) + 1


def _table_lines(lines: list[str], path: Sequence[str | int]) -> tuple[int, int]:
    """First line (from 0) and end of the table that holds the key."""
    heads = [(number, match[1]) for number, line in enumerate(lines) if (match := HEADER.match(line))]
    ends = [number for number, _ in heads[1:]] + [len(lines)]
    if len(path) < 2:
        return 0, heads[0][0] if heads else len(lines)
    same = [(start, end) for (start, kind), end in zip(heads, ends, strict=True) if kind == path[0]]
    return same[int(path[1])] if int(path[1]) < len(same) else (0, len(lines))
