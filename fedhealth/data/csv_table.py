"""A CSV file -> its cells as text, column by column; what the cells mean is not judged here."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.decimals import read_decimals
from fedhealth.data.file_kinds import name_other_kind
from fedhealth.data.layouts import (
    any_column,
    describe_foreign_header,
    describe_missing,
    describe_missing_header,
    fewest_known,
    find_columns,
    looks_like_values,
    name_outcome,
    own_column,
)
from fedhealth.data.patients import MINIMUM_PATIENTS
from fedhealth.data.schema import Column, Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.data.separators import describe_single_column, split_records

Patients = list[tuple[int, list[str]]]
"""(row number, fields) of each patient."""
Texts = list[str] | NDArray[np.float64]
"""The cells of a column: texts, or numbers with NaN where missing."""
InFile = Mapping[str, tuple[str, list[str]]]
"""Column -> its name in the file, and its cells there, where a mapping may have changed them."""


@dataclass(frozen=True)
class Sheet:
    """A file as rows of fields."""

    header: list[str]
    """The columns' names, stripped."""
    patients: Patients
    notes: tuple[str, ...] = ()
    """What was converted on the way, one line for each kind."""
    in_file: InFile = field(default_factory=dict)
    labels: Mapping[str, Mapping[float, str]] = field(default_factory=dict)
    """Column -> code -> its label, where the file has labels for codes."""


@dataclass(frozen=True)
class Table:
    """The known columns of a CSV as stripped text; numbers have decimal points, whatever the file has."""

    rows: list[int]
    """The spreadsheet's number of each patient's row (the header is row 1)."""
    cells: dict[str, list[str]]
    """Column -> one text for each patient."""
    ignored: list[str]
    """Names of the columns that are none of ours."""
    short_rows: int
    """Rows with fewer fields than the header, as some spreadsheets write them when the last cells are empty."""
    notes: tuple[str, ...] = ()
    """What was converted on the way, one line for each kind."""
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """The columns of a large file that `large_csv.py` has read as numbers, NaN = missing; they are not in `cells`."""
    marks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of these columns, the marks of a missing value that deserve a warning, and in how many cells they are."""
    in_file: InFile = field(default_factory=dict)

    @property
    def columns(self) -> Mapping[str, Texts]:
        """All columns, as texts or as numbers."""
        return {**self.cells, **self.numbers}


def read_file(path: Path) -> bytes:
    """All bytes of a regular file, or a `UsageError` that says why not."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path}: is a folder; give the hospital's CSV file")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path}: is no regular file; give the hospital's CSV file")
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the hospital's CSV, or make one with create_dataset.py") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def parse_table(content: bytes, path: Path, schema: Schema, labelled: bool = True) -> Table:
    """Bytes of a CSV in the schema's own layout -> `Table`; a file that is no such table is a `DataError`.

    Patients to learn from are `labelled` and at least `MINIMUM_PATIENTS`; for a prediction one is enough, and no label
    is required or read.
    """
    return parse_sheet(read_sheet(content, path, schema), path, schema, labelled)


def parse_sheet(sheet: Sheet, path: Path, schema: Schema, labelled: bool = True) -> Table:
    """`parse_table` of a file that is a sheet already."""
    header = [own_column(schema, name) for name in sheet.header]
    check_header(schema, sheet.header, header, path, labelled)
    check_rows(sheet, path, MINIMUM_PATIENTS if labelled else 1)
    read = [name for name in schema.column_names if name in header and (labelled or name in schema.places)]
    ignored = [text for text, name in zip(sheet.header, header, strict=True) if not name]
    return take_table(sheet, {name: header.index(name) for name in read}, ignored)


def read_sheet(content: bytes, path: Path, schema: Schema) -> Sheet:
    """Bytes of a CSV in any layout -> header and patients, with decimal points in the columns of the schema.

    Raises
    ------
    DataError
        The file is of another kind, empty, without a header line, or not separated in one way.
    """
    sheet = split_sheet(content, path, schema)
    patients, notes = read_decimals(sheet.patients, find_known(schema, sheet.header), "auto", path)
    return Sheet(sheet.header, patients, tuple(notes))


def find_known(schema: Schema, header: list[str]) -> dict[int, Column]:
    """Position -> the feature or outcome that has the name there in any layout."""
    names = ((place, any_column(schema, text)) for place, text in enumerate(header))
    return {place: schema.columns[name] for place, name in names if name in schema.columns}


def split_sheet(content: bytes, path: Path, schema: Schema) -> Sheet:
    """The same with every cell as it is in the file."""
    if kind := name_other_kind(content):
        raise DataError([f"{path}: {kind}"])
    records = split_records(decode_text(content, path), path, schema)
    filled = [(row, record) for row, record in enumerate(records, start=1) if any(cell.strip() for cell in record)]
    if not filled:
        raise DataError([f"{path}: is empty; give a CSV with a header and a row for each patient"])
    header = [name.strip() for name in filled[0][1]]
    if len(header) == 1:
        raise DataError([f"{path}: {describe_single_column(schema, header[0])}"])
    check_is_header(schema, header, path)
    return Sheet(header, filled[1:])


