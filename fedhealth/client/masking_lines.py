"""The lines of a hospital's state of secure aggregation: read, appended and removed under a lock between processes."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedhealth.common.atomic_files import BINARY, append_line, briefly_locked
from fedhealth.common.errors import RunError

FIELDS: dict[str, tuple[str, ...]] = {
    "key": ("run", "key"),
    "roster": ("run", "digest", "names", "keys"),
    "sum": ("run", "context", "sha256"),
    "hospitals": ("code",),
}
"""Kind of line -> its keys; a sum may also have `words`."""
Entry = dict[str, Any]
NO_FILE = (0, 0, 0)


class MaskingLines:
    """The lines of one hospital; without a path they are kept in memory.

    Attributes
    ----------
    entries : all lines but those of sums.
    sums : the lines of sums by run and context; with a path without `words`, which stay in the file at the entry's `at`.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.sums: dict[tuple[str, str], Entry] = {}
        self._stamp, self._read_to = NO_FILE, 0

    def find(self, kind: str, **values: str) -> Entry | None:
        """The last line of this kind with these values; None if there is none."""
        for entry in reversed(self.entries):
            if entry["kind"] == kind and all(entry[key] == value for key, value in values.items()):
                return entry
        return None

    def append(self, entry: Entry) -> None:
        """Add a line, which is on disk afterwards."""
        if self.path is not None:
            if not self.path.exists():
                self._create(self.path, b"")
                self._note_end(self.path)
            append_line(self.path, json.dumps(entry))
            entry = {**entry, "at": self._read_to}
            self._note_end(self.path)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        """Add an entry to what is in memory."""
        if entry["kind"] != "sum":
            self.entries.append(entry)
            return
        if self.path is not None:
            entry.pop("words", None)
        self.sums[entry["run"], entry["context"]] = entry

    def _forget(self) -> None:
        self.entries, self.sums, self._stamp, self._read_to = [], {}, NO_FILE, 0

    @staticmethod
    def _create(path: Path, content: bytes) -> None:
        """Write a file that only its owner can read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the file against other processes of this hospital (Flower starts one per message) and read its new lines."""
        if self.path is None:
            yield
            return
        try:
            with briefly_locked(self.path):
                if not self._is_current(self.path):
                    self._read_new(self.path)
                yield
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be used ({error.strerror}), and nothing is sent under masks without it"
            ) from None

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """As `held`, but without the lock if nobody has written since: four waits less for every sum."""
        if self.path is not None and not self._is_current(self.path):
            with self.held():
                yield
        else:
            yield

    def _is_current(self, path: Path) -> bool:
        return path.exists() and _stamp_of(path) == self._stamp

    def _read_new(self, path: Path) -> None:
        if not path.exists():
            self._forget()
            return
        if _stamp_of(path) != self._stamp:  # another process has added lines or removed a run
            self._forget()
        with path.open("r+b") as file:
            file.seek(self._read_to)
            *lines, torn = file.read().split(b"\n")
            if torn:  # the process was killed while it wrote, so before it sent anything
                file.truncate(file.seek(-len(torn), os.SEEK_END))
        for line in lines:
            self._note({**self._parse(line), "at": self._read_to})
            self._read_to += len(line) + 1
        self._note_end(path)

    def with_words(self, entry: Entry) -> Entry:
        """The entry of a sum as it is in the file."""
        if self.path is None:
            return entry
        with self.path.open("rb") as file:
            file.seek(entry["at"])
            return self._parse(file.readline())

    def _note_end(self, path: Path) -> None:
        self._stamp = _stamp_of(path)
        self._read_to = self._stamp[1]

    def _parse(self, line: bytes) -> Entry:
        try:
            entry: Entry = json.loads(line)
            sound = all(key in entry for key in FIELDS[entry["kind"]])
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise RunError(
                f"{self.path}: holds a line that is damaged; restore the file, or move it away and start a new run"
            )
        return entry

    def keep_only(self, wanted: Callable[[Entry], bool]) -> None:
        """Remove all other lines."""
        if self.path is None:
            kept = [each for each in (*self.entries, *self.sums.values()) if wanted(each)]
            self._forget()
            for entry in kept:
                self._note(entry)
            return
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.unlink(missing_ok=True)
        lines = self.path.read_bytes().splitlines(keepends=True)
        self._create(temporary, b"".join(line for line in lines if wanted(self._parse(line))))
        temporary.replace(self.path)
        self._forget()
        self._read_new(self.path)


def _stamp_of(path: Path) -> tuple[int, int, int]:
    """What changes if anybody writes the file: inode, size, time."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
