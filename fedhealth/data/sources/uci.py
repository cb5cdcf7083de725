"""The four UCI files, one per hospital, from a folder, a zip or the network -> one canonical table.

The download and the copies kept of it must be the pinned bytes; a user's own folder may differ, with a warning.

Source: Janosi, Steinbrunn, Pfisterer & Detrano (1988), Heart Disease, https://doi.org/10.24432/C52P4X (CC BY 4.0).
"""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import DataError, FedHealthError, RunError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.sources.canonical_table import RawRow, Source, build_table, sort_by_hospital, split_lines
from fedhealth.data.sources.download import STUBBORN, Patience, Say, download
from fedhealth.data.sources.raw_files import read_files, read_zip, sha256_of

HOSPITAL_OF_FILE = {
    "processed.cleveland.data": "cleveland",
    "processed.hungarian.data": "hungary",
    "processed.switzerland.data": "switzerland",
    "processed.va.data": "va",
}

# The same bytes were found in 5 to 8 independent public repositories, and their MD5 sums are those that FLamby pins
# (flamby/datasets/fed_heart_disease/dataset_creation_scripts/download.py).
UCI_SHA256 = {
    "processed.cleveland.data": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "processed.hungarian.data": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "processed.switzerland.data": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "processed.va.data": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}


def is_uci_file(name: str) -> bool:
    """Whether a bare file name, in lower case, is one of the four."""
    return name in HOSPITAL_OF_FILE


def parse_uci_rows(content: bytes, hospital: str, file: str) -> pd.DataFrame:
    """One UCI file (no header, 14 fields a line, `?` = missing) -> canonical table of its patients, in file order.

    Raises
    ------
    UsageError
        No text, no rows, or (as `DataError`) one line for every fault, naming file, row and column.
    """
    rows = [RawRow(row_num, hospital, tuple(fields)) for row_num, fields in split_lines(content, file)]
    return build_table(rows, file)


def build_source(files: dict[str, bytes], shown: dict[str, str], warnings: tuple[str, ...] = ()) -> Source:
    """Bytes of the four files (name -> bytes, name -> shown path) -> their `Source`."""
    tables = [parse_uci_rows(files[name], hospital, shown[name]) for name, hospital in HOSPITAL_OF_FILE.items()]
    table = sort_by_hospital(pd.concat(tables, ignore_index=True))
    description = f"UCI Heart Disease: {len(table)} patients of four hospitals (Cleveland, Hungary, Switzerland, VA)"
    return Source("uci", description, table, {name: sha256_of(files[name]) for name in HOSPITAL_OF_FILE}, warnings)


def wrong_sums(files: dict[str, bytes], shown: dict[str, str]) -> list[str]:
    """One line for every file that is not the pinned one."""
    sums = {name: sha256_of(files[name]) for name in HOSPITAL_OF_FILE}
    return [
        f"{shown[name]}: sha256 is {sums[name]}, the UCI file's is {UCI_SHA256[name]}"
        for name in HOSPITAL_OF_FILE
        if sums[name] != UCI_SHA256[name]
    ]


def take_four(found: dict[str, bytes], origin: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """Shown path -> bytes, as found, to (name -> bytes, name -> shown path); both empty if nothing was found.

    Raises
    ------
    UsageError
        Some of the four are missing, or one is there twice with different bytes.
    """
    files: dict[str, bytes] = {}
    shown: dict[str, str] = {}
    for path, content in found.items():
        name = next(name for name in HOSPITAL_OF_FILE if path.lower().endswith(name))
        if files.get(name, content) != content:
            raise UsageError(f"{origin}: {shown[name]} and {path} differ; keep one of them")
        files[name], shown[name] = content, path
    if missing := [name for name in HOSPITAL_OF_FILE if found and name not in files]:
        raise UsageError(f"{origin}: {', '.join(missing)} missing; all four UCI files are needed")
    return files, shown


def read_four(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """The four files of a folder, of a zip directly in that folder, or of a zip; see `take_four`."""
    found = read_files(path, is_uci_file)
    for archive in sorted(path.glob("*.zip")) if not found and path.is_dir() else []:
        found = found or read_files(archive, is_uci_file)
    return take_four(found, str(path))


def load_path(path: Path) -> Source | None:
    """A user's own folder or zip; None if it holds no UCI files. A file that is not the pinned one is a warning."""
    files, shown = read_four(path)
    if not files:
        return None
    edited = [f"{line}: an edited copy, used as it is" for line in wrong_sums(files, shown)]
    return build_source(files, shown, tuple(edited))


def load_kept(raw_folder: Path) -> Source | None:
    """The copies kept of an earlier download, or a zip put beside them; None if there are none.

    Raises
    ------
    UsageError
        A file that is not the pinned one, by name.
    """
    files, shown = read_four(raw_folder) if raw_folder.is_dir() else ({}, {})
    if not files:
        return None
    if faults := wrong_sums(files, shown):
        advice = f"delete it, or give --source {raw_folder} to use an edited copy"
        raise DataError([f"{fault}; {advice}" for fault in faults])
    return build_source(files, shown)


def fetch_four(
    url: str, patience: Patience, say: Say, sleep: Callable[[float], None] = time.sleep
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Download the archive and take the four files out of it, whatever their sums.

    Raises
    ------
    RunError
        The network failed, or what came is not an archive with the four files.
    """
    origin = printable(url)
    say(f"downloading {origin}")
    content = download(url, patience, say, sleep)
    try:
        files, shown = take_four(read_zip(io.BytesIO(content), origin, is_uci_file), origin)
    except UsageError as error:
        raise RunError(str(error)) from error
    if not files:
        raise RunError(
            f"{origin}: an archive without the four UCI files; give another --url, or --source PATH of a copy"
        )
    return files, shown


def accept_download(files: dict[str, bytes], shown: dict[str, str], raw_folder: Path) -> Source:
    """Check the sums, keep the files for the next run, and build the `Source`.

    Raises
    ------
    RunError
        A file that is not the pinned one, by name.
    """
    if faults := wrong_sums(files, shown):
        raise RunError(f"{faults[0]}: not the published data; give --source PATH of a good copy")
    return build_source(files, shown, keep_files(files, raw_folder))


def keep_files(files: dict[str, bytes], raw_folder: Path) -> tuple[str, ...]:
    """Keep the files for the next run; a folder that cannot be written is only a warning."""
    try:
        for name, content in files.items():
            write_file(raw_folder / name, content)
    except UsageError as error:
        return (f"the download could not be kept, the next run fetches it again ({error})",)
    return ()


def load_uci(
    url: str, raw_folder: Path, say: Say, patience: Patience = STUBBORN, sleep: Callable[[float], None] = time.sleep
) -> Source:
    """The real data: the good copies of an earlier download, else the download, which repairs spoilt ones."""
    try:
        kept = load_kept(raw_folder)
    except FedHealthError as error:
        say(f"{error}; fetching it again")
        kept = None
    return kept or accept_download(*fetch_four(url, patience, say, sleep), raw_folder)
