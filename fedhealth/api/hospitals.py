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
    from fedhealth.data.schema import Schema


def load_hospitals(
    source: "str | Path | Mapping[str, Hospital | pd.DataFrame]", schema: str | Path | None = None
) -> "dict[str, Hospital]":
    """Hospital name -> its checked patients. What deserves a warning is one (`warnings.warn`).

    Parameters
    ----------
    source : a folder of CSV files, one per hospital (full_dataset.csv is left out), or hospital name -> table. Columns and
        codes are those of the schema.
    schema : the schema file (TOML); None: the columns of data/README.md.

    Raises
    ------
    UsageError
        There is no such folder, or two files name the same hospital.
    DataError
        A table has faults: one line for each.
    """
    quiet_libraries()
    from fedhealth.data.schema_file import load_schema

    columns = load_schema(Path(schema) if schema else None)
    if not isinstance(source, (str, Path, Mapping)):
        raise UsageError(f"the hospitals are a {type(source).__name__}; give a folder, or hospital name -> DataFrame")
    hospitals: dict[str, Hospital] = {}
    for hospital in _load(source, columns):
        if hospital.name in hospitals:
            raise UsageError(f"two tables are of the hospital {hospital.name}; give each hospital one")
        hospitals[hospital.name] = hospital
        for line in hospital.warnings:
            warnings.warn(f"{hospital.name}: {line}", stacklevel=2)
    return hospitals


def _load(source: "str | Path | Mapping[str, Hospital | pd.DataFrame]", schema: "Schema") -> "Iterator[Hospital]":
    if isinstance(source, Mapping):
        yield from _from_tables(source, schema)
        return
    from fedhealth.client.virtual import list_hospital_files
    from fedhealth.data.hospital import load_hospital

    for file in list_hospital_files(Path(source)):
        yield load_hospital(file, schema=schema)


def _from_tables(tables: "Mapping[str, Hospital | pd.DataFrame]", schema: "Schema") -> "Iterator[Hospital]":
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
            yield parse_hospital(to_csv(schema, table, checked), Path(checked), checked, schema)


def to_csv(schema: "Schema", table: object, what: str) -> bytes:
    """A table as the content of a CSV file; a `UsageError` if it is no DataFrame, or if columns are its index."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise UsageError(f"{what}: is a {type(table).__name__}; give a pandas DataFrame with a row per patient")
    if named := [name for name in table.index.names if name in schema.column_names]:
        raise UsageError(f"{what}: {named[0]} is the index of the table; make it a column (reset_index)")
    return table.to_csv(index=False).encode()
