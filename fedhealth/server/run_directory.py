"""The folder of a run: created, or opened to resume a run, and locked against other servers."""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

from filelock import FileLock, Timeout

from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.scripts import ServerFlags, ServerSettings
from fedhealth.data.schema_file import load_schema
from fedhealth.server.resume import Run, resume_run
from fedhealth.server.run_files import FEASIBILITY, HISTORY, SETTINGS, SUMMARY

KNOWN_TO_THE_RUN = {"out", "resume", "schema"}
"""Flags that a resumed run does not need: its folder has them."""
LOCK = ".lock"
"""In the run folder while a server runs in it; one that a killed server leaves behind does not lock the folder."""


@contextlib.contextmanager
def opened_run(settings: ServerSettings, warn: Callable[[str], None]) -> Iterator[Run]:
    """A new run folder, or with --resume an existing one, locked against other servers while the block runs.

    If nothing was written, the new folder is removed.
    """
    with locked(settings.resume) if settings.resume else new_run_folder(settings.out) as folder:
        run = resume_run(folder, settings, warn) if settings.resume else new_run(folder, settings)
        try:
            yield run
        except (KeyboardInterrupt, RunError) as error:
            if (folder / SETTINGS).exists() and not (folder / SUMMARY).exists():
                error.add_note(f"resume with: {resume_command(settings, folder, run.address)}")
            raise


def new_run(folder: Path, settings: ServerSettings) -> Run:
    """A run that starts in this folder."""
    return Run(folder, settings.federation(), load_schema(settings.schema))


def resume_command(settings: ServerSettings, folder: Path, address: str = "") -> str:
    """The command that resumes a run with the flags that are not of the federation, such as --address and --tls.

    `address` is where the server listened, if it differs from the settings' (port 0): the clients try to rejoin there.
    """
    settings = replace(settings, address=address or settings.address)
    flags = {field.name: getattr(settings, field.name) for field in fields(ServerFlags)}
    changed = {field.name for field in fields(ServerFlags) if flags[field.name] != field.default} - KNOWN_TO_THE_RUN
    words = ["python", "server.py", "--resume", str(folder)]
    for name in sorted(changed):
        flag, value = f"--{name.replace('_', '-')}", flags[name]
        words += [flag] if value is True else [flag, *(value if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


@contextlib.contextmanager
def new_run_folder(out: Path | None) -> Iterator[Path]:
    """A new run folder, locked while the block runs; it is removed if nothing was written."""
    folder = make_run_folder(out)
    try:
        with locked(folder):
            yield folder
    finally:
        remove_empty(folder, *([] if out else [folder.parent]))


def remove_empty(*folders: Path) -> None:
    """Remove the empty folders among these, up to the first that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def make_run_folder(out: Path | None) -> Path:
    """Create the run folder (default `runs/<time>`), empty and writable.

    Raises
    ------
    UsageError
        It cannot be written to, or already contains a run.
    """
    folder = out or _unused(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"a full disk creates files, but stores no byte")
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot write there ({error.strerror}); give another folder") from None
    if (folder / FEASIBILITY).exists():
        raise UsageError(f"--out {folder}: already contains the result of --feasibility; give another folder")
    if (folder / SUMMARY).exists() or (folder / HISTORY).exists():
        raise UsageError(
            f"--out {folder}: already contains a run; give another folder, or resume the run with --resume {folder}"
        )
    return folder


def _unused(folder: Path) -> Path:
    """The folder, with a number appended if it exists, because two runs started in the same second."""
    names = (folder, *(folder.with_name(f"{folder.name}_{i}") for i in range(2, 1000)))
    return next(name for name in names if not name.exists())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lock the folder against other servers; the lock ends with the process, however that ends.

    Raises
    ------
    UsageError
        The folder does not exist or cannot be written to, or another server runs in it.
    """
    if not folder.is_dir():
        raise UsageError(f"--resume {folder}: cannot be opened (no such folder); give a run folder")
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{folder}: another server is running in it; stop that one first") from None
    except OSError as error:
        raise UsageError(f"--resume {folder}: cannot be opened ({error.strerror}); give a run folder") from None
    try:
        yield folder
    finally:
        with contextlib.suppress(
            OSError
        ):  # Windows cannot remove an open file; there the library removes it on release
            (folder / LOCK).unlink()
        lock.release()
