"""The tables of a TOML file as records; and the lines of keys, which `tomllib` does not report."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from fedhealth.common.errors import DataError
from fedhealth.common.safe_text import printable

T = TypeVar("T")
Fault = tuple[tuple[str | int, ...], str]
"""(path to the key in the file, line about it)."""
HEADER = re.compile(r"""\s*\[\[\s*["']?([\w-]+)["']?\s*\]\]""")
SUBTABLE = r"""\s*\[\s*["']?[\w-]+["']?\s*\.\s*["']?{key}["']?\s*\]"""
TABLE = r"""\s*\[\[?\s*["']?{key}["']?\s*\]"""
ASSIGNMENT = r"""\s*["']?{key}["']?\s*[.=]"""
SKIPPED = re.compile(r"#[^\n]*|\"\"\"(?:\\.|[^\\])*?\"\"\"|'''.*?'''|(\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*')", re.DOTALL)
"""Comments and texts of several lines, in which nothing is a key; and texts of one line, in which nothing is a comment."""

PLACE = re.compile(r" \(at line (\d+), column \d+\)$")
"""Where `tomllib` found a fault; at the end of the file it names no line."""
PLAIN = {
    "str": "a text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
"""Msgspec's words for the kinds of values, and ours."""
Path = Sequence[str | int]
"""A key such as `("column", 3, "unit")` or `("title",)`, or a table such as `("column", 3)`."""


def find_lines(text: str, paths: Sequence[Path]) -> list[int]:
    """The line (from 1) of each key; of its table if the key is not there."""
    bare = SKIPPED.sub(lambda match: match[1] or "\n" * match[0].count("\n"), text)
    lines = bare.split("\n")
    heads = [(number, match[1]) for number, line in enumerate(lines) if (match := HEADER.match(line))]
    ends = [*[number for number, _ in heads[1:]], len(lines)]
    tables: dict[str, list[tuple[int, int]]] = {"": [(0, heads[0][0] if heads else len(lines))]}
    for (start, kind), end in zip(heads, ends, strict=False):
        tables.setdefault(kind, []).append((start, end))
    return [_find_line(lines, tables, path) for path in paths]


def _find_line(lines: list[str], tables: dict[str, list[tuple[int, int]]], path: Path) -> int:
    """The line of one key, in the lines of its table; `tables` has those of the whole file's keys under an empty name."""
    kind, place = (str(path[0]), int(path[1])) if len(path) > 1 else ("", 0)
    same = tables.get(kind, [])
    if place >= len(same):  # the tables are written in one line: column = [{ name = "age" }]
        return _find_line(lines, tables, (kind,))
    start, end = same[place]
    key = re.escape(path[-1]) if path and isinstance(path[-1], str) else ""
    here = re.compile("|".join(pattern.format(key=key) for pattern in (ASSIGNMENT, SUBTABLE)))
    found = [number for number in range(start, end) if key and here.match(lines[number])]
    if not kind and not found:  # a table where none is expected
        found = [number for number, line in enumerate(lines) if key and re.match(TABLE.format(key=key), line)]
    return (found or [start])[0] + 1


def parse_toml(text: str, name: str, page: str) -> dict[str, Any]:
    """The content of TOML, or a `DataError` of one line; `page` has an example.

    `tomllib` raises other errors too: for integers of thousands of digits, and for deep nesting.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = PLACE.search(str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        what = printable(PLACE.sub("", str(error)), 100)
        raise DataError([f"{name}: line {line}: is not TOML ({what}); {page} has an example"]) from None


def convert_table(content: Any, kind: type[T], path: tuple[str | int, ...], faults: list[Fault], page: str) -> T | None:
    """The record of a TOML table; None, and a fault, if it is none. `page` describes the keys."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = where.strip("`").lstrip(".").partition(".")[0].partition("[")[0]
        unknown = key or next((key for key in content if f"unknown field `{key}`" in what), "")
        faults.append(((*path, unknown) if unknown else path, f"{printable(_plain_fault(what, key), 160)}; see {page}"))
        return None


def _plain_fault(what: str, key: str) -> str:
    """Msgspec's message in our words."""
    if what == "Expected `array`, got `object`":
        return f"{key}: expected a list; of tables, write [[{key}]] before the keys of each"
    if what.startswith("Invalid enum value"):
        return f'{key}: "{what.removeprefix("Invalid enum value ").strip(chr(39))}" is none of its values'
    what = what.replace("Object contains unknown field", "unknown key")
    what = what.replace("Object missing required field", "missing key").replace(" | null", "")
    what = re.sub(r"`(\w+)`|`(\w+) \| (\w+)`", _plain_kinds, what).replace("`", '"')
    return f"{key}: {what[0].lower()}{what[1:]}" if key else what


def _plain_kinds(match: re.Match[str]) -> str:
    return " or ".join(PLAIN.get(kind, f'"{kind}"') for kind in match.groups() if kind)


def data_error(name: str, text: str, faults: list[Fault]) -> DataError:
    """The faults in the order of the file's lines."""
    numbers = find_lines(text, [path for path, _ in faults])
    lines = sorted((number, fault) for number, (_, fault) in zip(numbers, faults, strict=True))
    return DataError([f"{name}: line {number}: {fault}" for number, fault in lines])
