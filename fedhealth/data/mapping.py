"""A hospital's mapping file (TOML): what its columns, units, codes and marks of a missing value are in terms of the schema.

The file stays in the hospital. docs/own-files.md describes its keys; `mapping_file.py` reads it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedhealth.common.errors import DataError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_texts import number_text
from fedhealth.data.cell_words import NUMBER, is_missing, is_word
from fedhealth.data.csv_table import Sheet, take_column
from fedhealth.data.layouts import own_column
from fedhealth.data.schema import Column, Conversion, Schema
from fedhealth.data.separators import show_cell

SAME_UNIT = Conversion(1.0)
Key = float | str
"""A cell to compare with: `1`, `1.0` and `01` are one number; other text is compared in small letters."""


@dataclass(frozen=True)
class ColumnMapping:
    """What one column of the file is."""

    name: str
    """The schema's column."""
    in_file: str
    """Its name in the file."""
    line: int
    """Where it stands in the mapping file."""
    unit: str = ""
    conversion: Conversion = SAME_UNIT
    """Of the file's unit, to the schema's."""
    codes: Mapping[Key, int] = field(default_factory=dict)
    """The file's code -> the schema's."""
    marks: frozenset[Key] = frozenset()
    """What stands for a missing value in this column."""


@dataclass(frozen=True)
class FileMapping:
    """What a hospital's file is; columns that it does not name are read as they are."""

    file: str
    columns: tuple[ColumnMapping, ...]
    marks: frozenset[Key] = frozenset()
    """What stands for a missing value in every column."""

    def has_codes(self, in_file: str) -> bool:
        """Whether it explains the codes of a column of the file."""
        return any(same_name(each.in_file, in_file) and bool(each.codes) for each in self.columns)


def key_of(text: str) -> Key:
    """What a cell is compared by."""
    text = text.strip()
    return float(text) if NUMBER.fullmatch(text) else text.casefold()


def same_name(one: str, other: str) -> bool:
    """Whether two columns' names differ at most in capital letters."""
    return one.strip().casefold() == other.strip().casefold()


def find_places(header: list[str], name: str) -> list[int]:
    """The positions of a column in a header: those with exactly this name, else those that differ in capital letters."""
    exact = [place for place, text in enumerate(header) if text == name]
    return exact or [place for place, text in enumerate(header) if same_name(text, name)]


def find_mapped(mapping: FileMapping | None, schema: Schema, header: list[str]) -> dict[int, Column]:
    """Position -> the feature or outcome that the mapping says a column of the file is, with its range in the file's unit."""
    columns = mapping.columns if mapping else ()
    return {
        place: _in_unit_of_file(schema.columns[each.name], each.conversion)
        for each in columns
        if each.name in schema.columns
        for place in find_places(header, each.in_file)
    }


def _in_unit_of_file(column: Column, conversion: Conversion) -> Column:
    return replace(column, minimum=conversion.undo(column.minimum), maximum=conversion.undo(column.maximum))


def apply_mapping(mapping: FileMapping, sheet: Sheet, schema: Schema, path: Path) -> Sheet:
    """The sheet with the schema's names, units and codes, and a note for each column and kind of conversion.

    Raises
    ------
    DataError
        A column is not in the file, or is there twice; or a cell has a code that the mapping does not list: one line each.
    """
    if misfits := list(find_misfits(mapping, sheet.header, schema, path)):
        raise DataError(misfits)
    places = {find_places(sheet.header, each.in_file)[0]: each for each in mapping.columns}
    header = [places[place].name if place in places else text for place, text in enumerate(sheet.header)]
    patients = [(row, list(cells)) for row, cells in sheet.patients]
    notes = list(describe_names(mapping))
    in_file: dict[str, tuple[str, list[str]]] = {}
    faults: list[tuple[int, str]] = []
    for place, text in enumerate(header):
        if (name := own_column(schema, text)) in schema.columns:
            ours = places.get(place, ColumnMapping(name, text, 0))
            ours = replace(ours, marks=ours.marks | mapping.marks)
            in_file[name] = (ours.in_file, take_column(sheet.patients, place))
            lines, wrong = convert_column(ours, schema.columns[name], patients, place)
            notes += lines
            faults += wrong
    if faults:
        unlisted = f"which is not among its codes in {mapping.file}; add it there"
        raise DataError([f"{path}: row {row}: {line}, {unlisted}" for row, line in sorted(faults)])
    return Sheet(header, patients, (*sheet.notes, *notes), in_file)


