"""What a hospital keeps of secure aggregation: keys, rosters and what it has sent, in a file beside its table.

A second, other vector under the same context would disclose the difference of both. So every vector is written to disk
before it is sent, and the same request gets the same bytes again, also after a crash. Large vectors are kept as their hash
only; they are computed again and sent if they are the same.
"""

import base64
import hashlib
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedhealth.client.masking_lines import Entry, MaskingLines
from fedhealth.common.errors import RunError
from fedhealth.common.pairwise_masks import Words

ENDING = ".secagg.jsonl"
LARGEST_KEPT = 2**20
"""Bytes of a vector that is kept whole."""


class MaskingState:
    """The lines of one hospital; without a path they are kept in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lines = MaskingLines(path)

    def private_key(self, run_id: bytes, *, make: bool) -> X25519PrivateKey | None:
        """The hospital's key of a run; with `make` a new one if there is none, and runs that are over are removed.

        Raises
        ------
        RunError
            A key is to be made for a run that is over.
        """
        with self._lines.held() if make else self._lines.read():
            known = self._lines.find("key", run=run_id.hex())
            if known is None and make:
                self._require_not_over(run_id)
                self._remove_runs_without_key()
                known = {
                    "kind": "key",
                    "run": run_id.hex(),
                    "key": X25519PrivateKey.generate().private_bytes_raw().hex(),
                }
                self._lines.append(known)
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(known["key"])) if known else None

    def private_bytes(self, run_id: bytes) -> bytes | None:
        """The hospital's key of a run as it is in the file; None if there is none."""
        with self._lines.read():
            known = self._lines.find("key", run=run_id.hex())
        return bytes.fromhex(known["key"]) if known else None

    def accepted(self, run_id: bytes) -> Entry | None:
        """The roster that was accepted for a run: its digest, names and keys; None if there is none."""
        with self._lines.read():
            return self._lines.find("roster", run=run_id.hex())

    def accept(self, run_id: bytes, digest: bytes, names: tuple[str, ...], keys: tuple[bytes, ...], code: str) -> None:
        """Accept a roster for a run, and remember its hospitals.

        Raises
        ------
        RunError
            Another roster was accepted for this run.
        """
        entry = {"run": run_id.hex(), "digest": digest.hex(), "names": list(names), "keys": [key.hex() for key in keys]}
        with self._lines.held():
            known = self._lines.find("roster", run=run_id.hex())
            if known and known["digest"] != digest.hex():
                raise RunError("the server sends a second roster for the same run; nothing is sent")
            if known is None:
                self._lines.append({"kind": "roster", **entry})
            if self._lines.find("hospitals", code=code) is None:
                self._lines.append({"kind": "hospitals", "code": code})

    def known_codes(self) -> set[str]:
        """The sets of hospitals with which this one has been in a roster."""
        with self._lines.read():
            return {entry["code"] for entry in self._lines.entries if entry["kind"] == "hospitals"}

    def find_sent(self, run_id: bytes, context: bytes) -> Words | None:
        """The vector that was sent under this context; None if there was none, or only its hash is known."""
        with self._lines.read():
            known = self._lines.sums.get((run_id.hex(), context.hex()))
            known = self._lines.with_words(known) if known else None
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
        with self._lines.held():
            known = self._lines.sums.get((run_id.hex(), context.hex()))
            if known is None:
                kept = {"words": base64.b64encode(content).decode()} if len(content) <= LARGEST_KEPT else {}
                line = {"run": run_id.hex(), "context": context.hex(), "sha256": sum_hash, **kept}
                self._lines.append({"kind": "sum", **line})
            elif known["sha256"] != sum_hash:
                raise RunError(
                    "the server asks again for a sum, and this hospital's numbers are others than before; nothing is sent, "
                    "since the difference would disclose patients. Start a new run"
                )

    def remove_key(self, run_id: bytes) -> None:
        """Remove the key of a run that is over.

        The roster and what was sent stay until the next run: a server that was interrupted in its last step asks again.
        """
        with self._lines.held():
            if self._lines.find("key", run=run_id.hex()):
                self._lines.keep_only(lambda each: (each["kind"], each.get("run")) != ("key", run_id.hex()))

    def _require_not_over(self, run_id: bytes) -> None:
        if self._lines.find("roster", run=run_id.hex()):
            raise RunError("the server asks for a new key in a run that is over; nothing is sent")

    def _remove_runs_without_key(self) -> None:
        runs = {None, *(entry["run"] for entry in self._lines.entries if entry["kind"] == "key")}
        if any(entry.get("run") not in runs for entry in self._lines.entries):
            self._lines.keep_only(lambda entry: entry.get("run") in runs)


def masking_path(file: Path) -> Path:
    """The path of the state for a table: it depends on the file, not on the hospital's name."""
    return file.with_name(file.stem + ENDING)
