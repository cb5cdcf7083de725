"""Cells as text -> numbers that the schema allows, or one line for each fault.

Ranges and codes are checked by pandera with a schema built from `schema.FEATURES`; the lines are made from its failure
cases. Nothing is corrected here except that marks of a missing value become NaN.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.common.errors import DataError
from fedhealth.common.safe_text import printable
from fedhealth.data.csv_table import Table
from fedhealth.data.schema import FEATURES, LABEL, TARGET, Column

if TYPE_CHECKING:
    import pandera.pandas as pa

TARGET_COLUMN = Column(TARGET, "diagnosis", "category", codes={0: "healthy", 1: "disease"}, can_be_missing=False)
COLUMNS: dict[str, Column] = {column.name: column for column in (*FEATURES, LABEL, TARGET_COLUMN)}
"""Name -> column, in the order in which faults of one row are told."""

MISSING_TEXTS = frozenset({"", "?", "na", "nan"})
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

KAGGLE = "is it a Kaggle copy? convert it with create_dataset.py --source FILE"
HINTS: dict[str, tuple[float, float, str]] = {
    "cp": (0, 0, KAGGLE),
    "trestbps": (5, 40, "is it in kPa? multiply by 7.5"),
    "chol": (1, 20, "is it in mmol/l? multiply by 38.67"),
    "slope": (0, 0, KAGGLE),
    "thal": (0, 2, KAGGLE),
}
"""Column -> (lowest, highest, what to do): refused values that betray another unit or coding."""


def validate_table(table: Table, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Numbers of all features and labels, and the warnings about marks of a missing value.

    Returns
    -------
    A float64 frame, one row for each patient (index: the spreadsheet's row), columns in the order of `COLUMNS`, NaN =
    missing; `target` is complete, whichever of the two labels the file has. And one line for each column and mark.

    Raises
    ------
    DataError
        One line for each fault, by row and column.
    """
    values = parse_numbers(table)
    warnings = replace_missing_marks(values)
    if faults := sorted(find_faults(values, table)):
        raise DataError([f"{path}: row {row}: {line}" for row, _, line in faults])
    if LABEL.name in values:
        disease = (values[LABEL.name] > 0).astype(np.float64)
        values[TARGET] = values[TARGET].fillna(disease) if TARGET in values else disease
    return values, warnings


def parse_number(text: str) -> float:
    """NaN for a missing value; infinity for text that is no number, because no range and no code holds that."""
    if text.lower() in MISSING_TEXTS:
        return float("nan")
    return float(text) if NUMBER.fullmatch(text) else float("inf")


def parse_numbers(table: Table) -> pd.DataFrame:
    """All known columns that the file has; each distinct text is parsed once."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name in COLUMNS:
        if name in table.cells:
            number_of = {text: parse_number(text) for text in set(table.cells[name])}
            columns[name] = np.array([number_of[text] for text in table.cells[name]], dtype=np.float64)
    return pd.DataFrame(columns, index=table.rows)


def replace_missing_marks(values: pd.DataFrame) -> list[str]:
    """Turn marks such as -9 into NaN, in place; one warning for each column and mark."""
    warnings = []
    for name in values:
        for mark in COLUMNS[str(name)].missing_marks:
            marked = values[name] == mark
            if marked.any():
                values.loc[marked, name] = np.nan
                warnings.append(f"{name}: {mark:g} is read as missing (in {marked.sum()} of {len(marked)} rows)")
    return warnings


def build_schema(names: list[str]) -> "pa.DataFrameSchema":
    """The ranges and codes of the named columns, as pandera checks them."""
    import pandera.pandas as pa

    both_labels = {LABEL.name, TARGET} <= set(names)
    columns = {}
    for column in (COLUMNS[name] for name in names):
        check = pa.Check.isin(list(column.codes)) if column.codes else pa.Check.in_range(column.minimum, column.maximum)
        # With two label columns one may be empty: find_label_faults looks at both.
        nullable = column.can_be_missing or (both_labels and column.name in (LABEL.name, TARGET))
        columns[column.name] = pa.Column(float, check, nullable=nullable)
    return pa.DataFrameSchema(columns)


def find_faults(values: pd.DataFrame, table: Table) -> Iterator[tuple[int, int, str]]:
    """(row, position of the column, line) of each fault, unsorted."""
    import pandera.pandas as pa

    order = {name: position for position, name in enumerate(COLUMNS)}
    patient_of = {row: patient for patient, row in enumerate(table.rows)}
    try:
        build_schema(list(values.columns)).validate(values, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        for row, name in zip(cases["index"].tolist(), cases["column"].tolist(), strict=True):
            text = table.cells[name][patient_of[row]]
            yield row, order[name], describe_fault(COLUMNS[name], text)
    if {LABEL.name, TARGET} <= set(values.columns):
        for row, line in find_label_faults(values[LABEL.name], values[TARGET]):
            yield row, order[TARGET], line


def find_label_faults(num: "pd.Series[float]", target: "pd.Series[float]") -> Iterator[tuple[int, str]]:
    """(row, line) where both labels are missing, or both are good codes and say different things."""
    for row in num.index[num.isna() & target.isna()]:
        yield row, f"{TARGET} and {LABEL.name} are both missing; fill in one or drop the row"
    both = num.isin(LABEL.codes) & target.isin(TARGET_COLUMN.codes)
    for row in num.index[both & ((num > 0) != (target > 0))]:
        told = f"{TARGET} is {target[row]:g} but {LABEL.name} is {num[row]:g}"
        yield row, f"{told}; {TARGET} must be 1 where {LABEL.name} is above 0, else 0; correct one of them"


def describe_fault(column: Column, text: str) -> str:
    """One line: what the cell holds, what it may hold, what to do."""
    value = parse_number(text)
    allowed = describe_allowed(column)
    if np.isnan(value) or value in column.missing_marks:
        mark = f" ({printable(text, 40)})" if text else ""
        return f"{column.name} is missing{mark}; give {allowed} or drop the row"
    unit = "" if column.codes else f" {column.unit}"
    remedy = find_hint(column, text) or (
        "correct the value or leave the cell empty" if column.can_be_missing else "correct the value or drop the row"
    )
    if not NUMBER.fullmatch(text):
        return f'{column.name} is "{printable(text, 40)}", not {allowed}; {remedy}'
    outside = f"not {allowed}" if column.codes else f"outside {column.minimum:g}..{column.maximum:g}"
    return f"{column.name} is {printable(text, 40)}{unit}, {outside}; {remedy}"


def describe_allowed(column: Column) -> str:
    """The codes with their meanings, or the range with its unit."""
    if column.codes:
        return "one of " + ", ".join(f"{code} ({meaning})" for code, meaning in column.codes.items())
    return f"a number of {column.unit} in {column.minimum:g}..{column.maximum:g}"


def find_hint(column: Column, text: str) -> str:
    """What the refused cell probably is, or nothing."""
    if NUMBER.fullmatch(text.replace(",", ".", 1)) and "," in text:
        return "write the decimal comma as a point"
    lowest, highest, hint = HINTS.get(column.name, (1, 0, ""))
    return hint if lowest <= parse_number(text) <= highest else ""