def find_misfits(mapping: FileMapping, header: list[str], schema: Schema, path: Path) -> Iterator[str]:
    """One line for each column of the mapping that the file does not have once."""
    mapped = {place for each in mapping.columns for place in find_places(header, each.in_file)}
    for each in mapping.columns:
        start, shown = f"{mapping.file}: line {each.line}", printable(each.in_file, 40)
        places = find_places(header, each.in_file)
        if not places:
            yield f'{start}: {path.name} has no column "{shown}"; give the name as the file\'s header has it'
        elif len(places) > 1:
            yield f'{start}: {path.name} has {len(places)} columns "{shown}"; keep one in the file'
        elif any(own_column(schema, text) == each.name for place, text in enumerate(header) if place not in mapped):
            yield f'{start}: "{shown}" is to be {each.name}, but {path.name} has a column {each.name} too; keep one of them'


def describe_names(mapping: FileMapping) -> Iterator[str]:
    """One line about all columns that have another name in the file."""
    renamed = [each for each in mapping.columns if each.in_file != each.name]
    shown = [f"{printable(each.in_file, 40)} as {each.name}" for each in renamed[:10]]
    if renamed:
        yield f"columns are read under the schema's names: {', '.join(shown + ['...'] * (len(renamed) > 10))}"


UNLISTED = "unlisted"
MARKED = "what the mapping file lists as missing is read as missing"
RECODED = "codes of the mapping file are read as the schema's"


def convert_column(
    ours: ColumnMapping, column: Column, patients: list[tuple[int, list[str]]], place: int
) -> tuple[list[str], list[tuple[int, str]]]:
    """Convert the cells of one column in place.

    Returns
    -------
    A note for each kind of conversion; and (row, what the cell is) for each code that the mapping does not list.
    """
    counts: Counter[str] = Counter()
    wrong = []
    for row, cells in patients:
        if place < len(cells) and not is_missing(text := cells[place].strip()):
            kind, cells[place] = convert_cell(ours, column, text)
            counts[kind] += bool(kind)
            if kind == UNLISTED:
                wrong.append((row, f'{column.name} is "{show_cell(text)}"'))
    done = [(kind, count) for kind, count in counts.items() if count]
    return [f"{column.name}: {kind} (in {count} cell{'s' * (count > 1)})" for kind, count in done], wrong


def convert_cell(ours: ColumnMapping, column: Column, text: str) -> tuple[str, str]:
    """(kind of conversion, or nothing; the cell's new text)."""
    key = key_of(text)
    if key in ours.marks:
        return MARKED, ""
    if isinstance(key, float) and key in column.missing_marks:
        return "", text
    if ours.codes:
        return convert_code(ours, column, key, text)
    if ours.conversion != SAME_UNIT and isinstance(key, float):
        return f"{describe_conversion(ours)} gives {column.unit}", number_text(ours.conversion.convert(key))
    return "", text


def describe_conversion(ours: ColumnMapping) -> str:
    """How the file's unit is converted."""
    factor, offset = ours.conversion
    sign = "plus" if offset > 0 else "minus"
    return f"{ours.unit} times {factor:g}" + (f" {sign} {abs(offset):g}" if offset else "")


def convert_code(ours: ColumnMapping, column: Column, key: Key, text: str) -> tuple[str, str]:
    """The same for a column with codes; a word of the schema needs no mention, a number does: it may mean another code."""
    if key in ours.codes:
        code = str(ours.codes[key])
        return ("" if key == float(code) else RECODED, code)
    return ("", text) if is_word(column, text) else (UNLISTED, text)
