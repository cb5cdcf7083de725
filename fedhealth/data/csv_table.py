"""A CSV file -> its cells as text, column by column; what the cells mean is not judged here.

Python's own `csv` reads the file, because its records are a spreadsheet's rows: blank lines count, a quoted line break
does not, and the row numbers in our messages are those that the hospital sees.
"""

import csv
import io
import stat
from dataclasses import dataclass
from pathlib import Path

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.patients import MINIMUM_PATIENTS
from fedhealth.data.schema import COLUMN_NAMES, FEATURE_NAMES, LABEL, TARGET

KAGGLE_HEADINGS = frozenset({"thalch", "ChestPainType", "RestingBP", "Cholesterol", "MaxHR", "HeartDisease"})
"""Names of columns that only Kaggle copies of the UCI data have; `sources.kaggle` converts them."""


@dataclass(frozen=True)
class Table:
    """The known columns of a CSV as stripped text."""

    rows: list[int]
    """The spreadsheet's number of each patient's row (the header is row 1)."""
    cells: dict[str, list[str]]
    """Column -> one text for each patient."""
    ignored: list[str]
    """Names of the columns that are none of ours."""
    short_rows: int
    """Rows with fewer fields than the header, as some spreadsheets write them when the last cells are empty."""


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


def parse_table(content: bytes, path: Path, labelled: bool = True) -> Table:
    """Bytes of a CSV -> `Table`; a file that is no such table is a `DataError`.

    Patients to learn from are `labelled` and at least ten; for a prediction one is enough, and no label is asked for or read.
    """
    records = parse_records(decode_text(content, path), path)
    filled = [(row, record) for row, record in enumerate(records, start=1) if any(cell.strip() for cell in record)]
    if not filled:
        raise DataError([f"{path}: is empty; give a CSV with a header and a row for each patient"])
    header = [name.strip() for name in filled[0][1]]
    patients = filled[1:]
    check_header(header, path, labelled)
    check_rows(patients, len(header), path, MINIMUM_PATIENTS if labelled else 1)
    read = [name for name in COLUMN_NAMES if name in header and (labelled or name in FEATURE_NAMES)]
    return Table(
        rows=[row for row, _ in patients],
        cells={name: take_column(patients, header.index(name)) for name in read},
        ignored=[name for name in header if name not in COLUMN_NAMES],
        short_rows=sum(len(record) < len(header) for _, record in patients),
    )


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


def parse_records(text: str, path: Path) -> list[list[str]]:
    """Split into rows of fields; a broken quotation is a `DataError`."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        fault = f"line {reader.line_num}: {error}; check the quotation marks up to this line"
        raise DataError([f"{path}: {fault}"]) from None


def take_column(patients: list[tuple[int, list[str]]], position: int) -> list[str]:
    """The stripped cells of one column; a row that ends before it has an empty one."""
    return [record[position].strip() if position < len(record) else "" for _, record in patients]


def check_header(header: list[str], path: Path, labelled: bool) -> None:
    """Refuse another separator, values or other names instead of ours, a known column twice or not at all."""
    if header[0].lower().startswith("sep="):
        first = printable(",".join(header), 40)
        raise DataError([f'{path}: its first line, "{first}", is for Excel only; remove it, and save it with commas'])
    if len(header) == 1:
        raise DataError([f"{path}: {describe_separator(header[0])}"])
    missing = [name for name in FEATURE_NAMES if name not in header]
    if labelled and TARGET not in header and LABEL.name not in header:
        missing.append(f"{TARGET} (or {LABEL.name})")
    if len(missing) >= len(FEATURE_NAMES) and header[0].replace(".", "").isdecimal():
        raise DataError([f"{path}: the first row holds values, not the columns' names; add a header row"])
    if missing and (hint := describe_other_names(header)):
        raise DataError([f"{path}: {hint}"])
    doubled = [name for name in COLUMN_NAMES if header.count(name) > 1]
    faults = [f"{path}: missing columns: {', '.join(missing)}; add them to the header"] if missing else []
    faults += [f"{path}: {name} stands {header.count(name)} times in the header; keep one" for name in doubled]
    if faults:
        raise DataError(faults)


def describe_other_names(header: list[str]) -> str:
    """What to do about names that are nearly ours; nothing if there are none."""
    if kaggle := [name for name in header if name in KAGGLE_HEADINGS]:
        return (
            f"its columns are named as in a Kaggle copy ({kaggle[0]}); convert it with create_dataset.py --source FILE"
        )
    for name in header:
        if (small := name.lower()) in COLUMN_NAMES and small not in header:
            return f"its header has {name} where {small} is meant; write the columns' names in small letters"
    return ""


def describe_separator(header: str) -> str:
    """What to say of a header without a comma."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in header:
            return f"its columns are separated by {name}; save it with commas (and decimal points)"
    return f'is no comma-separated table (its first row is "{printable(header, 40)}"); give the hospital\'s CSV'


def check_rows(patients: list[tuple[int, list[str]]], width: int, path: Path, minimum: int) -> None:
    """Refuse rows wider than the header and fewer patients than `minimum`."""
    too_wide = [
        f"{path}: row {row} has {len(record)} fields, the header {width}; is there a comma inside a value?"
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
