"""The folder of a run: made, or opened to go on in, and locked against other servers."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.scripts import ServerSettings
from fedhealth.server.resume import Run, resume_run


@contextlib.contextmanager
def opened_run(settings: ServerSettings, warn: Callable[[str], None]) -> Iterator[Run]:
    """A new run folder, or with --resume the one to go on in, held against other servers while the block runs.

    A run that wrote nothing leaves no folder behind.
    """
    with held(settings.resume) if settings.resume else new_run_folder(settings.out) as folder:
        try:
            yield resume_run(folder, settings, warn) if settings.resume else Run(folder, settings.federation())
        except (KeyboardInterrupt, RunError) as error:
            if (folder / "settings.json").exists() and not (folder / "summary.json").exists():
                error.add_note(f"go on with: python server.py --resume {folder}")
            raise


@contextlib.contextmanager
def new_run_folder(out: Path | None) -> Iterator[Path]:
    """A new run folder, held while the block runs; if nothing was written, it is gone afterwards."""
    folder = make_run_folder(out)
    with held(folder):
        try:
            yield folder
        finally:
            remove_empty(
                folder, *([] if out else [folder.parent])
            )  # while it is ours: it may be another server's after


def remove_empty(*folders: Path) -> None:
    """Remove those folders that are empty, up to the first that is not."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def make_run_folder(out: Path | None) -> Path:
    """Create the run folder (default `runs/<time>`), empty and writable, or say why not before anybody waits."""
    folder = out or _unused(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"a full disk makes files, but takes no byte")
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot write there ({error.strerror}); give another folder") from None
    if (folder / "summary.json").exists() or (folder / "history.jsonl").exists():
        raise UsageError(
            f"--out {folder}: already holds a run; give another folder, or go on with it: --resume {folder}"
        )
    return folder


def _unused(folder: Path) -> Path:
    """The folder, with a number behind it if two runs start in one second."""
    names = (folder, *(folder.with_name(f"{folder.name}_{i}") for i in range(2, 1000)))
    return next(name for name in names if not name.exists())


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Keep other servers out of the folder; the lock goes with the process, however it ends."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"--resume {folder}: cannot be opened ({error.strerror}); give a run folder") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder}: another server is running in it; stop that one first") from None
        yield folder
    finally:
        os.close(descriptor)


# --- going on ---------------------------------------------------------------------------------------------------------


# --- keeping ----------------------------------------------------------------------------------------------------------
