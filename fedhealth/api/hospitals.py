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
    from fedhealth.data.hospital import Hospital, parse_hospital

    for name, table in tables.items():
        if isinstance(table, Hospital):
            yield replace(table, name=name, warnings=())
        else:
            yield parse_hospital(table.to_csv(index=False).encode(), Path(name), name)
