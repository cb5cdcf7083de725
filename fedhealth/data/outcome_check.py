"""What is wrong with the outcome column of a table as a whole, judged from all its values and never from one patient."""

from collections.abc import Iterable, Mapping

import numpy as np

from fedhealth.data.cell_words import is_missing, parse_cell
from fedhealth.data.csv_table import Texts
from fedhealth.data.schema import Column, Schema

Cells = Mapping[str, Texts]
"""Column -> one text for each patient, or its numbers."""


def label_values(column: Column, texts: Iterable[str] | Texts) -> set[float]:
    """The distinct labels as numbers, without missing ones; infinity stands for text that is no label."""
    if isinstance(texts, np.ndarray):
        return set(np.unique(texts[~np.isnan(texts)]).tolist()) - set(column.missing_marks)
    values = {parse_cell(column, text) for text in set(texts) if not is_missing(text)}
    return values - set(column.missing_marks)


def graded_pair(schema: Schema) -> tuple[Column, Column] | None:
    """The outcomes as (0 or 1, grades from 0 with all above 0 positive), if the schema has exactly such two."""
    if len(schema.outcomes) != 2:
        return None
    grades = next(column for column in schema.outcomes if column != schema.outcome)
    binary = schema.outcome
    fits = set(binary.codes) == {0, 1} and binary.positive == (1,)
    return (
        (binary, grades) if fits and set(grades.codes) == {0, *grades.positive} and 0 not in grades.positive else None
    )


def find_label_fault(schema: Schema, cells: Cells) -> str:
    """One line about the outcome as a whole; empty if each label is to be judged by itself.

    A column without a negative patient may as well be written in other codes, so a second outcome column must confirm it.
    """
    values = {
        column.name: label_values(column, cells[column.name]) for column in schema.outcomes if column.name in cells
    }
    if (pair := graded_pair(schema)) is None:
        return describe_one_class(schema, values)
    binary, grades = pair
    if values.get(binary.name):
        return describe_target(binary, grades, values[binary.name], beside_num=bool(values.get(grades.name)))
    return describe_num(binary, grades, values.get(grades.name, set()))


def describe_one_class(schema: Schema, values: Mapping[str, set[float]]) -> str:
    """That all patients of a table have the same outcome, unless two columns of it confirm each other."""
    known = {name: found for name, found in values.items() if found and found <= set(schema.columns[name].codes)}
    if len(known) != 1:
        return ""
    ((name, found),) = known.items()
    column = schema.columns[name]
    sides = {value in column.positive for value in found}
    if len(sides) > 1:
        return ""
    words = " or ".join(f"{value:g} ({column.codes[int(value)]})" for value in sorted(found))
    lacking = " or ".join(str(code) for code in column.codes if (code in column.positive) not in sides)
    return (
        f"{name} is {words} in every row, so all patients are of one class; check its codes ({lacking} never occurs): a "
        "hospital needs patients of both classes"
    )


def describe_target(binary: Column, grades: Column, values: set[float], beside_num: bool) -> str:
    """What is wrong with all labels of the column of 0 and 1 together, and what to do."""
    name, codes = binary.name, set(grades.codes)
    if values == {1} and not beside_num:
        return (
            f"{name} is 1 in every row, so no patient is healthy; the healthy must have 0. If all are ill, "
            f"add the column {grades.name} with their grades (1 to {max(codes)}, or 1 for all) to confirm it"
        )
    if values in ({1, 2}, {2}):
        todo = f"name the column {grades.name} and add the column {name} with 1 in every row"
        return f"{describe_statlog(name)}; if they are grades of the ill, {todo}"
    if values > {0} and values <= codes and max(values) > 1:
        todo = f"write 1 for 1 to {max(codes)}, or leave out {name}" if beside_num else f"name the column {grades.name}"
        return f"{name} goes above 1: it holds the grades of {grades.name} (0 healthy, 1 to {max(codes)} ill); {todo}"
    if values <= codes and 0 not in values and values != {1}:
        return f"{name} is 0 in no row, so no patient is healthy; {name} must be 0 for the healthy and 1 for the ill"
    return ""


def describe_num(binary: Column, grades: Column, values: set[float]) -> str:
    """What is wrong with all labels of a column of grades that stands alone, and what to do."""
    confirm = f"if all are ill, add the column {binary.name} with 1 in every row to confirm it"
    if not values or 0 in values or not values <= set(grades.codes):
        return ""
    if values in ({1, 2}, {2}):
        return f"{describe_statlog(grades.name)}; {confirm}"
    return f"{grades.name} is 0 in no row, so no patient is healthy; the healthy must have 0; {confirm}"


def describe_statlog(name: str) -> str:
    """What to do about labels that are Statlog's, if they are."""
    statlog = "if these are the labels of Statlog's file (1 healthy, 2 ill), subtract 1 from each"
    return f"{name} holds only labels 1 and 2, never 0: {statlog}"
