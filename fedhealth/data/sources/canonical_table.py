"""Raw rows in UCI's codes -> the canonical table, strictly checked against the schema.

The rows are those of the UCI files; a CSV in another layout is read and checked by `csv_source.py`.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER
from fedhealth.data.schema import Column
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, FEATURES, HOSPITAL, HOSPITALS, LABEL, TARGET

MISSING = "?"
RAW_COLUMNS = (*FEATURES, LABEL)


@dataclass(frozen=True)
class Source:
    """A canonical table and where it came from."""

    name: str
    """uci, synthetic, own, uci-copy, or a Kaggle copy by its number of rows: kaggle-303, -918, -920, -1025, -1190."""
    description: str
    """One line for the console: what it is, and how many patients."""
    table: pd.DataFrame
    """Columns of its schema; missing values are NaN."""
    sha256: dict[str, str]
    """Input file name -> sum; empty for invented patients."""
    warnings: tuple[str, ...] = ()
    """What limits the results, one line each."""


@dataclass(frozen=True)
class RawRow:
    """One patient as text: 14 fields in UCI's order and codes, `?` for missing."""

    row_num: int
    """The line in the file, counted from 1 as an editor does."""
    hospital: str
    fields: tuple[str, ...]


def split_lines(content: bytes, file: str) -> list[tuple[int, list[str]]]:
    """Comma separated text -> (line number, fields) of every line that is not blank.

    A byte order mark and any line ends are fine.

    Raises
    ------
    UsageError
        The bytes are no text, or the text is no CSV.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        return [(reader.line_num, [text.strip() for text in fields]) for fields in reader if fields]
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file}: byte {error.start} is not UTF-8 text; save the file as comma separated text"
        ) from error
    except csv.Error as error:
        raise UsageError(f"{file}: not comma separated text ({error}); save the file as CSV") from error


def fault_line(file: str, row_num: int, fault: str, can_be_missing: bool = False) -> str:
    """One line of a `DataError`: the fault, and what to do."""
    otherwise = f"write {MISSING} for it" if can_be_missing else "drop the row"
    return f"{file}: row {row_num}: {fault}; correct the file or {otherwise}"


def parse_value(column: Column, text: str) -> float:
    """One field in UCI's codes -> its value, NaN if it is missing.

    Raises
    ------
    ValueError
        Says what is wrong with the field: no number, missing where it must not be, or out of range.
    """
    if text != MISSING and not NUMBER.fullmatch(text):
        raise ValueError(f"{column.name} is {printable(text, 40)!r}, expected a number or ?")
    value = float("nan") if text == MISSING else float(text)
    if text == MISSING or value in column.missing_marks:
        if column.can_be_missing:
            return float("nan")
        raise ValueError(f"{column.name} is missing ({text})")
    if column.codes and value not in column.codes:
        raise ValueError(f"{column.name} is {value:g}, expected one of {', '.join(map(str, column.codes))}")
    if not column.minimum <= value <= column.maximum:
        raise ValueError(f"{column.name} is {value:g} {column.unit}, outside {column.minimum:g}..{column.maximum:g}")
    return value


def parse_row(row: RawRow, file: str) -> tuple[list[float], list[str]]:
    """14 fields -> (14 values, fault lines)."""
    if len(row.fields) != len(RAW_COLUMNS):
        fault = f"{len(row.fields)} fields, expected {len(RAW_COLUMNS)}"
        return [], [fault_line(file, row.row_num, fault)]
    values, faults = [], []
    for column, text in zip(RAW_COLUMNS, row.fields, strict=True):
        try:
            values.append(parse_value(column, text))
        except ValueError as error:
            faults.append(fault_line(file, row.row_num, str(error), column.can_be_missing))
    return values, faults


def build_table(rows: Sequence[RawRow], file: str) -> pd.DataFrame:
    """Raw rows -> canonical table (num_rows x 16: 13 features as float64, `num`, `target`, `hospital`), order kept.

    Raises
    ------
    UsageError
        No rows, or (as `DataError`) one line for every faulty field, naming file, row and column.
    """
    if not rows:
        raise UsageError(f"{file}: no patients in it; give a file with at least one row")
    parsed = [parse_row(row, file) for row in rows]
    if faults := [fault for _, row_faults in parsed for fault in row_faults]:
        raise DataError(faults)
    table = pd.DataFrame([values for values, _ in parsed], columns=[*FEATURE_NAMES, LABEL.name], dtype="float64")
    table[LABEL.name] = table[LABEL.name].astype("int64")
    table[TARGET] = (table[LABEL.name] > 0).astype("int64")
    table[HOSPITAL] = pd.Series([row.hospital for row in rows], dtype="str")
    return table[list(COLUMN_NAMES)]


def sort_by_hospital(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of `HOSPITALS`, file order kept inside each; unknown hospitals last."""
    place = {name: index for index, name in enumerate(HOSPITALS)}
    order = table[HOSPITAL].map(lambda name: place.get(name, len(place)))
    return table.loc[order.sort_values(kind="stable").index].reset_index(drop=True)
