"""Which splits of its patients a hospital has worked with, kept beside its CSV.

By the differences of sums over two splits a server could find single patients, so a server gets one split, however often
the client is started. Another content of the file is another split, too: the sums before and after a patient was added
differ by that patient.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.selection import asks_for_choice

ENDING = ".splits.json"


class Split(msgspec.Struct, frozen=True, rename="kebab"):
    """What determines the training, test and validation patients; as text, since a server may send anything."""

    seed: str
    test_share: str
    validation: str
    file: str = ""
    """SHA-256 of the CSV."""


class SplitMemory:
    """The splits so far and the maximum number; without a path they are kept in memory."""

    def __init__(self, most: int = 1, file: Path | None = None) -> None:
        self.most = most
        self._path = file and file.with_name(file.stem + ENDING)
        self._digest = hashlib.sha256(file.read_bytes()).hexdigest() if file else ""
        self._known: tuple[Split, ...] = self._read()

    def allows(self, run_config: Mapping[str, Any]) -> bool:
        """Whether this run's split is known, or one more is allowed."""
        return self._split(run_config) in self._known or len(self._known) < self.most

    def remember(self, run_config: Mapping[str, Any]) -> None:
        """Write this run's split to disk, before anything of it is sent; raises a `RunError` if that fails."""
        split = self._split(run_config)
        if split in self._known:
            return
        known = (*self._known, split)
        if self._path:
            try:
                write_file(self._path, msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n")
            except UsageError as error:
                reason = f"{self._path}: cannot be written ({error.__cause__}), so no new split is begun"
                raise RunError(reason) from None
        self._known = known

    def _split(self, run_config: Mapping[str, Any]) -> Split:
        held = run_config.get("validation") if asks_for_choice(run_config) else None
        return Split(str(run_config.get("seed")), str(run_config.get("test-share")), str(held), self._digest)

    def _read(self) -> tuple[Split, ...]:
        """The content of the file; raises if it cannot be read."""
        if self._path is None or not self._path.exists():
            return ()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Split, ...])
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self._path}: cannot be read ({error}); restore the file, which counts the splits of these patients"
            ) from None
