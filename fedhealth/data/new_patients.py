"""Patients without a diagnosis, or whose diagnosis is not read: a CSV or flags -> checked features."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.cell_words import code_of
from fedhealth.data.csv_table import Sheet, Table, parse_sheet, read_sheet, take_column
from fedhealth.data.hospital import find_table_warnings
from fedhealth.data.schema import FEATURE_NAMES, FEATURES
from fedhealth.data.validation import validate_table

FLAGS = Path("flags")
"""Stands for the path of a patient who is given by flags."""


@dataclass(frozen=True, eq=False)
class NewPatients:
    """Patients to predict; its `repr` shows no value."""

    features: NDArray[np.float64] = field(repr=False)
    """(num_patients, 13), as in `Patients`."""
    rows: tuple[int, ...]
    """The spreadsheet's number of each patient's row."""
    warnings: tuple[str, ...]
    ids: tuple[str, ...] = field(default=(), repr=False)
    """Each patient's cell in the ID column; empty without one."""


def read_new_patients(content: bytes, path: Path, id_column: str | None = None) -> NewPatients:
    """The patients of a CSV: checked like a hospital's, but labels are not read and one patient is enough.

    The cells of `id_column` are taken as they are.

    Raises
    ------
    UsageError
        The header does not have `id_column` exactly once.
    DataError
        The file is no CSV with the 13 features, or has values that the schema refuses: one line for each.
    """
    sheet = read_sheet(content, path)
    table = parse_sheet(sheet, path, labelled=False)
    if id_column is None:
        return _validate(table, path)
    ids = _take_ids(sheet, id_column, path)
    others = [name for name in table.ignored if name != id_column]
    return replace(_validate(replace(table, ignored=others), path), ids=ids)


def _take_ids(sheet: Sheet, id_column: str, path: Path) -> tuple[str, ...]:
    times = sheet.header.count(id_column)
    if times != 1:
        found = f"stands {times} times in the header of {path}" if times else f"is no column of {path}"
        raise UsageError(f'--id-column "{id_column}" {found}; give the name of one column, as in the header')
    return tuple(take_column(sheet.patients, sheet.header.index(id_column)))


def read_new_patient(given: Mapping[str, str]) -> NewPatients:
    """One patient from flags: feature -> number, code or the code's meaning (`male`, `asymptomatic`).

    Raises
    ------
    DataError
        A value that the schema refuses: one line for each, named as the flag.
    """
    cells = {column.name: [code_of(column, given.get(column.name, ""))] for column in FEATURES}
    try:
        return _validate(Table(rows=[1], cells=cells, ignored=[], short_rows=0), FLAGS)
    except DataError as error:
        raise DataError([_as_flag(fault) for fault in error.faults]) from None


def _as_flag(fault: str) -> str:
    """A fault of a cell in the words of a command line."""
    line = fault.removeprefix(f"{FLAGS}: row 1: ").removesuffix(" or drop the row")
    return f"--{line.replace('leave the cell empty', 'leave the flag out')}"


def _validate(table: Table, path: Path) -> NewPatients:
    values, warnings = validate_table(table, path)
    return NewPatients(
        features=values.reindex(columns=list(FEATURE_NAMES)).to_numpy(dtype=np.float64),
        rows=tuple(table.rows),
        warnings=(*warnings, *find_table_warnings(table)),
    )
