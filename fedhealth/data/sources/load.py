"""Where patients come from: the UCI files, a CSV in any known layout, or invention -> one canonical table.

`partition.py` deals the patients out to hospitals, and `create_dataset.py` writes the files.
"""

import dataclasses
import os
from pathlib import Path

from fedhealth.common.errors import RunError, UsageError
from fedhealth.common.safe_text import printable_path
from fedhealth.data.file_kinds import name_spreadsheet
from fedhealth.data.sources import csv_source, uci
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.download import QUICK, Say
from fedhealth.data.sources.raw_files import read_file
from fedhealth.data.sources.readings import AUTO, Answers


def say_nothing(line: str) -> None:
    """Ignore a line of progress."""


def load_source(
    source: str,
    *,
    url: str,
    patients: int,
    seed: int,
    raw_folder: Path,
    answers: Answers = AUTO,
    say: Say = say_nothing,
) -> Source:
    """Load `auto`, `uci`, `synthetic`, or the path of a folder, zip or CSV.

    Parameters
    ----------
    url : str
        Where the UCI archive is.
    patients, seed : int
        For invented patients only.
    raw_folder : Path
        Where downloaded files are kept, and looked for first.
    answers : Answers
        What the codes and labels of a CSV mean, where the CSV does not decide it.
    say : callable
        Called with each step that may take long.

    Raises
    ------
    UsageError
        A file or path is wrong.
    RunError
        The download failed, or brought other bytes than the published ones.
    """
    if source == "auto":
        return load_auto(url, patients, seed, raw_folder, say)
    if source == "uci":
        return uci.load_uci(url, raw_folder, say)
    if source == "synthetic":
        return load_synthetic(patients, seed)
    if not source:
        raise UsageError("--source is empty; give auto, uci, synthetic or a path")
    return load_path(Path(source), answers)


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


def load_path(path: Path, answers: Answers = AUTO) -> Source:
    """A folder, zip or CSV with the UCI files, a copy of them or a hospital's own patients, recognised by content."""
    if not os.path.exists(path):  # noqa: PTH110  # Path.exists raises on a name that is too long
        shown = printable_path(str(path))
        raise UsageError(f"--source is {shown}: no such file or folder; give auto, uci, synthetic or an existing path")
    if path.is_file() and (kind := name_spreadsheet(read_file(path))):
        raise UsageError(f"{path}: {kind}")
    return uci.load_path(path) or csv_source.load_path(path, answers)
