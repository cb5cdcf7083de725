"""The tables of a TOML file as records; and the line of a key, which `tomllib` does not report."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from fedhealth.common.errors import DataError

T = TypeVar("T")
Fault = tuple[tuple[str | int, ...], str]
"""(path to the key in the file, line about it)."""
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


def convert_table(content: Any, kind: type[T], path: tuple[str | int, ...], faults: list[Fault], page: str) -> T | None:
    """The record of a TOML table; None, and a fault, if it is none. `page` describes the keys."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = where.strip("`").lstrip(".").partition(".")[0].partition("[")[0]
        unknown = key or next((key for key in content if f"unknown field `{key}`" in what), "")
        faults.append(((*path, unknown) if unknown else path, f"{_plain_fault(what, key)}; see {page}"))
        return None


def _plain_fault(what: str, key: str) -> str:
    """Msgspec's message in our words."""
    what = what.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "lacks"
    )
    what = what.replace("`", '"')
    return f"{key}: {what[0].lower()}{what[1:]}" if key else what


def data_error(name: str, text: str, faults: list[Fault]) -> DataError:
    """The faults in the order of the file's lines."""
    lines = sorted((find_line(text, path), fault) for path, fault in faults)
    return DataError([f"{name}: line {line}: {fault}" for line, fault in lines])
