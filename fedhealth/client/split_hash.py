"""A keyed hash of a hospital's test patients, by which the reports of two runs say whether these are the same.

A plain hash would disclose a patient to whoever knows all others and tries the values of the last one. So this is an HMAC
(Krawczyk, Bellare & Canetti 1997, RFC 2104) under a random key that never leaves the hospital: without it the hash is as
good as a random number. All that it discloses is whether the test patients are those of an earlier run.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import numpy as np

from fedhealth.common.atomic_files import locked
from fedhealth.data.patients import Patients

KEY_FILE = "split-hash.key"
"""Beside the hospital's CSV, readable by its owner only."""
KEY_BYTES = 32


def hash_patients(patients: Patients, key: bytes) -> str:
    """8 hex digits that name the key, a dash, and 32 of the HMAC-SHA256 of the patients in any order.

    Two hashes under different keys cannot be compared, and the name of the key shows that.
    """
    name, digest = (hmac.digest(key, content, "sha256").hex() for content in (b"key", b"split" + to_bytes(patients)))
    return f"{name[:8]}-{digest[:32]}"


def to_bytes(patients: Patients) -> bytes:
    """The patients' values as bytes that do not depend on their order, nor on how zero or a missing value is stored."""
    rows = np.column_stack([patients.features, patients.labels]).astype("<f8") + 0.0
    rows[np.isnan(rows)] = np.nan
    return rows[np.lexsort(rows.T)].tobytes()


def derive_key(patients: Patients) -> bytes:
    """A key for a simulation, which has the hospital's patients anyway and keeps nothing: a hash of all of them.

    It is the same in every simulation of these patients. For hashes that are sent to another computer it will not do.
    """
    return hashlib.sha256(to_bytes(patients)).digest()


def read_key(folder: Path) -> bytes | None:
    """The key of a hospital's folder, made if there is none; None if that is not possible, or the file is damaged."""
    path = folder / KEY_FILE
    try:
        if not path.exists():
            with locked(path):
                _make_key(path)
        key = path.read_bytes()
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def _make_key(path: Path) -> None:
    """Write a new key, whole or not at all, unless another process has done so."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
