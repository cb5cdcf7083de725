"""Writes a data set: full_dataset.csv, one CSV per hospital, and dataset.json, which records where they come from.

Each file is written whole or not at all. The same patients give the same bytes: no file holds a time or a path.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.common.version import __version__
from fedhealth.data.hospital import FULL_DATASET
from fedhealth.data.schema import Schema
from fedhealth.data.validation import labels_of

DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class Origin:
    """Where the patients of a data set come from, for `dataset.json`; `alpha` is None for a split that has none."""

    source: str
    description: str
    sha256: dict[str, str]
    split: str
    seed: int
    alpha: float | None = None


def client_file(client: int) -> str:
    """Name of the 1-based `client`'s CSV."""
    return f"client_{client}.csv"


def write_dataset(
    folder: Path, table: pd.DataFrame, hospitals: Sequence[pd.DataFrame], origin: Origin, schema: Schema
) -> list[str]:
    """Write all files of the data set into `folder`; delete surplus hospital files of an earlier data set.

    `dataset.json` is written last. After an interruption the old one remains, and its checksums do not match the new files;
    running the command again writes all files.

    Returns
    -------
    list of str
        Warnings about files of the earlier data set that were changed since, and therefore kept.

    Raises
    ------
    UsageError
        A file cannot be written, or would replace one that this program did not write; then nothing is written.
    """
    written = {}
    names = [client_file(client) for client in range(1, len(hospitals) + 1)]
    refuse_to_overwrite(schema, folder, dict(zip([FULL_DATASET, *names], [table, *hospitals], strict=True)))
    for name, patients in zip([FULL_DATASET, *names], [table, *hospitals], strict=True):
        content = csv_bytes(schema, patients)
        write_file(folder / name, content)
        written[name] = hashlib.sha256(content).hexdigest()
    warnings = remove_stale_files(folder, keep=names)
    files = [
        {
            "name": name,
            "hospitals": count_hospitals(schema, patients),
            **describe_patients(schema, patients),
            "sha256": written[name],
        }
        for name, patients in zip([FULL_DATASET, *names], [table, *hospitals], strict=True)
    ]
    write_file(folder / DESCRIPTION, json_bytes(describe_dataset(schema, table, origin, files)))
    return warnings


def refuse_to_overwrite(schema: Schema, folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Raise a `UsageError` if one of these files exists and is neither as an earlier run wrote it nor the same."""
    listed = listed_files(folder / DESCRIPTION)
    changed = []
    for name, patients in tables.items():
        if not (folder / name).exists():
            continue
        found = hash_file(folder / name)
        unchanged = found is not None and found == listed.get(name)
        if not unchanged and found != hashlib.sha256(csv_bytes(schema, patients)).hexdigest():
            changed.append(name)
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UsageError(
            f"{folder / changed[0]}{more}: is not as create_dataset.py wrote it and would be lost; "
            "move it away or give another folder with --out"
        )


def hash_file(path: Path) -> str | None:
    """SHA-256 of a file's content; None if it is no file that can be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def csv_bytes(schema: Schema, patients: pd.DataFrame) -> bytes:
    """`patients` as CSV: the columns of the schema, empty cell = missing, numbers as short as they round-trip (63, 1.4)."""
    short = patients[[name for name in schema.column_names if name in patients]].copy()
    for name in short.columns.intersection(list(schema.columns)):
        if bool((short[name].dropna() % 1 == 0).all()):
            short[name] = short[name].astype("Int64")
    text: str = short.to_csv(index=False, lineterminator="\n", float_format=shortest)
    return text.encode()


def shortest(number: Any) -> str:
    """The shortest decimal that reads back as `number`, without exponent."""
    return np.format_float_positional(number, trim="-")


def describe_dataset(
    schema: Schema, table: pd.DataFrame, origin: Origin, files: list[dict[str, Any]]
) -> dict[str, Any]:
    """The content of `dataset.json`; `files[0]` is the full data set."""
    by_hospital = table.groupby(schema.hospital, sort=True)
    return {
        "source": origin.source,
        "description": origin.description,
        "sha256": origin.sha256,
        "rows": len(table),
        "ill": count_ill(schema, table),
        "split": origin.split,
        "clients": len(files) - 1,
        **({} if origin.alpha is None else {"alpha": origin.alpha}),
        "seed": origin.seed,
        "version": __version__,
        "schema": schema.fingerprint,
        "hospitals": {str(name): describe_patients(schema, patients) for name, patients in by_hospital},
        "files": files,
    }


def describe_patients(schema: Schema, patients: pd.DataFrame) -> dict[str, Any]:
    """Counts of some patients: all, ill, and missing values per column."""
    missing = patients[list(schema.feature_names)].isna().sum()
    return {
        "rows": len(patients),
        "ill": count_ill(schema, patients),
        "missing": {str(name): int(count) for name, count in missing.items()},
    }


def count_ill(schema: Schema, patients: pd.DataFrame) -> int:
    """How many of the patients are positive."""
    return int(labels_of(schema, patients).sum())


def count_hospitals(schema: Schema, patients: pd.DataFrame) -> dict[str, int]:
    """How many of the patients each true hospital examined."""
    return {str(name): int(count) for name, count in patients[schema.hospital].value_counts().sort_index().items()}


def json_bytes(content: dict[str, Any]) -> bytes:
    """`content` as readable JSON."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def remove_stale_files(folder: Path, keep: Sequence[str]) -> list[str]:
    """Remove the hospital files that `dataset.json` lists beyond `keep`; warn of those that were changed since."""
    warnings = []
    for name, sha256 in listed_files(folder / DESCRIPTION).items():
        stale = folder / name
        if name in (FULL_DATASET, *keep) or not stale.is_file():
            continue
        try:
            if hash_file(stale) == sha256:
                stale.unlink()
            else:
                warnings.append(
                    f"{stale}: kept from an earlier data set, because it was changed since; remove it yourself"
                )
        except OSError as error:
            raise UsageError(f"{stale}: cannot be removed ({error.strerror}); remove it yourself") from error
    return warnings


def listed_files(description: Path) -> dict[str, str]:
    """Name -> sha256 of the CSVs that an earlier `dataset.json` lists; empty if there is none, or it is damaged."""
    try:
        files = json.loads(description.read_bytes())["files"]
        listed = {str(file["name"]): str(file["sha256"]) for file in files}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {
        name: sha256 for name, sha256 in listed.items() if re.fullmatch(r"full_dataset\.csv|client_[1-9]\d*\.csv", name)
    }
