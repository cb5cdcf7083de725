"""Reads a large CSV with Arrow, where that gives exactly what `csv_table.py` gives; None for every other file.

Fast acceptance, slow explanation: this module refuses nothing. A file that Arrow reads in another way, or whose values have
faults, is read again by `csv_table.py`, which knows the row and the text of each cell.
"""

import codecs
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import DataError
from fedhealth.data.arrow_columns import may_have_mark, take_numbers, text_type, type_for
from fedhealth.data.csv_table import Table, check_header
from fedhealth.data.decimals import OTHER, SIGNS, Reading, reaches_thousands, read_as
from fedhealth.data.file_kinds import name_other_kind
from fedhealth.data.layouts import own_column
from fedhealth.data.patients import MINIMUM_PATIENTS
from fedhealth.data.schema import Schema
from fedhealth.data.separators import find_separator, first_record

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv

LARGE = 1_000_000
"""Bytes from which on Arrow is worth a second way of reading."""
HEAD = 2_000_000
"""Bytes at the beginning of the file that show the columns' types, and in which decimal marks must show that they are."""
MISSING = ["", "?", "NA", "na", "NaN", "nan"]
"""Marks of a missing value that need no warning; a column of numbers with any other mark is texts to Arrow."""
BLOCK = 4 << 20
"""Bytes that are read at a time."""
DIGITS = np.frombuffer(b"0123456789", dtype=np.uint8)


@dataclass(frozen=True)
class _Layout:
    """How a file is to be read."""

    separator: str
    reading: Reading
    has_quotes: bool
    names: Mapping[str, str]
    """The schema's column, or the hospital's -> its name in the file."""
    hospital: str
    """The column that is read as text."""


@dataclass
class _Found:
    """What has been read so far."""

    numbers: NDArray[np.float64]
    """(num_columns, at least num_patients)."""
    hospitals: list[str] = field(default_factory=list)
    marks: dict[str, Counter[str]] = field(default_factory=dict)
    """Column -> its marks of a missing value that deserve a warning."""
    with_mark: set[str] = field(default_factory=set)
    """Columns in which numbers may have a decimal mark."""
    rows: int = 0


def read_large_table(content: bytes, path: Path, schema: Schema, labelled: bool = True) -> Table | None:
    """The table of a large CSV, its columns as arrays of numbers (NaN = missing); None if it is to be read cell by cell."""
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
    in_file = {name: header[ours.index(name)] for name in names}
    layout = _Layout(separator, _guess_reading(content, separator), b'"' in content, in_file, schema.hospital)
    found = None if layout.reading == "comma" and _has_unlike_commas(content) else _read(content, schema, layout)
    if (
        found is None
        or found.rows < MINIMUM_PATIENTS
        or not _marks_are_decimal(content, schema, layout, found.with_mark)
    ):
        return None
    columns = dict(zip(found.marks, found.numbers[:, : found.rows], strict=True))
    if np.logical_and.reduce([np.isnan(values) for values in columns.values()]).any():
        return None  # all numbers of a row are missing: it may be blank, and `csv_table.py` skips blank rows
    ignored = [text for text, name in zip(header, ours, strict=True) if not name]
    hospitals = {schema.hospital: found.hospitals} if schema.hospital in names else {}
    rows = list(range(2, found.rows + 2))
    return Table(rows, hospitals, ignored, short_rows=0, numbers=columns, marks=found.marks)


def _has_unlike_text(content: bytes) -> bool:
    """Whether the file may hold what Arrow reads in another way than `csv_table.py`: 0x1F is 31 to it."""
    body = content.find(b"\n")
    return b"\0" in content or any(
        content.find(letter, body) >= 0 and content.find(b"0" + letter, body) >= 0 for letter in (b"x", b"X")
    )


def _guess_reading(content: bytes, separator: str) -> Reading:
    """The mark that is frequent in the first rows; a wrong guess only means that the file is read cell by cell."""
    head = content[content.find(b"\n") : HEAD]
    return "comma" if separator != "," and head.count(b",") > head.count(b".") else "point"


def _has_unlike_commas(content: bytes) -> bool:
    """Whether a number with a decimal comma may be one to Arrow alone: `5,` and `1,5e3` are none to `csv_table.py`."""
    body = np.frombuffer(content, dtype=np.uint8)
    for first in range(content.find(b"\n"), len(body), BLOCK):
        block = body[first : first + BLOCK + 1]
        before_e, after_comma = block[:-1][(block[1:] | 0x20) == ord("e")], block[1:][block[:-1] == ord(",")]
        if np.isin(before_e, [*DIGITS, ord(",")]).any() or not np.isin(after_comma, DIGITS).all():
            return True
    return content.endswith(b",")


