"""A file -> `Hospital`: its patients, its name, the source of its rows, and warnings."""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.csv_table import Table, parse_sheet, read_file
from fedhealth.data.large_csv import read_large_table
from fedhealth.data.patients import FEWEST_TO_TEST, SYNTHETIC_PREFIX, USUAL_SHARE, Patients, fits_usual_split
from fedhealth.data.preprocessing import ROWS
from fedhealth.data.readers.read_any import AS_IT_IS, ReadOptions, read_any
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.data.validation import labels_of, validate_table

FULL_DATASET = "full_dataset.csv"
"""Holds all patients of a data set, whoever examined them."""
TOTALS = ("all (pooled)", "all together", "union", "mean")
"""Names that tables give to all hospitals together, so that no hospital may have them."""
REPEATED_SHARE = 0.05
"""Share of repeated rows above which there is a warning."""
FEW_COLUMNS = 16
"""Columns by which nearly all patients differ in most tables; whoever differs in these does so in all."""


@dataclass(frozen=True)
class Hospital:
    """One hospital and the patients of its file."""

    name: str
    name_in_file: str
    """The name in the file, printable; `name` may be another one that was given."""
    patients: Patients
    schema: Schema
    """What its columns mean."""
    source: str
    """"synthetic" if any row is; else the source that dataset.json records for this very file, such as "uci"; else "own"."""
    warnings: tuple[str, ...]
    """One line each."""


def load_hospital(
    path: Path, name: str | None = None, schema: Schema | None = None, options: ReadOptions = AS_IT_IS
) -> Hospital:
    """Read and check a hospital's file, in any of the formats of `read_any`.

    `name` is the hospital's; without it the file's hospital column if that names a single one, else the file's name. Without
    `schema` the columns are those of the heart disease data.

    Raises
    ------
    UsageError
        The name is empty, longer than 100 characters or not printable; the file cannot be read, or not with these options.
    DataError
        The file is no table with the schema's columns, or has values that the schema refuses: one line for each.
    """
    if name is not None:
        name = check_name(name, f'--name is "{printable(name, 40)}"')
    return parse_hospital(read_file(path), path, name, schema, options)


def parse_hospital(
    content: bytes, path: Path, name: str | None = None, schema: Schema | None = None, options: ReadOptions = AS_IT_IS
) -> Hospital:
    """The hospital of a file's content; `path` is where it came from, for messages. Errors as in `load_hospital`."""
    schema = schema or heart_disease()
    table, values, warnings = read_checked(content, path, schema, options)
    record = read_dataset_record(path, content)
    name_in_file = find_name(schema, table, path, record)
    if name is None:
        name = check_name(name_in_file, f'{path}: the hospital\'s name is "{printable(name_in_file, 40)}"')
    patients = Patients(
        features=stack_features(schema, values),
        labels=labels_of(schema, values),
    )
    return Hospital(
        name=name,
        name_in_file=printable(name_in_file, 40),
        patients=patients,
        schema=schema,
        source=find_source(schema, table, record),
        warnings=(*warnings, *find_warnings(schema, table, patients, several=count_named(schema, table, path, record))),
    )


def read_checked(
    content: bytes, path: Path, schema: Schema, options: ReadOptions = AS_IT_IS
) -> tuple[Table, pd.DataFrame, list[str]]:
    """The table of a file, its values and its warnings; errors as in `load_hospital`."""
    large = read_large_table(content, path, schema) if options == AS_IT_IS else None
    if large is not None:
        with contextlib.suppress(DataError):
            return large, *validate_table(schema, large, path)
    table = parse_sheet(read_any(content, path, schema, options), path, schema)
    return table, *validate_table(schema, table, path)


def stack_features(schema: Schema, values: pd.DataFrame) -> NDArray[np.float64]:
    """The features (num_patients, num_features), NaN where the file does not have a column."""
    features = np.empty((len(values), len(schema.features)))
    missing = np.full(len(values), np.nan)
    columns = [values[name].to_numpy() if name in values else missing for name in schema.feature_names]
    for start in range(0, len(values), ROWS):  # a patient's values are far apart in the columns
        np.stack([column[start : start + ROWS] for column in columns], axis=1, out=features[start : start + ROWS])
    return features


def count_repeats(patients: Patients) -> int:
    """How many patients have all values of an earlier one; 0 if a few columns show that it is no large share."""
    total = len(patients)
    for columns in (FEW_COLUMNS, None):
        repeated = total - len({hash(row.tobytes()) for row in patients.features[:, :columns]})
        if repeated <= REPEATED_SHARE * total:
            return 0
    return repeated


