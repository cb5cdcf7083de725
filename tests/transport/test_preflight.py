"""The source hashes that the two ends compare before a run; a missing source is an error."""

import hashlib

import pytest

from fedhealth.transport.grpc import preflight
from fedhealth.transport.grpc.preflight import SOURCES, own_facts, reply_to_check

NOTHING = hashlib.sha256(b"").hexdigest()


def test_every_compared_source_has_a_hash_of_its_own() -> None:
    hashes = own_facts().sources
    assert tuple(hashes) == SOURCES
    assert len(set(hashes.values())) == len(SOURCES)
    assert NOTHING not in hashes.values()


def test_a_missing_source_is_an_error_on_either_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "SOURCES", (*SOURCES, "models/moved_away.py"))
    with pytest.raises(FileNotFoundError, match=r"models/moved_away\.py"):
        own_facts()
    with pytest.raises(FileNotFoundError, match=r"models/moved_away\.py"):
        reply_to_check(b'{"arrays": []}', {}, None)
