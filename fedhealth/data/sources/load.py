"""Where patients come from: the UCI files, one of their four Kaggle copies, or invention -> one canonical table.

It stops there: who gets which patients is `partition.py`, and files are written by `create_dataset.py`.
"""

import dataclasses
import os
from pathlib import Path

from fedhealth.common.errors import RunError, UsageError
from fedhealth.common.safe_text import printable_path
from fedhealth.data.sources import kaggle, uci
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.download import QUICK, Say


def say_nothing(line: str) -> None:
    """Swallow a line of progress."""


def load_source(source: str, *, url: str, patients: int, seed: int, raw_folder: Path, say: Say = say_nothing) -> Source:
    """Load `auto`, `uci`, `synthetic`, or the path of a folder, zip or CSV.

    Parameters
    ----------
    url : str
        Where the UCI archive is.
    patients, seed : int
        For invented patients only.
    raw_folder : Path
        Where downloaded files are kept, and looked for first.
    say : callable
        Told each step that may take long.

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
    return load_path(Path(source))


def load_auto(url: str, patients: int, seed: int, raw_folder: Path, say: Say) -> Source:
    """Kept files, else one quick download, else invented patients with the reason as a warning."""
    if kept := uci.load_kept(raw_folder):
        return kept
    try:
        fetched = uci.fetch_four(url, QUICK, say)
    except RunError as error:
        sampled = load_synthetic(patients, seed)
        reason = (
            f"the real data could not be had ({error}): all patients are INVENTED, results say nothing about medicine"
        )
        return dataclasses.replace(sampled, warnings=(reason, *sampled.warnings))
    return uci.accept_download(*fetched, raw_folder)


def load_synthetic(patients: int, seed: int) -> Source:
    """Invented patients."""
    from fedhealth.data.sources.synthetic import sample_patients

    table = sample_patients(patients, seed)
    return Source("synthetic", f"{len(table)} INVENTED patients, no real person among them (seed {seed})", table, {})


def load_path(path: Path) -> Source:
    """A folder, zip or CSV with the UCI files or a Kaggle copy, recognised by content."""
    if not os.path.exists(path):  # noqa: PTH110  # Path.exists raises on a name that is too long
        shown = printable_path(str(path))
        raise UsageError(f"--source is {shown}: no such file or folder; give auto, uci, synthetic or an existing path")
    return uci.load_path(path) or kaggle.load_path(path)