def list_hospitals(schema: Schema, table: Table) -> list[str]:
    """The distinct names in the hospital column, sorted; none without one."""
    return sorted(set(table.cells.get(schema.hospital, [])) - {""})


def find_name(schema: Schema, table: Table, path: Path, record: dict[str, Any]) -> str:
    """The single hospital that the rows name, else the file's name without its ending.

    Where patients were dealt out anew (any split but the natural one), the rows name another hospital than the file's.
    """
    names = list_hospitals(schema, table)
    return names[0] if len(names) == 1 and record.get("split", "natural") == "natural" else path.stem


def count_named(schema: Schema, table: Table, path: Path, record: dict[str, Any]) -> int:
    """How many hospitals the rows name, if that is more than one and the patients were not dealt out anew on purpose."""
    count = len(list_hospitals(schema, table))
    dealt_out = record.get("split", "natural") != "natural" and path.name != FULL_DATASET
    return 0 if count == 1 or dealt_out else count


def check_name(name: str, described: str) -> str:
    """The name without surrounding blanks; `described` begins the `UsageError` about a bad one."""
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise UsageError(f"{described}; give --name 1 to 100 printable characters")
    if name.lower() in TOTALS:
        raise UsageError(f"{described}, which tables call all hospitals together; give another --name")
    return name


def find_source(schema: Schema, table: Table, record: dict[str, Any]) -> str:
    """Where the rows came from: the hospital column decides before dataset.json."""
    if any(name.startswith(SYNTHETIC_PREFIX) for name in list_hospitals(schema, table)):
        return "synthetic"
    source = record.get("source")
    return printable(source, 40) if isinstance(source, str) and source.strip() else "own"


def read_dataset_record(path: Path, content: bytes) -> dict[str, Any]:
    """The content of the `dataset.json` beside the CSV if it lists this very file; empty otherwise, or if it is damaged."""
    try:
        record = json.loads(path.with_name("dataset.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    files = record.get("files") if isinstance(record, dict) else None
    this_file = {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    listed = isinstance(files, list) and any(isinstance(f, dict) and this_file.items() <= f.items() for f in files)
    return record if listed else {}


def find_table_warnings(table: Table, several: int = 0) -> list[str]:
    """Warnings about the columns and rows of the table; `several` is the number from `count_named`."""
    warnings = [*table.notes]
    if several:
        warnings.append(f"the rows name {several} hospitals; each should join with a file of its own")
    if table.ignored:
        more = ["..."] if len(table.ignored) > 10 else []
        names = [printable(name, 40) or "(no name)" for name in table.ignored[:10]]
        warnings.append(f"unknown columns are ignored: {', '.join(names + more)}")
    if table.short_rows:
        warnings.append(f"cells that a row lacks are read as missing (in {table.short_rows} of {len(table.rows)} rows)")
    return warnings


def find_absent(schema: Schema, table: Table) -> list[str]:
    """The warning about features that the file does not have."""
    absent = [name for name in schema.feature_names if name not in table.columns]
    if not absent:
        return []
    more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
    return [f"{', '.join(absent[:10])}{more}: not in the file, so missing for all patients"]


def find_warnings(schema: Schema, table: Table, patients: Patients, several: int) -> list[str]:
    """Warnings about what is allowed and may still be a mistake."""
    total = len(patients)
    warnings = [*find_table_warnings(table, several), *find_absent(schema, table)]
    synthetic = sum(name.startswith(SYNTHETIC_PREFIX) for name in table.cells.get(schema.hospital, []))
    if 0 < synthetic < total:
        warnings.append(f"invented and real patients are mixed (synthetic: {synthetic} of {total} rows)")
    # The UCI files repeat a patient or two by chance; with many repeats, test patients are among those trained on.
    if (repeated := count_repeats(patients)) > REPEATED_SHARE * total:
        warnings.append(
            f"patients repeat ({repeated} of {total} rows): the test may hold patients that were trained on"
        )
    if not fits_usual_split(patients):
        warnings.append(
            f"{total} patients are too few for the usual split (--test-share {USUAL_SHARE:g}): fewer than {FEWEST_TO_TEST} "
            "would be tested, and no results of so few leave a hospital; ask the coordinator for a larger --test-share"
        )
    if len(classes := np.unique(patients.labels)) == 1:
        state = "ill" if classes[0] else "healthy"
        warnings.append(f"all {total} patients are {state}: a model can be trained, but the AUROC is n/a")
    return warnings