def check_is_header(schema: Schema, header: list[str], path: Path) -> None:
    """Refuse a first row that holds values."""
    if len(find_columns(schema, header)) < fewest_known(schema) and looks_like_values(header):
        raise DataError([f"{path}: {describe_missing_header(schema, header)}"])


def decode_text(content: bytes, path: Path) -> str:
    """UTF-8, with or without a byte order mark; anything else is a `DataError`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"byte 0x{content[error.start]:02x} at position {error.start} is not UTF-8"
        raise DataError([f'{path}: is not text ({reason}); save it as "CSV UTF-8"']) from None
    if "\0" in text:
        raise DataError([f'{path}: is not text (it holds zero bytes); save it as "CSV UTF-8"'])
    return text


def take_table(sheet: Sheet, positions: Mapping[str, int], ignored: list[str]) -> Table:
    """The named columns of a sheet, each at its position."""
    return Table(
        rows=[row for row, _ in sheet.patients],
        cells={name: take_column(sheet.patients, place) for name, place in positions.items()},
        ignored=ignored,
        short_rows=sum(len(record) < len(sheet.header) for _, record in sheet.patients),
        notes=sheet.notes,
        in_file=sheet.in_file,
    )


def take_column(patients: Patients, position: int) -> list[str]:
    """The stripped cells of one column; a row that ends before it has an empty one."""
    return [record[position].strip() if position < len(record) else "" for _, record in patients]


def check_header(schema: Schema, names: list[str], header: list[str], path: Path, labelled: bool) -> None:
    """Refuse a header of another layout or data set, a column that is there twice, and the lack of one that must be known.

    `header` has our column for each of the `names`, or nothing. A feature that can be missing may be missing altogether.
    """
    missing = [name for name in schema.feature_names if name not in header]
    if labelled and not set(schema.outcome_names) & set(header):
        missing.append(name_outcome(schema))
    if missing and (fault := describe_other_layout(schema, names, labelled)):
        raise DataError([f"{path}: {fault}"])
    needed = [name for name in missing if name not in schema.places or not schema.columns[name].can_be_missing]
    faults = [f"{path}: {describe_missing(schema, needed)}"] if needed else []
    doubled = [name for name in schema.column_names if header.count(name) > 1]
    faults += [f"{path}: {name} stands {header.count(name)} times in the header; keep one" for name in doubled]
    if faults:
        raise DataError(faults)


def describe_other_layout(schema: Schema, names: list[str], labelled: bool) -> str:
    """What to do about a header whose columns have another layout's names or are another data set's; empty for ours."""
    found = find_columns(schema, names)
    features = [name for name in schema.feature_names if name in found]
    if len(features) < fewest_known(schema):
        return describe_foreign_header(schema, names)
    other = [(names[place], name) for name, place in found.items() if not own_column(schema, names[place])]
    foreign = [(text, name) for text, name in other if name in (*schema.feature_names, schema.outcome.name)]
    if not foreign:
        return ""
    shown = ", ".join(text for text, _ in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
    if labelled and not set(schema.outcome_names) & set(found):
        return (
            f"its columns have the names of another layout ({shown}), and none holds the diagnosis; "
            f"add it as {schema.outcome.name}"
        )
    if labelled:
        is_heart = schema.fingerprint == heart_disease().fingerprint  # whose copies create_dataset.py knows
        remedy = (
            "convert it with create_dataset.py --source FILE" if is_heart else "name them in a mapping (--mapping FILE)"
        )
        return f"its columns have the names of another layout ({shown}); {remedy}"
    renamed = ", ".join(f"{text} is {name}" for text, name in foreign if name in schema.places)
    return f"its columns have the names of another layout ({renamed}); give them the schema's names and codes"


def check_rows(sheet: Sheet, path: Path, minimum: int) -> None:
    """Refuse rows wider than the header and fewer patients than `minimum`."""
    patients, width = sheet.patients, len(sheet.header)
    too_wide = [
        f"{path}: row {row} has {len(record)} fields, the header {width}; does a value hold the separator, such as a "
        "decimal comma? write such values in quotation marks, or with a decimal point"
        for row, record in patients
        if len(record) > width
    ]
    if too_wide:
        raise DataError(too_wide)
    if not patients:
        raise DataError([f"{path}: has a header and no patients; give at least {minimum} row{'s' * (minimum > 1)}"])
    if len(patients) < minimum:
        need = f"needs at least {minimum} patients to train and test; has {len(patients)}"
        raise DataError([f"{path}: {need}"])
