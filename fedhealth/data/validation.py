"""Cells as text -> numbers that the schema allows, or one line for each fault.

Nothing is corrected here; words become the codes that they stand for, and marks of a missing value NaN.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.common.errors import DataError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER, OTHER_MARKS, parse_cell, parse_number
from fedhealth.data.csv_table import Table, Texts
from fedhealth.data.decimals import DECIMAL_COMMA
from fedhealth.data.outcome_check import find_label_fault, graded_pair
from fedhealth.data.schema import Column, Schema
from fedhealth.data.scheme_check import find_scheme_fault
from fedhealth.data.separators import holds_several_values
from fedhealth.data.suspect_values import find_suspect_values


def validate_table(schema: Schema, table: Table, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Numbers of all features and labels, and the warnings about marks of a missing value and suspect values.

    Returns
    -------
    A float64 frame, one row for each patient (index: the spreadsheet's row), columns in the order of `schema.columns`,
    NaN = missing; `schema.outcome` is complete, whichever outcome the file has. And one line for each warning.

    Raises
    ------
    DataError
        One line for each fault, by row and column; or a single line about the codes of the whole table.
    """
    if fault := find_label_fault(schema, table.columns):
        raise DataError([f"{path}: {fault}"])
    columns = parse_numbers(schema, table)
    warnings = [*find_other_marks(schema, table), *replace_missing_marks(schema, columns)]
    values = pd.DataFrame(columns, index=table.rows, copy=False)
    if faults := sorted(find_faults(schema, values, table)):
        if scheme := find_scheme_fault(schema, table.columns, len(table.rows)):
            raise DataError([f"{path}: {scheme}"])
        raise DataError([f"{path}: row {row}: {line}" for row, _, line in faults])
    complete_outcome(schema, values)
    return values, [*warnings, *find_suspect_values(schema, values)]


def complete_outcome(schema: Schema, values: pd.DataFrame) -> None:
    """Fill `schema.outcome` from the other outcome columns where it is missing, in place; they agree where both are known."""
    ours = schema.outcome
    negative = next(code for code in ours.codes if code not in ours.positive)
    for column in schema.outcomes:
        if column.name in values and column.name != ours.name:
            known = values[column.name].isin(column.positive).map({True: ours.positive[0], False: negative})
            filled = known.where(values[column.name].notna()).astype(np.float64)
            values[ours.name] = values[ours.name].fillna(filled) if ours.name in values else filled


def labels_of(schema: Schema, values: pd.DataFrame) -> NDArray[np.float32]:
    """The labels (num_patients,) of a validated table: 1 = positive."""
    positive = values[schema.outcome.name].isin(schema.outcome.positive)
    return positive.to_numpy().astype(np.float32)


def parse_numbers(schema: Schema, table: Table) -> dict[str, NDArray[np.float64]]:
    """All known columns that the file has; each distinct text is parsed once."""
    found = table.columns
    return {name: parse_texts(column, found[name]) for name, column in schema.columns.items() if name in found}


def parse_texts(column: Column, texts: Texts) -> NDArray[np.float64]:
    """The numbers of a column's cells."""
    if not isinstance(texts, list):
        return texts
    number_of = {text: parse_cell(column, text) for text in set(texts)}
    return np.array([number_of[text] for text in texts], dtype=np.float64)


def find_other_marks(schema: Schema, table: Table) -> list[str]:
    """One warning about all marks of a missing value that data/README.md does not name, such as NULL."""
    found = [
        (text, name, count)
        for name in schema.columns
        for text, count in (table.marks.get(name) or Counter(table.cells.get(name, ()))).items()
        if text.lower() in OTHER_MARKS
    ]
    if not found:
        return []
    marks = list(dict.fromkeys(f'"{mark}"' for mark, _, _ in found))
    names = dict.fromkeys(name for _, name, _ in found)
    total = sum(count for _, _, count in found)
    verb, plural = ("are" if len(marks) > 1 else "is"), "s" * (total > 1)
    return [f"{', '.join(marks)} {verb} read as missing (in {total} cell{plural} of {', '.join(names)})"]


def replace_missing_marks(schema: Schema, columns: dict[str, NDArray[np.float64]]) -> list[str]:
    """Replace columns with marks such as -9 by ones with NaN instead; one warning for each column and mark."""
    warnings = []
    for name, values in list(columns.items()):
        for mark in schema.columns[name].missing_marks:
            if count := np.count_nonzero(values == mark):
                columns[name] = np.where(columns[name] == mark, np.nan, columns[name])
                warnings.append(f"{name}: {mark:g} is read as missing (in {count} of {len(values)} rows)")
    return warnings


