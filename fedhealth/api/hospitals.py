"""Hospitals from a folder of CSV files or from tables in memory."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedhealth.common.errors import UsageError
from fedhealth.common.runtime_env import quiet_libraries

if TYPE_CHECKING:
    import pandas as pd

    from fedhealth.data.hospital import Hospital


def load_hospitals(source: "str | Path | Mapping[str, Hospital | pd.DataFrame]") -> "dict[str, Hospital]":
    """Hospital name -> its checked patients. What deserves a warning is one (`warnings.warn`).

    Parameters
    ----------
    source : a folder of CSV files, one per hospital (full_dataset.csv is left out), or hospital name -> table. Columns and
        codes are those of data/README.md.

    Raises
    ------
    UsageError
        There is no such folder, or two files name the same hospital.
    DataError
        A table has faults: one line for each.
    """
    quiet_libraries()
    if not isinstance(source, (str, Path, Mapping)):
        raise UsageError(f"the hospitals are a {type(source).__name__}; give a folder, or hospital name -> DataFrame")
    hospitals: dict[str, Hospital] = {}
    for hospital in _from_tables(source) if isinstance(source, Mapping) else _from_folder(Path(source)):
        if hospital.name in hospitals:
            raise UsageError(f"two tables are of the hospital {hospital.name}; give each hospital one")
        hospitals[hospital.name] = hospital
        for line in hospital.warnings:
            warnings.warn(f"{hospital.name}: {line}", stacklevel=2)
    return hospitals


def _from_folder(folder: Path) -> "Iterator[Hospital]":
    from fedhealth.client.virtual import list_hospital_files
    from fedhealth.data.hospital import load_hospital

    yield from map(load_hospital, list_hospital_files(folder))


def _from_tables(tables: "Mapping[str, Hospital | pd.DataFrame]") -> "Iterator[Hospital]":
    """A table is checked as its CSV would be; a hospital that is loaded already only takes the name."""
    from fedhealth.common.safe_text import printable
    from fedhealth.data.hospital import Hospital, check_name, parse_hospital

    for name, table in tables.items():
        if not isinstance(name, str):
            raise UsageError(f"a hospital is called {name!r}; give its name as text")
        checked = check_name(name, f'a hospital is called "{printable(name, 40)}"')
        if isinstance(table, Hospital):
            yield replace(table, name=checked, warnings=())
        else:
            yield parse_hospital(to_csv(table, checked), Path(checked), checked)


def to_csv(table: object, what: str) -> bytes:
    """A table as the content of a CSV file; a `UsageError` if it is no DataFrame, or if columns are its index."""
    import pandas as pd

    from fedhealth.data.schema import COLUMN_NAMES

    if not isinstance(table, pd.DataFrame):
        raise UsageError(f"{what}: is a {type(table).__name__}; give a pandas DataFrame with a row per patient")
    if named := [name for name in table.index.names if name in COLUMN_NAMES]:
        raise UsageError(f"{what}: {named[0]} is the index of the table; make it a column (reset_index)")
    return table.to_csv(index=False).encode()
