"""Reads a large CSV of numbers with Arrow, where that gives exactly what `csv_table.py` gives; None for every other file.

Fast acceptance, slow explanation: this module refuses nothing. A file that Arrow reads in another way, or whose values have
faults, is read again by `csv_table.py`, which knows the row and the text of each cell.
"""

import codecs
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import DataError
from fedhealth.data.csv_table import Table, check_header
from fedhealth.data.decimals import reaches_thousands, read_as
from fedhealth.data.file_kinds import name_other_kind
from fedhealth.data.layouts import own_column
from fedhealth.data.schema import Schema
from fedhealth.data.separators import find_separator, first_record

if TYPE_CHECKING:
    import pyarrow as pa

LARGE = 1_000_000
"""Bytes from which on Arrow is worth a second way of reading."""
HEAD = 2_000_000
"""Bytes at the beginning of the file in which decimal points must show that they are."""
MISSING = ["", "?", "NA", "na", "NaN", "nan"]
"""Marks of a missing value that need no warning; a column with any other mark is text to Arrow."""


def read_large_table(content: bytes, path: Path, schema: Schema, labelled: bool = True) -> Table | None:
    """The table of a large CSV, its columns of numbers as arrays (NaN = missing); None if it is to be read cell by cell."""
    if len(content) < LARGE or name_other_kind(content) or _has_unlike_text(content):
        return None
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        separator, header = _read_header(content, path, schema)
        ours = [own_column(schema, name) for name in header]
        check_header(schema, header, ours, path, labelled)
        if not content.isascii():
            content.decode()
    except (DataError, UnicodeDecodeError):
        return None
    names = [name for name in schema.column_names if name in ours and (labelled or name in schema.places)]
    texts = [header[ours.index(schema.hospital)]] if schema.hospital in names else []
    found = _parse(content, separator, [header[ours.index(name)] for name in names], texts)
    if found is None:
        return None
    columns = {name: _take(found.column(place), schema, name) for place, name in enumerate(names)}
    cells = {name: column for name, column in columns.items() if isinstance(column, list)}
    numbers = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    if len(cells) + len(numbers) < len(columns) or _may_have_blank_rows(list(numbers.values())):
        return None
    if (large := _with_fractions(found, names, schema)) and not _points_are_decimal(content, separator, large):
        return None
    ignored = [text for text, name in zip(header, ours, strict=True) if not name]
    return Table(list(range(2, found.num_rows + 2)), cells, ignored, short_rows=0, numbers=numbers)


def _has_unlike_text(content: bytes) -> bool:
    """Whether the file may hold what Arrow reads in another way than `csv_table.py`: 0x1F is 31 to it."""
    body = content.find(b"\n")
    return b"\0" in content or any(content.find(letter, body) >= 0 for letter in (b"x", b"X"))


def _read_header(content: bytes, path: Path, schema: Schema) -> tuple[str, list[str]]:
    """Separator and names of the columns; a `DataError` or `UnicodeDecodeError` if the first line has none."""
    line = content[: content.find(b"\n") + 1].decode()
    if line[:4].lower().strip('"') == "sep":  # the line for Excel
        raise DataError([f"{path}: is read cell by cell"])
    separator = find_separator(line, path, schema)
    return separator, [name.strip() for name in first_record(line, separator)]


def _parse(content: bytes, separator: str, names: list[str], texts: list[str]) -> "pa.Table | None":
    """The named columns, types inferred by Arrow except those of `texts`; None if it cannot read the file."""
    import pyarrow as pa
    from pyarrow import csv

    reading = csv.ReadOptions(block_size=4 << 20)
    parsing = csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content)
    kinds = dict.fromkeys(texts, pa.string())  # a hospital called 007 is not 7
    converting = csv.ConvertOptions(null_values=MISSING, include_columns=names, column_types=kinds)
    try:
        return csv.read_csv(pa.BufferReader(content), reading, parsing, converting)
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None


def _with_fractions(found: "pa.Table", names: list[str], schema: Schema) -> list[str]:
    """The names in the file of the columns with decimal points, if one of them can hold thousands; else none."""
    import pyarrow as pa

    floats = [place for place, column in enumerate(found.columns) if pa.types.is_floating(column.type)]
    known = [schema.columns[names[place]] for place in floats if names[place] in schema.columns]
    return [found.column_names[place] for place in floats] if any(map(reaches_thousands, known)) else []


def _points_are_decimal(content: bytes, separator: str, names: list[str]) -> bool:
    """Whether a cell among the first rows shows that points are decimal ones: 63.5 does, and 63.500 may be 63500."""
    import pyarrow as pa
    from pyarrow import csv

    head = content[: content.rfind(b"\n", 0, HEAD) + 1]
    parsing = csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content)
    converting = csv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, pa.string()))
    try:
        found = csv.read_csv(pa.BufferReader(head), parse_options=parsing, convert_options=converting)
    except pa.ArrowInvalid:  # the beginning ends within a quoted cell
        return False
    texts = (text.strip() for column in found.columns for text in column.to_pylist())
    return any(read_as("point", text) and not read_as("comma", text) for text in texts)


def _take(column: "pa.ChunkedArray", schema: Schema, name: str) -> "NDArray[np.float64] | list[str] | None":
    """A column's numbers, or its texts if it holds words; None if it is to be read cell by cell."""
    import pyarrow as pa

    kind, known = column.type, schema.columns.get(name)
    if known is not None and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        values = column.cast(pa.float64(), safe=False).to_numpy()  # a missing value becomes NaN, 2**53 + 1 the nearest
        return None if np.isinf(values).any() else values
    if not pa.types.is_string(kind):  # a date, a time, or true and false: their texts are lost
        return None
    return None if known is not None and known.is_number else [text.strip() for text in column.to_pylist()]


def _may_have_blank_rows(numbers: list[NDArray[np.float64]]) -> bool:
    """Whether all numbers of a row are missing: it may be blank, and `csv_table.py` skips blank rows."""
    blank: NDArray[np.bool_] | None = None
    for column in numbers:
        blank = np.isnan(column) if blank is None else blank & np.isnan(column)
        if not blank.any():
            return False
    return True
