"""The queue of a service: a folder of run files, and in it running/, finished/ and failed/.

A run file moves by a rename, so a service that is killed at any moment finds its run in running/ when it starts again.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedhealth.common.atomic_files import locked
from fedhealth.common.errors import RunError, UsageError

RUNNING, FINISHED, FAILED = "running", "finished", "failed"


@dataclass(frozen=True)
class Taken:
    """A run file in running/; `interrupted` if it was there already."""

    path: Path
    interrupted: bool


class RunQueue:
    """The run files of one folder, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folders, and keep other services out while the block runs.

        Raises
        ------
        UsageError
            They cannot be made or written to, or another service has them.
        """
        try:
            for name in (RUNNING, FINISHED, FAILED):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            lock = contextlib.ExitStack()
            lock.enter_context(locked(self.folder / "queue", wait=False))
        except BlockingIOError:
            raise UsageError(f"queue {self.folder}: another service runs it; stop that one first") from None
        except OSError as error:
            raise UsageError(
                f"queue {self.folder}: cannot be written to ({error.strerror}); give another folder"
            ) from None
        with lock:
            yield

    def waiting(self) -> list[Path]:
        """The run files that no service has taken yet; a hidden file is none."""
        return _run_files(self.folder)

    def take(self) -> Taken | None:
        """The interrupted run, else the next one, which moves to running/; None if there is none."""
        if interrupted := _run_files(self.folder / RUNNING):
            return Taken(interrupted[0], interrupted=True)
        if waiting := self.waiting():
            return Taken(self._move(waiting[0], RUNNING), interrupted=False)
        return None

    def put_away(self, path: Path, where: str) -> None:
        """Move a taken run file to finished/ or failed/."""
        self._move(path, where)

    def _move(self, path: Path, where: str) -> Path:
        try:
            return path.replace(self.folder / where / path.name)
        except OSError as error:
            raise RunError(f"{path}: cannot be moved to {where}/ ({error.strerror})") from None


def _run_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.toml") if not path.name.startswith("."))
