"""Cells as text -> numbers that the schema allows, or one line for each fault.

Ranges and codes are checked by pandera with a schema built from `schema.FEATURES`; the lines are made from its failure
cases. Nothing is corrected here; words become the codes that they stand for, and marks of a missing value NaN.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.common.errors import DataError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER, OTHER_MARKS, TARGET_COLUMN, parse_cell, parse_number
from fedhealth.data.code_schemes import CODED, UCI, find_foreign, nearest_scheme
from fedhealth.data.csv_table import DECIMAL_COMMA, Table
from fedhealth.data.label_codes import find_label_fault
from fedhealth.data.schema import FEATURES, LABEL, TARGET, Column
from fedhealth.data.separators import holds_several_values
from fedhealth.data.suspect_values import find_suspect_values

if TYPE_CHECKING:
    import pandera.pandas as pa

COLUMNS: dict[str, Column] = {column.name: column for column in (*FEATURES, LABEL, TARGET_COLUMN)}
"""Name -> column, in the order in which faults of one row are reported."""

OTHER_UNITS: dict[str, tuple[tuple[str, float], ...]] = {
    "trestbps": (("kPa", 7.5), ("cmHg", 10)),
    "chol": (("mmol/l", 38.67), ("g/l", 100)),
}
"""Column -> other units in use, with the factor that gives ours."""
FEWEST_FOR_A_SCHEME = 10
"""Rows below which wrong codes are reported cell by cell: too few to distinguish another scheme from a typing error."""
CLEARLY = 10
"""How many times fewer cells another scheme must leave unexplained than UCI's codes do."""


def validate_table(table: Table, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Numbers of all features and labels, and the warnings about marks of a missing value and suspect values.

    Returns
    -------
    A float64 frame, one row for each patient (index: the spreadsheet's row), columns in the order of `COLUMNS`, NaN =
    missing; `target` is complete, whichever of the two labels the file has. And one line for each warning.

    Raises
    ------
    DataError
        One line for each fault, by row and column; or a single line about the codes of the whole table.
    """
    if fault := find_label_fault(table.cells) or find_scheme_fault(table):
        raise DataError([f"{path}: {fault}"])
    values = parse_numbers(table)
    warnings = [*find_other_marks(table), *replace_missing_marks(values)]
    if faults := sorted(find_faults(values, table)):
        raise DataError([f"{path}: row {row}: {line}" for row, _, line in faults])
    if LABEL.name in values:
        disease = (values[LABEL.name] > 0).astype(np.float64)
        values[TARGET] = values[TARGET].fillna(disease) if TARGET in values else disease
    return values, [*warnings, *find_suspect_values(values)]


def find_scheme_fault(table: Table) -> str:
    """What to do about a table whose codes are another layout's throughout; empty if they are not."""
    foreign, least = find_foreign(UCI, table.cells), find_foreign(nearest_scheme(table.cells), table.cells)
    if len(table.rows) < FEWEST_FOR_A_SCHEME or not foreign or CLEARLY * len(least) > len(foreign):
        return ""
    names = [name for name in CODED if name in {column for _, column in foreign}]
    labelled = {LABEL.name, TARGET} & set(table.cells)
    remedy = "convert the file with create_dataset.py --source FILE" if labelled else "write UCI's codes"
    return (
        f"{', '.join(names)}: not UCI's codes but those of another layout, counted from 0; {remedy} (docs/own-files.md)"
    )


def parse_numbers(table: Table) -> pd.DataFrame:
    """All known columns that the file has; each distinct text is parsed once."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name in COLUMNS:
        if name in table.cells:
            number_of = {text: parse_cell(name, text) for text in set(table.cells[name])}
            columns[name] = np.array([number_of[text] for text in table.cells[name]], dtype=np.float64)
    return pd.DataFrame(columns, index=table.rows)


def find_other_marks(table: Table) -> list[str]:
    """One warning for each mark of a missing value that data/README.md does not name, such as NULL."""
    texts = [(text, name) for name in COLUMNS for text in table.cells.get(name, ()) if text.lower() in OTHER_MARKS]
    marks = {text: [name for mark, name in texts if mark == text] for text in dict.fromkeys(mark for mark, _ in texts)}
    return [
        f'"{mark}" is read as missing (in {len(names)} cell{"s" * (len(names) > 1)} of {", ".join(dict.fromkeys(names))})'
        for mark, names in marks.items()
    ]


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
        for row, line in find_disagreements(values[LABEL.name], values[TARGET]):
            yield row, order[TARGET], line


def find_disagreements(num: "pd.Series[float]", target: "pd.Series[float]") -> Iterator[tuple[int, str]]:
    """(row, line) where both labels are missing, or both are valid and contradict each other."""
    for row in num.index[num.isna() & target.isna()]:
        yield row, f"{TARGET} and {LABEL.name} are both missing; fill in one or drop the row"
    both = num.isin(LABEL.codes) & target.isin(TARGET_COLUMN.codes)
    for row in num.index[both & ((num > 0) != (target > 0))]:
        pair = f"{TARGET} is {target[row]:g} but {LABEL.name} is {num[row]:g}"
        yield row, f"{pair}; {TARGET} must be 1 where {LABEL.name} is above 0, else 0; correct one of them"


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
        shown = "not one value but several" if holds_several_values(text) else f'"{printable(text, 40)}", not {allowed}'
        return f"{column.name} is {shown}; {remedy}"
    outside = f"not {allowed}" if column.codes else f"outside {column.minimum:g}..{column.maximum:g}"
    return f"{column.name} is {printable(text, 40)}{unit}, {outside}; {remedy}"


def describe_allowed(column: Column) -> str:
    """The codes with their meanings, or the range with its unit."""
    if column.codes:
        return "one of " + ", ".join(f"{code} ({meaning})" for code, meaning in column.codes.items())
    return f"a number of {column.unit} in {column.minimum:g}..{column.maximum:g}"


def find_hint(column: Column, text: str) -> str:
    """What the refused cell probably is, or nothing; of several possible units none is chosen."""
    if DECIMAL_COMMA.fullmatch(text):
        return "write the decimal comma as a point"
    value = parse_number(text)
    units = [
        f"{unit} (then multiply it by {factor:g})"
        for unit, factor in OTHER_UNITS.get(column.name, ())
        if column.minimum <= value * factor <= column.maximum
    ]
    return f"is it in {' or in '.join(units)}? give {column.unit}" if units else ""
