"""Text -> the records of a spreadsheet; the separator is found from the header and must hold for all rows.

Python's own `csv` reads the records, because they are a spreadsheet's rows: blank lines count, a quoted line break does
not, and the row numbers in our messages are those that the hospital sees.
"""

import csv
import io
import re
from pathlib import Path

from fedhealth.common.errors import DataError
from fedhealth.common.safe_text import printable
from fedhealth.data.layouts import count_known, describe_missing_header, looks_like_values
from fedhealth.data.schema import Schema

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
DECLARATION = re.compile(r'[ \t]*"?sep=(.)"?[,;|\t ]*\r?\n', re.IGNORECASE)
"""The line that tells Excel the separator; Excel does not count it as a row."""
VALUE = re.compile(r"\d+(?:\.\d+)?")
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?", re.ASCII)


def split_records(text: str, path: Path, schema: Schema) -> list[list[str]]:
    """All records of a file, blank ones included.

    Raises
    ------
    DataError
        A broken quotation; a header that several separators split; rows that another separator splits.
    """
    declared = DECLARATION.match(text)
    text = text[declared.end() :] if declared else text
    separator = declared[1] if declared and declared[1] in SEPARATORS else find_separator(text, path, schema)
    records = parse_records(text, separator, path)
    check_separator(records, separator, path)
    return records


def find_separator(text: str, path: Path, schema: Schema) -> str:
    """The separator that splits the first record into most known names; a `DataError` if two do it equally well."""
    headers = {separator: first_record(text, separator) for separator in SEPARATORS}
    split = [separator for separator in SEPARATORS if len(headers[separator]) > 1]
    most = max((count_known(schema, headers[separator]) for separator in split), default=0)
    best = [separator for separator in split if count_known(schema, headers[separator]) == most]
    if len(best) > 1 and not looks_like_values(headers[best[0]]):
        names = " or by ".join(SEPARATORS[separator] for separator in best)
        raise DataError([f"{path}: its first line can be split by {names}; save it with one separator"])
    return best[0] if best else ","


def first_record(text: str, separator: str) -> list[str]:
    """The first record that is not blank; empty if there is none, or its quotation is broken."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        return next((record for record in reader if any(cell.strip() for cell in record)), [])
    except csv.Error:
        return []


def parse_records(text: str, separator: str, path: Path) -> list[list[str]]:
    """Split into rows of fields; a broken quotation is a `DataError`."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        fault = f"line {reader.line_num}: {error}; check the quotation marks up to this line"
        raise DataError([f"{path}: {fault}"]) from None


def check_separator(records: list[list[str]], separator: str, path: Path) -> None:
    """Refuse rows of one field that another separator would split, below a header of several."""
    filled = [(row, record) for row, record in enumerate(records, start=1) if any(cell.strip() for cell in record)]
    if not filled or len(filled[0][1]) == 1:
        return
    others = [other for other in SEPARATORS if other != separator]
    odd = [(row, other) for row, record in filled if len(record) == 1 for other in others if other in record[0]]
    if odd:
        row, other = odd[0]
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        fault = f"row {row}{more} is separated by {SEPARATORS[other]}, the header by {SEPARATORS[separator]}"
        raise DataError([f"{path}: {fault}; save it with one separator"])


def describe_single_column(schema: Schema, header: str) -> str:
    """What to say of a header that no separator splits; prints nothing of it, because it may be a patient's row."""
    inside = max((header.split(separator) for separator in SEPARATORS), key=lambda fields: count_known(schema, fields))
    if count_known(schema, inside) > 1 or (len(inside) > 1 and looks_like_values(inside)):
        return "each of its lines is one text in quotation marks; remove the marks at both ends of every line"
    words = header.split()
    if len(words) > 1 and looks_like_values(words):
        return describe_missing_header(schema, words, blanks=True)
    if count_known(schema, words) > 1:
        return "its columns are separated by blanks; save it with commas"
    return "is no table with a header line and commas; give the hospital's CSV"


def holds_several_values(text: str) -> bool:
    """Whether a cell may be a whole row, which must not be printed: it holds a separator or more than two numbers.

    A date is one value.
    """
    if DATE.fullmatch(text):
        return False
    return any(separator in text for separator in ";\t|") or len(VALUE.findall(text)) > 2


def show_cell(text: str) -> str:
    """A cell as an error may print it: in one line, short, and not a whole row."""
    return "several values" if holds_several_values(text) else printable(text, 40)
