"""What a hospital keeps of secure aggregation: keys, rosters and what it has sent, in a file beside its table.

A second, other vector under the same context would disclose the difference of both. So every vector is written to disk
before it is sent, and the same request gets the same bytes again, also after a crash. Large vectors are kept as their hash
only; they are computed again and sent if they are the same.
"""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedhealth.common.atomic_files import BINARY, append_line, locked
from fedhealth.common.errors import RunError
from fedhealth.common.pairwise_masks import Words

ENDING = ".secagg.jsonl"
LARGEST_KEPT = 2**20
"""Bytes of a vector that is kept whole."""
FIELDS: dict[str, tuple[str, ...]] = {
    "key": ("run", "key"),
    "roster": ("run", "digest", "names", "keys"),
    "sum": ("run", "context", "sha256"),
    "hospitals": ("code",),
}
"""Kind of line -> its keys; a sum may also have `words`."""


Entry = dict[str, Any]


class MaskingState:
    """The lines of one hospital; without a path they are kept in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._entries: list[Entry] = []
        self._inode, self._read_to = 0, 0

    def private_key(self, run_id: bytes, *, make: bool) -> X25519PrivateKey | None:
        """The hospital's key of a run; with `make` a new one if there is none, and runs that are over are removed.

        Raises
        ------
        RunError
            A key is to be made for a run that is over.
        """
        with self._held():
            known = self._find("key", run=run_id.hex())
            if known is None and make:
                self._require_not_over(run_id)
                self._remove_runs_without_key()
                known = {
                    "kind": "key",
                    "run": run_id.hex(),
                    "key": X25519PrivateKey.generate().private_bytes_raw().hex(),
                }
                self._append(known)
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(known["key"])) if known else None

    def accepted(self, run_id: bytes) -> Entry | None:
        """The roster that was accepted for a run: its digest, names and keys; None if there is none."""
        with self._held():
            return self._find("roster", run=run_id.hex())

    def accept(self, run_id: bytes, digest: bytes, names: tuple[str, ...], keys: tuple[bytes, ...], code: str) -> None:
        """Accept a roster for a run, and remember its hospitals.

        Raises
        ------
        RunError
            Another roster was accepted for this run.
        """
        entry = {"run": run_id.hex(), "digest": digest.hex(), "names": list(names), "keys": [key.hex() for key in keys]}
        with self._held():
            known = self._find("roster", run=run_id.hex())
            if known and known["digest"] != digest.hex():
                raise RunError("the server sends a second roster for the same run; nothing is sent")
            if known is None:
                self._append({"kind": "roster", **entry})
            if self._find("hospitals", code=code) is None:
                self._append({"kind": "hospitals", "code": code})

    def known_codes(self) -> set[str]:
        """The sets of hospitals with which this one has been in a roster."""
        with self._held():
            return {entry["code"] for entry in self._entries if entry["kind"] == "hospitals"}

    def find_sent(self, run_id: bytes, context: bytes) -> Words | None:
        """The vector that was sent under this context; None if there was none, or only its hash is known."""
        with self._held():
            known = self._find("sum", run=run_id.hex(), context=context.hex())
        return np.frombuffer(base64.b64decode(known["words"]), "<u8") if known and "words" in known else None

    def keep(self, run_id: bytes, context: bytes, words: Words) -> None:
        """Write a vector to disk before it is sent.

        Raises
        ------
        RunError
            Another vector was sent under this context, or the file cannot be written.
        """
        content = words.astype("<u8").tobytes()
        sum_hash = hashlib.sha256(content).hexdigest()
        with self._held():
            known = self._find("sum", run=run_id.hex(), context=context.hex())
            if known is None:
                kept = {"words": base64.b64encode(content).decode()} if len(content) <= LARGEST_KEPT else {}
                line = {"run": run_id.hex(), "context": context.hex(), "sha256": sum_hash, **kept}
                self._append({"kind": "sum", **line})
            elif known["sha256"] != sum_hash:
                raise RunError(
                    "the server asks again for a sum, and this hospital's numbers are others than before; nothing is sent, "
                    "since the difference would disclose patients. Start a new run"
                )

    def remove_key(self, run_id: bytes) -> None:
        """Remove the key of a run that is over.

        The roster and what was sent stay until the next run: a server that was interrupted in its last step asks again.
        """
        with self._held():
            if self._find("key", run=run_id.hex()):
                self._replace(
                    [each for each in self._entries if (each["kind"], each.get("run")) != ("key", run_id.hex())]
                )

    def _require_not_over(self, run_id: bytes) -> None:
        if self._find("roster", run=run_id.hex()):
            raise RunError("the server asks for a new key in a run that is over; nothing is sent")

    def _remove_runs_without_key(self) -> None:
        with_key = {entry["run"] for entry in self._entries if entry["kind"] == "key"}
        kept = [entry for entry in self._entries if entry.get("run") in {None, *with_key}]
        if len(kept) < len(self._entries):
            self._replace(kept)

    def _replace(self, entries: list[Entry]) -> None:
        """Keep only these lines."""
        if self.path is not None:
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            temporary.unlink(missing_ok=True)
            self._create(temporary, "".join(f"{json.dumps(entry)}\n" for entry in entries))
            temporary.replace(self.path)
            self._note_end(self.path)
        self._entries = entries

    def _find(self, kind: str, **values: str) -> Entry | None:
        for entry in reversed(self._entries):
            if entry["kind"] == kind and all(entry[key] == value for key, value in values.items()):
                return entry
        return None

    def _append(self, entry: Entry) -> None:
        if self.path is not None:
            if not self.path.exists():
                self._create(self.path, "")
            append_line(self.path, json.dumps(entry))
            self._note_end(self.path)
        self._entries.append(entry)

    @staticmethod
    def _create(path: Path, content: str) -> None:
        """Write a file that only its owner can read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600), "wb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Lock the file against other processes of this hospital (Flower starts one per message) and read its new lines."""
        if self.path is None:
            yield
            return
        try:
            with locked(self.path):
                self._read_new(self.path)
                yield
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be used ({error.strerror}), and nothing is sent under masks without it"
            ) from None

    def _read_new(self, path: Path) -> None:
        if not path.exists():
            self._entries, self._inode, self._read_to = [], 0, 0
            return
        if path.stat().st_ino != self._inode:  # another process has removed a run
            self._entries, self._read_to = [], 0
        with path.open("r+b") as file:
            file.seek(self._read_to)
            *lines, torn = file.read().split(b"\n")
            if torn:  # the process was killed while it wrote, so before it sent anything
                file.truncate(file.seek(-len(torn), os.SEEK_END))
        self._entries += [self._parse(line) for line in lines]
        self._note_end(path)

    def _note_end(self, path: Path) -> None:
        found = path.stat()
        self._inode, self._read_to = found.st_ino, found.st_size

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


def masking_path(file: Path) -> Path:
    """The path of the state for a table: it depends on the file, not on the hospital's name."""
    return file.with_name(file.stem + ENDING)
