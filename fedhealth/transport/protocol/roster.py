"""The roster of secure aggregation: each hospital's key with its certificate and signature, and the whole roster to all.

A request for a key names the run. The reply to a roster is its digest, which shows that the hospital has accepted it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from fedhealth.common.pairwise_masks import digest
from fedhealth.transport.protocol.fields import CONFIG, take_config, take_records

KEY, ROSTER = "query.key", "query.roster"
VERSION = b"fedhealth secure aggregation 1"
RUN_ID, NAMES, KEYS, CERTIFICATES, SIGNATURES, DIGEST = (
    "run-id",
    "names",
    "keys",
    "certificates",
    "signatures",
    "digest",
)
RUN_ID_BYTES, KEY_BYTES = 16, 32
FEWEST, MOST = 3, 256
"""Hospitals of a roster: of the sum of two, each knows the other's numbers; `fixed_point.REAL_LIMIT` allows so many."""
LARGEST = 64 * 1024
"""Bytes of a certificate with its chain, and of a signature."""


@dataclass(frozen=True)
class Entry:
    """One hospital of a roster; `certificate` (PEM) and `signature` are empty if the run is without TLS."""

    name: str
    key: bytes
    """Its X25519 public key of this run."""
    certificate: bytes = b""
    signature: bytes = b""


@dataclass(frozen=True)
class KeyRoster:
    """All hospitals of a run, in the order of names."""

    run_id: bytes
    entries: tuple[Entry, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals' names, in order."""
        return tuple(entry.name for entry in self.entries)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Their public keys, in the same order."""
        return tuple(entry.key for entry in self.entries)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the run and of all entries: what every hospital and the server must have in common."""
        parts = [
            part for each in self.entries for part in (each.name.encode(), each.key, each.certificate, each.signature)
        ]
        return digest(VERSION, self.run_id, *parts)

    @property
    def shown_digest(self) -> str:
        """The first 32 digits of the digest in groups of four, for people to compare.

        A server that may choose parts of two rosters would find two with the same 16 digits in 2^32 attempts.
        """
        digits = self.digest.hex()[:32]
        return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def signed_bytes(run_id: bytes, entry: Entry) -> bytes:
    """What a hospital signs: the protocol, the run, its name and its key."""
    return digest(VERSION, run_id, entry.name.encode(), entry.key)


def code_of(names: Sequence[str]) -> str:
    """16 digits that stand for a set of hospitals, whatever their keys (--accept-roster)."""
    return hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()[:16]


def encode_key_request(run_id: bytes) -> RecordDict:
    """The request `KEY`."""
    return RecordDict({CONFIG: ConfigRecord({RUN_ID: run_id})})


def decode_key_request(content: RecordDict) -> bytes:
    """The run's id."""
    return _run_id(take_config(content))


def encode_key_reply(entry: Entry) -> RecordDict:
    """The reply to `KEY`."""
    return RecordDict({ROSTER: _encode([entry])})


def decode_key_reply(content: RecordDict) -> Entry:
    """The hospital's entry; certificate and signature are not checked."""
    (record,) = take_records(content, {ROSTER: ConfigRecord})
    entries = _decode(record)
    if len(entries) != 1:
        raise ValueError("it must send one key")
    return entries[0]


def encode_roster(roster: KeyRoster) -> RecordDict:
    """The request `ROSTER`."""
    return RecordDict({CONFIG: ConfigRecord({RUN_ID: roster.run_id}), ROSTER: _encode(roster.entries)})


def decode_roster(content: RecordDict) -> KeyRoster:
    """The roster; certificates, signatures and order are not checked."""
    run_id, record = _run_id(take_config(content, ROSTER)), content.get(ROSTER)
    if not isinstance(record, ConfigRecord):
        raise ValueError("the server's roster is invalid: there is none")
    try:
        return KeyRoster(run_id, _decode(record))
    except ValueError as error:
        raise ValueError(f"the server's roster is invalid: {error}") from None


def encode_acceptance(roster_digest: bytes) -> RecordDict:
    """The reply to `ROSTER`."""
    return RecordDict({ROSTER: ConfigRecord({DIGEST: roster_digest})})


def decode_acceptance(content: RecordDict) -> bytes:
    """The digest of the roster that the hospital has accepted."""
    (record,) = take_records(content, {ROSTER: ConfigRecord})
    accepted = record.get(DIGEST)
    if len(record) != 1 or not isinstance(accepted, bytes):
        raise ValueError(f"it must send exactly the {DIGEST} of the roster")
    return accepted


def _run_id(config: ConfigRecord) -> bytes:
    run_id = config.get(RUN_ID)
    if not isinstance(run_id, bytes) or len(run_id) != RUN_ID_BYTES:
        raise ValueError(f"the server's {RUN_ID} is invalid: {RUN_ID_BYTES} bytes are needed")
    return run_id


def _encode(entries: Sequence[Entry]) -> ConfigRecord:
    return ConfigRecord(
        {
            NAMES: [each.name for each in entries],
            KEYS: [each.key for each in entries],
            CERTIFICATES: [each.certificate for each in entries],
            SIGNATURES: [each.signature for each in entries],
        }
    )


def _decode(record: ConfigRecord) -> tuple[Entry, ...]:
    columns: list[Any] = [record.get(key) for key in (NAMES, KEYS, CERTIFICATES, SIGNATURES)]
    if len(record) != len(columns) or not all(isinstance(column, list) for column in columns):
        raise ValueError(f"it must have exactly the lists {NAMES}, {KEYS}, {CERTIFICATES} and {SIGNATURES}")
    if len(set(map(len, columns))) != 1 or not 1 <= len(columns[0]) <= MOST:
        raise ValueError(f"its lists must have the same length, from 1 to {MOST}")
    if not all(isinstance(name, str) and name and name.isprintable() for name in columns[0]):
        raise ValueError("a hospital has no name, or one that cannot be printed")
    if not all(isinstance(part, bytes) and len(part) <= LARGEST for column in columns[1:] for part in column):
        raise ValueError("a key, certificate or signature is no bytes, or too long")
    if not all(len(key) == KEY_BYTES for key in columns[1]):
        raise ValueError(f"a key does not have {KEY_BYTES} bytes")
    return tuple(Entry(*parts) for parts in zip(*columns, strict=True))