def find_faults(schema: Schema, values: pd.DataFrame, table: Table) -> Iterator[tuple[int, int, str]]:
    """(row, position of the column, line) of each fault, unsorted."""
    order = {name: position for position, name in enumerate(schema.columns)}
    several = len(set(schema.outcome_names) & set(values.columns)) > 1
    for name in values:
        column = schema.columns[str(name)]
        # With two outcome columns one may be empty: they are looked at together below.
        nullable = column.can_be_missing or (several and column.name in schema.outcome_names)
        for patient in np.flatnonzero(~is_allowed(column, values[name].to_numpy(), nullable)).tolist():
            yield (
                table.rows[patient],
                order[column.name],
                cell_in_file(table, column.name, patient)
                + describe_fault(column, cell_text(table, column.name, patient)),
            )
    outcomes = [column for column in schema.outcomes if column.name in values]
    for first, second in itertools.combinations(sorted(outcomes, key=lambda each: each != schema.outcome), 2):
        absent = values[first.name].isna() & values[second.name].isna()
        for row in values.index[absent]:
            yield (
                row,
                order[first.name],
                f"{first.name} and {second.name} are both missing; fill in one or drop the row",
            )
        for row, line in find_disagreements(values, first, second):
            yield row, order[first.name], f"{line}; {describe_agreement(schema, first, second)}"


def is_allowed(column: Column, values: NDArray[np.float64], nullable: bool) -> NDArray[np.bool_]:
    """Whether each value (num_patients,) is a code of the column, or in its range."""
    known = (
        np.isin(values, list(column.codes)) if column.codes else (column.minimum <= values) & (values <= column.maximum)
    )
    allowed: NDArray[np.bool_] = known | np.isnan(values) if nullable else known
    return allowed


def cell_text(table: Table, name: str, patient: int) -> str:
    """One cell as text."""
    cell = table.columns[name][patient]
    return cell if isinstance(cell, str) else f"{cell:g}"


def cell_in_file(table: Table, name: str, patient: int) -> str:
    """What begins the line about a cell that a mapping has changed: what the hospital finds in its file."""
    if name not in table.in_file:
        return ""
    in_file, texts = table.in_file[name]
    if in_file.casefold() == name.casefold() and texts[patient] == cell_text(table, name, patient):
        return ""
    return f"{printable(in_file, 40)} is {printable(texts[patient], 40) or 'empty'} in the file, so "


def find_disagreements(values: pd.DataFrame, first: Column, second: Column) -> Iterator[tuple[int, str]]:
    """(row, line) where both outcomes are valid and contradict each other."""
    one, two = values[first.name], values[second.name]
    both = one.isin(first.codes) & two.isin(second.codes)
    for row in one.index[both & (one.isin(first.positive) != two.isin(second.positive))]:
        yield row, f"{first.name} is {one[row]:g} but {second.name} is {two[row]:g}"


def describe_agreement(schema: Schema, first: Column, second: Column) -> str:
    """How two outcomes have to agree."""
    if graded_pair(schema):
        return f"{first.name} must be 1 where {second.name} is above 0, else 0; correct one of them"
    positive = f"{name_codes(first)} where {second.name} is {name_codes(second)}"
    return f"{first.name} must be {positive}, and only there; correct one of them"


def name_codes(column: Column) -> str:
    """The codes of the positive patients, such as `1 to 4` or `2 or 5`."""
    codes = sorted(column.positive)
    if len(codes) > 2 and codes == list(range(codes[0], codes[-1] + 1)):
        return f"{codes[0]} to {codes[-1]}"
    return " or ".join(map(str, codes))


def describe_fault(column: Column, text: str) -> str:
    """One line: what the cell holds, what it may hold, what to do."""
    value = parse_number(text)
    allowed = describe_allowed(column)
    if np.isnan(value) or value in column.missing_marks:
        mark = f" ({printable(text, 40)})" if text else ""
        return f"{column.name} is missing{mark}; give {allowed} or drop the row"
    unit = f" {column.unit}" if column.unit and not column.codes else ""
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
    number = f"a number of {column.unit}" if column.unit else "a number"
    return f"{number} in {column.minimum:g}..{column.maximum:g}"


def find_hint(column: Column, text: str) -> str:
    """What the refused cell probably is, or nothing; of several possible units none is chosen."""
    if DECIMAL_COMMA.fullmatch(text):
        return "write the decimal comma as a point"
    value = parse_number(text)
    units = [
        f"{unit} (then multiply it by {each.factor:g}{describe_offset(each.offset)})"
        for unit, each in column.other_units.items()
        if column.minimum <= each.convert(value) <= column.maximum
    ]
    return f"is it in {' or in '.join(units)}? give {column.unit}" if units else ""


def describe_offset(offset: float) -> str:
    """What to do after the factor."""
    if not offset:
        return ""
    return f" and add {offset:g}" if offset > 0 else f" and subtract {-offset:g}"
