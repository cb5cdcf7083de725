"""What the two ends compare before a run: every source is hashed, and one that is missing is an error."""

import hashlib

import pytest

from fedhealth.transport.grpc import preflight
from fedhealth.transport.grpc.preflight import SOURCES, answer_check, own_facts

NOTHING = hashlib.sha256(b"").hexdigest()


def test_every_source_that_decides_what_weights_mean_has_a_hash_of_its_own() -> None:
    hashes = own_facts().sources
    assert tuple(hashes) == SOURCES
    assert len(set(hashes.values())) == len(SOURCES)
    assert NOTHING not in hashes.values()


def test_a_source_that_is_missing_is_an_error_on_either_end_and_no_hash_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "SOURCES", (*SOURCES, "models/moved_away.py"))
    with pytest.raises(FileNotFoundError, match=r"models/moved_away\.py"):
        own_facts()
    with pytest.raises(FileNotFoundError, match=r"models/moved_away\.py"):
        answer_check(b'{"arrays": []}', {}, None)
