"""Patients without a diagnosis, or whose diagnosis is not read: a file or flags -> checked features."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import DataError, UsageError
from fedhealth.data.cell_words import code_of
from fedhealth.data.csv_table import Sheet, Table, parse_sheet, take_column
from fedhealth.data.hospital import find_absent, find_table_warnings
from fedhealth.data.readers.read_any import AS_IT_IS, ReadOptions, read_any
from fedhealth.data.schema import Schema
from fedhealth.data.validation import validate_table

OTHER_FLAGS = (
    "help",
    "run",
    "patients",
    "out",
    "format",
    "adapt-prevalence",
    "id-column",
    "sheet",
    "decimal",
    "mapping",
)
"""The flags of `python -m fedhealth predict` that describe no patient."""
FLAGS = Path("flags")
"""Stands for the path of a patient who is given by flags."""


@dataclass(frozen=True, eq=False)
class NewPatients:
    """Patients to predict; its `repr` shows no value."""

    features: NDArray[np.float64] = field(repr=False)
    """(num_patients, num_features), as in `Patients`."""
    rows: tuple[int, ...]
    """The spreadsheet's number of each patient's row."""
    warnings: tuple[str, ...]
    ids: tuple[str, ...] = field(default=(), repr=False)
    """Each patient's cell in the ID column; empty without one."""


def read_new_patients(
    content: bytes, path: Path, schema: Schema, id_column: str | None = None, options: ReadOptions = AS_IT_IS
) -> NewPatients:
    """The patients of a file: checked like a hospital's, but labels are not read and one patient is enough.

    The cells of `id_column` are taken as they are.

    Raises
    ------
    UsageError
        The header does not have `id_column` exactly once.
    DataError
        The file is no table with the features, or has values that the schema refuses: one line for each.
    """
    sheet = read_any(content, path, schema, options)
    table = parse_sheet(sheet, path, schema, labelled=False)
    if id_column is None:
        return _validate(schema, table, path)
    ids = _take_ids(sheet, id_column, path)
    others = [name for name in table.ignored if name != id_column]
    return replace(_validate(schema, replace(table, ignored=others), path), ids=ids)


def _take_ids(sheet: Sheet, id_column: str, path: Path) -> tuple[str, ...]:
    times = sheet.header.count(id_column)
    if times != 1:
        found = f"stands {times} times in the header of {path}" if times else f"is no column of {path}"
        raise UsageError(f'--id-column "{id_column}" {found}; give the name of one column, as in the header')
    return tuple(take_column(sheet.patients, sheet.header.index(id_column)))


def read_new_patient(given: Mapping[str, str], schema: Schema) -> NewPatients:
    """One patient from flags: feature -> number, code or the code's meaning (`male`, `asymptomatic`).

    Raises
    ------
    DataError
        A value that the schema refuses: one line for each, named as the flag.
    """
    cells = {column.name: [code_of(column, given.get(column.name, ""))] for column in schema.features}
    try:
        return _validate(schema, Table(rows=[1], cells=cells, ignored=[], short_rows=0), FLAGS)
    except DataError as error:
        raise DataError([_as_flag(schema, fault) for fault in error.faults]) from None


def flag_names(schema: Schema) -> dict[str, str]:
    """Feature -> its flag on a command line, without dashes: `mean radius` -> `mean-radius`; each is another one."""
    flags: dict[str, str] = {}
    for place, name in enumerate(schema.feature_names, start=1):
        flag = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "feature"
        flags[name] = f"{flag}-{place}" if flag in {*OTHER_FLAGS, *flags.values()} else flag
    return flags


def _as_flag(schema: Schema, fault: str) -> str:
    """A fault of a cell in the words of a command line."""
    line = fault.removeprefix(f"{FLAGS}: row 1: ").removesuffix(" or drop the row")
    for name, flag in sorted(flag_names(schema).items(), key=lambda pair: -len(pair[0])):
        if line.startswith(f"{name} is "):
            line = flag + line.removeprefix(name)
            break
    return f"--{line.replace('leave the cell empty', 'leave the flag out')}"


def _validate(schema: Schema, table: Table, path: Path) -> NewPatients:
    values, warnings = validate_table(schema, table, path)
    return NewPatients(
        features=values.reindex(columns=list(schema.feature_names)).to_numpy(dtype=np.float64),
        rows=tuple(table.rows),
        warnings=(*warnings, *find_table_warnings(table), *find_absent(schema, table)),
    )
