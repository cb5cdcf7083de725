"""Where patients come from: the UCI files, a CSV in any known layout, or invention -> one canonical table.

`partition.py` deals the patients out to hospitals, and `create_dataset.py` writes the files.
"""

import dataclasses
import os
from pathlib import Path

from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.common.safe_text import printable, printable_path
from fedhealth.data import csv_table
from fedhealth.data.file_kinds import find_format, name_spreadsheet
from fedhealth.data.hospital import find_absent, find_table_warnings
from fedhealth.data.patients import UNKNOWN_HOSPITAL
from fedhealth.data.readers.read_any import AS_IT_IS, ReadOptions, read_any
from fedhealth.data.schema import Schema
from fedhealth.data.sources import csv_source, uci
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.download import QUICK, Say
from fedhealth.data.sources.heart import HEART
from fedhealth.data.sources.raw_files import read_file, sha256_of
from fedhealth.data.sources.readings import AUTO, Answers
from fedhealth.data.validation import validate_table


def say_nothing(line: str) -> None:
    """Ignore a line of progress."""


def load_source(
    source: str,
    *,
    schema: Schema = HEART,
    url: str,
    patients: int,
    seed: int,
    raw_folder: Path,
    answers: Answers = AUTO,
    options: ReadOptions = AS_IT_IS,
    say: Say = say_nothing,
) -> Source:
    """Load `auto`, `uci`, `synthetic`, or the path of a folder, a zip, or a file in any format of `read_any`.

    Parameters
    ----------
    schema : Schema
        The columns; with other columns than the heart disease data's, `source` is the path of a file that has them.
    url : str
        Where the UCI archive is.
    patients, seed : int
        For invented patients only.
    raw_folder : Path
        Where downloaded files are kept, and looked for first.
    answers : Answers
        What the codes and labels of a file mean, where the file does not decide it.
    options : ReadOptions
        How a file is to be read, where it does not say it.
    say : callable
        Called with each step that may take long.

    Raises
    ------
    UsageError
        A file or path is wrong.
    RunError
        The download failed, or brought other bytes than the published ones.
    """
    if source in ("auto", "uci", "synthetic", "") and options != AS_IT_IS:
        raise UsageError(
            "--sheet, --decimal and --mapping are for a file of patients; leave them out, or give it as --source"
        )
    if schema.fingerprint != HEART.fingerprint:
        return load_own_table(source, schema, answers, options)
    if source == "auto":
        return load_auto(url, patients, seed, raw_folder, say)
    if source == "uci":
        return uci.load_uci(url, raw_folder, say)
    if source == "synthetic":
        return load_synthetic(patients, seed)
    if not source:
        raise UsageError("--source is empty; give auto, uci, synthetic or a path")
    return load_path(Path(source), answers, options)


def load_own_table(source: str, schema: Schema, answers: Answers, options: ReadOptions = AS_IT_IS) -> Source:
    """The patients of one file with the columns of a schema; without a hospital column all are of one unknown hospital."""
    if source in ("auto", "uci", "synthetic", ""):
        raise UsageError(
            f"--source is {source or 'empty'}, which has the heart disease columns; give a file with those of --schema"
        )
    if answers != AUTO:
        raise UsageError(
            "--codes and --label-1 are for the heart disease data; a schema has its codes, so leave them out"
        )
    path = Path(source)
    content = csv_table.read_file(path)
    table = csv_table.parse_sheet(read_any(content, path, schema, options), path, schema)
    values, warnings = validate_table(schema, table, path)
    outcomes = [name for name in schema.outcome_names if name in values]
    values = values.reindex(columns=[*schema.feature_names, *outcomes]).reset_index(drop=True)
    names = table.cells.get(schema.hospital, [UNKNOWN_HOSPITAL] * len(values))
    values[schema.hospital] = [printable(name, 100) for name in names]
    if nameless := [row for row, name in zip(table.rows, values[schema.hospital], strict=True) if not name]:
        raise DataError(
            [f"{path}: row {row}: {schema.hospital} is missing; name the hospital or drop the row" for row in nameless]
        )
    lines = [*find_table_warnings(table), *find_absent(schema, table), *warnings]
    return Source(
        "own",
        f"{path}: {len(values)} patients ({schema.title})",
        values,
        {path.name: sha256_of(content)},
        tuple(f"{path}: {line}" for line in lines),
    )


def load_auto(url: str, patients: int, seed: int, raw_folder: Path, say: Say) -> Source:
    """Kept files, else one quick download, else synthetic patients with the reason as a warning."""
    if kept := uci.load_kept(raw_folder):
        return kept
    try:
        fetched = uci.fetch_four(url, QUICK, say)
    except RunError as error:
        sampled = load_synthetic(patients, seed)
        reason = (
            f"the real data cannot be loaded ({error}): all patients are SYNTHETIC, results have no medical meaning"
        )
        return dataclasses.replace(sampled, warnings=(reason, *sampled.warnings))
    return uci.accept_download(*fetched, raw_folder)


def load_synthetic(patients: int, seed: int) -> Source:
    """Synthetic patients."""
    from fedhealth.data.sources.synthetic import sample_patients

    table = sample_patients(patients, seed)
    return Source("synthetic", f"{len(table)} SYNTHETIC patients, no real person among them (seed {seed})", table, {})


def load_path(path: Path, answers: Answers = AUTO, options: ReadOptions = AS_IT_IS) -> Source:
    """A folder, zip or file with the UCI files, a copy of them or a hospital's own patients, recognised by content."""
    if not os.path.exists(path):  # noqa: PTH110  # Path.exists raises on a name that is too long
        shown = printable_path(str(path))
        raise UsageError(f"--source is {shown}: no such file or folder; give auto, uci, synthetic or an existing path")
    if path.is_file() and find_format(content := read_file(path)) != "csv":
        return csv_source.parse_source(content, str(path), answers, options)
    if path.is_file() and (kind := name_spreadsheet(content)):
        raise UsageError(f"{path}: {kind}")
    return uci.load_path(path) or csv_source.load_path(path, answers, options)
