"""A mapping file (TOML) -> `FileMapping`, or one line for each fault, with the file's line (docs/own-files.md)."""

from collections import Counter
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER
from fedhealth.data.layouts import own_column
from fedhealth.data.mapping import SAME_UNIT, ColumnMapping, FileMapping, Key, key_of
from fedhealth.data.schema import Column, Conversion, Schema, plain_words
from fedhealth.data.toml_lines import Fault, convert_table, data_error, find_lines, parse_toml

PAGE = "docs/own-files.md"


class MappingTable(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """The keys of the whole file."""

    column: list[dict[str, Any]] = []
    missing_marks: list[str | float] = []


class ColumnTable(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """The keys of a column."""

    name: str
    in_file: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    factor: float | None = None
    offset: float | None = None
    codes: dict[str, int | str] = {}
    missing_marks: list[str | float] = []


def load_mapping(path: Path, schema: Schema) -> FileMapping:
    """The mapping in a file.

    Raises
    ------
    UsageError
        The file cannot be read.
    DataError
        It is no mapping to the schema's columns: one line for each fault.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a mapping file (TOML)") from None
    try:
        return parse_mapping(content.decode("utf-8-sig"), str(path), schema)
    except UnicodeDecodeError:
        raise DataError([f"{path}: is not UTF-8 text; give a mapping file (TOML)"]) from None


def parse_mapping(text: str, name: str, schema: Schema) -> FileMapping:
    """The mapping of a file's content; `name` begins the lines of a `DataError`."""
    content, faults = parse_toml(text, name, PAGE), list[Fault]()
    table = convert_table(content, MappingTable, (), faults, PAGE)
    columns = list(_columns(table.column, schema, text, faults)) if table else []
    if table is None or (faults := faults or list(find_clashes(columns))):
        raise data_error(name, text, faults)
    return FileMapping(name, tuple(columns), keys_of(table.missing_marks))


def keys_of(marks: list[str | float]) -> frozenset[Key]:
    """Marks of a missing value as cells are compared."""
    return frozenset(key_of(str(mark)) for mark in marks)


def _columns(tables: list[dict[str, Any]], schema: Schema, text: str, faults: list[Fault]) -> Iterator[ColumnMapping]:
    """The columns without faults; the faults of the others are appended."""
    for place, content in enumerate(tables):
        path = ("column", place)
        table = convert_table(content, ColumnTable, path, faults, PAGE)
        if table is not None:
            found = [((*path, key), f"{printable(table.name, 40)}: {line}") for key, line in find_faults(table, schema)]
            faults += found
            if not found:
                yield _column(table, schema, find_lines(text, [path])[0])


def _column(table: ColumnTable, schema: Schema, line: int) -> ColumnMapping:
    """The column of a checked table."""
    name = own_column(schema, table.name)
    column = schema.columns.get(name)
    return ColumnMapping(
        name=name,
        in_file=(table.in_file or table.name).strip(),
        line=line,
        unit=table.from_ or "",
        conversion=_conversion(table, column) if column else SAME_UNIT,
        codes=_codes(table, column) if column else {},
        marks=keys_of(table.missing_marks),
    )


def _codes(table: ColumnTable, column: Column) -> dict[Key, int]:
    """The file's code -> the schema's."""
    codes = {key_of(text): our_code(column, code) for text, code in table.codes.items()}
    return {key: code for key, code in codes.items() if code is not None}


def find_conversion(column: Column, unit: str) -> Conversion | None:
    """That from a unit to the column's, if need be whatever its capital letters and blanks; None if there is none."""
    known = {**column.other_units, column.unit: SAME_UNIT}
    plain = {plain_unit(other): conversion for other, conversion in known.items()}
    return known.get(unit, plain.get(plain_unit(unit)))


def plain_unit(unit: str) -> str:
    """`mmol / L` -> `mmol/l`."""
    return "".join(unit.split()).casefold()


def _conversion(table: ColumnTable, column: Column) -> Conversion:
    """The schema's, else the one that the file gives."""
    known = find_conversion(column, table.from_) if table.from_ else SAME_UNIT
    return Conversion(table.factor or 1.0, table.offset or 0.0) if known is None else known


def our_code(column: Column, given: int | str) -> int | None:
    """The schema's code that a number or word is; None if it is none."""
    if isinstance(given, str) and not NUMBER.fullmatch(given.strip()):
        return column.code_of_word.get(plain_words(given))
    number = float(given)
    return int(number) if number in column.codes else None


def find_faults(table: ColumnTable, schema: Schema) -> Iterator[tuple[str, str]]:
    """(key, line about it) of what is wrong within one column."""
    name = own_column(schema, table.name)
    if not name:
        yield "name", "is no column of the schema; give one of its names, and the file's name as in-file"
        return
    if table.in_file is not None and not table.in_file.strip():
        yield "in-file", "in-file is empty; give the column's name in the file"
    if (column := schema.columns.get(name)) is None:
        others = (
            *(("from", table.from_), ("factor", table.factor), ("offset", table.offset)),
            ("codes", table.codes),
        )
        yield from ((key, f"the hospital's name has no {key}; leave it out") for key, value in others if value)
        return
    yield from _unit_faults(table, column)
    yield from _code_faults(table, column)


def _unit_faults(table: ColumnTable, column: Column) -> Iterator[tuple[str, str]]:
    """What is wrong with the unit."""
    given = [key for key in ("factor", "offset") if getattr(table, key) is not None]
    if table.offset is not None and not isfinite(table.offset):
        yield "offset", f"offset is {table.offset:g}; give what is added after the factor"
    if table.factor is not None and not 0 < table.factor < float("inf"):
        yield "factor", f"factor is {table.factor:g}; give a number above 0"
    if table.from_ is None:
        for key in given:
            yield key, f"{key} needs the unit of the file; give from"
        return
    unit = printable(table.from_, 40)
    if not column.is_number or column.codes:
        yield "from", "has codes and no unit; leave out from"
    elif (known := find_conversion(column, table.from_)) is None and table.factor is None:
        units = ", ".join(filter(None, [column.unit, *column.other_units])) or "no unit"
        makes = column.unit or "a number in the schema's range"
        yield "from", f'the schema has no factor for "{unit}" (it has {units}); give factor, which makes it {makes}'
    elif known is not None and given:
        what = f'the factor of "{unit}": {known.factor:g}' + (
            f", and the offset {known.offset:g}" if known.offset else ""
        )
        yield given[0], f"the schema has {what}; leave {' and '.join(given)} out"


def _code_faults(table: ColumnTable, column: Column) -> Iterator[tuple[str, str]]:
    """What is wrong with codes and marks."""
    if table.codes and not column.codes:
        yield "codes", "the schema has no codes for it; leave out codes"
        return
    for text, code in table.codes.items():
        if our_code(column, code) is None:
            allowed = ", ".join(f"{number} ({word})" for number, word in column.codes.items())
            yield "codes", f'"{printable(text, 40)}" is to be {printable(code, 40)}, which is none of {allowed}'
    keys = Counter(key_of(text) for text in table.codes)
    if doubled := [text for text in table.codes if keys[key_of(text)] > 1]:
        yield "codes", f'"{printable(doubled[0], 40)}" and "{printable(doubled[1], 40)}" are one code; keep one'
    if both := [text for text in table.codes if key_of(text) in keys_of(table.missing_marks)]:
        yield "missing-marks", f'"{printable(both[0], 40)}" is a code and a mark of a missing value; keep one'


def find_clashes(columns: list[ColumnMapping]) -> Iterator[Fault]:
    """What is wrong between columns: one name for two."""
    owners: dict[tuple[str, str], int] = {}
    for place, each in enumerate(columns):
        for key, text in (("name", each.name), ("in-file", each.in_file)):
            first = owners.setdefault((key, text.casefold()), place)
            if first != place:  # one line for each column: where in-file is not given, it is the name
                other = f'"{printable(text, 40)}" is the {key} of line {columns[first].line} too'
                yield ("column", place, key), f"{other}; one column of the file is one of the schema"
                break