def _read_header(content: bytes, path: Path, schema: Schema) -> tuple[str, list[str]]:
    """Separator and names of the columns; a `DataError` or `UnicodeDecodeError` if the first line has none."""
    line = content[: content.find(b"\n") + 1].decode()
    if line[:4].lower().strip('"') == "sep":  # the line for Excel
        raise DataError([f"{path}: is read cell by cell"])
    separator = find_separator(line, path, schema)
    return separator, [name.strip() for name in first_record(line, separator)]


def _read(content: bytes, schema: Schema, layout: _Layout) -> _Found | None:
    """All batches of the file, with the types that the first rows show, else as texts; None if Arrow cannot read it."""
    import pyarrow as pa

    texts = {name: text_type(column) for name, column in schema.columns.items() if name in layout.names}
    try:
        head = _open(_head(content), layout, {}).read_all()
    except pa.ArrowException:  # the beginning ends within a quoted cell, or names have blanks before them
        return None
    shown = {name: type_for(head[layout.names[name]].type, schema.columns[name]) for name in texts}
    return _read_as(content, schema, layout, shown) or _read_as(content, schema, layout, texts)


def _read_as(content: bytes, schema: Schema, layout: _Layout, types: Mapping[str, "pa.DataType"]) -> _Found | None:
    """All batches with these types of the columns; None if a cell is of another type."""
    import pyarrow as pa

    most = max(content.count(b"\n"), content.count(b"\r")) + 1
    found = _Found(np.empty((len(types), most)), marks={name: Counter() for name in types})
    try:
        for batch in _open(content, layout, types):
            if found.rows + batch.num_rows > most or not _add(found, batch, schema, layout):
                return None
    except pa.ArrowException:
        return None
    return found


def _add(found: _Found, batch: "pa.RecordBatch", schema: Schema, layout: _Layout) -> bool:
    """Add the rows of a batch; False if they are to be read cell by cell."""
    rows = slice(found.rows, found.rows + batch.num_rows)
    for place, name in enumerate(found.marks):
        column, array = schema.columns[name], batch.column(layout.names[name])
        marks = take_numbers(array, column, layout.reading, found.numbers[place, rows])
        if marks is None:
            return False
        found.marks[name] += marks
        if may_have_mark(array, layout.reading):
            found.with_mark.add(name)
    if schema.hospital in layout.names:
        found.hospitals += [text.strip() for text in batch.column(layout.names[schema.hospital]).to_pylist()]
    found.rows = rows.stop
    return True


def _open(content: bytes, layout: _Layout, types: Mapping[str, "pa.DataType"]) -> "csv.CSVStreamingReader":
    """Arrow's reader of the columns; types that are not given are inferred, all but the hospital's: 007 is not 7."""
    import pyarrow as pa
    from pyarrow import csv

    wanted = {layout.hospital: pa.string(), **types}
    return csv.open_csv(
        pa.BufferReader(content),
        csv.ReadOptions(block_size=BLOCK),
        csv.ParseOptions(delimiter=layout.separator, newlines_in_values=layout.has_quotes),
        csv.ConvertOptions(
            null_values=MISSING,
            true_values=[],  # true and false stay texts
            false_values=[],
            include_columns=list(layout.names.values()),
            column_types={text: wanted[name] for name, text in layout.names.items() if name in wanted},
            decimal_point=SIGNS[layout.reading],
        ),
    )


def _head(content: bytes) -> bytes:
    """The first rows."""
    return content[: content.rfind(b"\n", 0, HEAD) + 1]


def _marks_are_decimal(content: bytes, schema: Schema, layout: _Layout, names: set[str]) -> bool:
    """Whether the marks in these columns are decimal ones, as in 63.5; 63.500 may be 63500 if a column reaches thousands."""
    if not any(reaches_thousands(schema.columns[name]) for name in names):
        return True
    import pyarrow as pa

    found = _open(_head(content), layout, dict.fromkeys(names, pa.string()))
    columns = (batch.column(layout.names[name]).to_pylist() for batch in found for name in names)
    texts = (text.strip() for column in columns for text in column)
    return any(read_as(layout.reading, text) and not read_as(OTHER[layout.reading], text) for text in texts)
