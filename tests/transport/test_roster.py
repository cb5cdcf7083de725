"""The roster on the wire: what is decoded, what is refused, and what its digest depends on."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.transport.protocol import roster as rosters
from fedhealth.transport.protocol.fields import CONFIG
from fedhealth.transport.protocol.roster import Entry, KeyRoster

RUN = bytes(range(16))
ENTRIES = tuple(Entry(name, bytes([place]) * 32, b"certificate", b"signature") for place, name in enumerate("abc"))
ROSTER = KeyRoster(RUN, ENTRIES)


def transported(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(content))


@given(
    names=st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1, max_size=8),
    run=st.binary(min_size=16, max_size=16),
)
def test_a_roster_is_the_same_after_its_transport(names: list[str], run: bytes) -> None:
    sent = KeyRoster(run, tuple(Entry(name, os.urandom(32), name.encode(), b"") for name in names))
    received = rosters.decode_roster(transported(rosters.encode_roster(sent)))
    assert received == sent
    assert received.digest == sent.digest


def test_keys_requests_and_acceptances_are_the_same_after_their_transport() -> None:
    assert rosters.decode_key_request(transported(rosters.encode_key_request(RUN))) == RUN
    assert rosters.decode_key_reply(transported(rosters.encode_key_reply(ENTRIES[0]))) == ENTRIES[0]
    assert rosters.decode_acceptance(transported(rosters.encode_acceptance(b"digest"))) == b"digest"


@pytest.mark.parametrize("part", ["name", "key", "certificate", "signature"])
def test_the_digest_depends_on_every_part_of_every_entry(part: str) -> None:
    for place in range(len(ENTRIES)):
        changed = list(ENTRIES)
        changed[place] = replace(changed[place], **{part: "d" if part == "name" else b"d" * 32})
        assert KeyRoster(RUN, tuple(changed)).digest != ROSTER.digest


def test_the_digest_depends_on_run_order_and_number_and_its_first_32_digits_are_shown() -> None:
    others = (
        KeyRoster(RUN[::-1], ENTRIES),
        KeyRoster(RUN, ENTRIES[::-1]),
        KeyRoster(RUN, ENTRIES[:2]),
        KeyRoster(RUN, (*ENTRIES, Entry("d", bytes(32)))),
    )
    assert len({ROSTER.digest, *(other.digest for other in others)}) == 5
    assert ROSTER.digest.hex().startswith(ROSTER.shown_digest.replace("-", ""))
    assert [len(group) for group in ROSTER.shown_digest.split("-")] == [4] * 8


@pytest.mark.parametrize("part", ["run", "name", "key"])
def test_what_a_hospital_signs_depends_on_run_name_and_key(part: str) -> None:
    run, entry = (RUN[::-1], ENTRIES[0]) if part == "run" else (RUN, ENTRIES[0])
    entry = entry if part == "run" else replace(entry, **{part: "z" if part == "name" else b"z" * 32})
    assert rosters.signed_bytes(run, entry) != rosters.signed_bytes(RUN, ENTRIES[0])


def test_the_code_stands_for_the_set_of_names_in_any_order() -> None:
    assert rosters.code_of(["va", "hungary"]) == rosters.code_of(["hungary", "va"])
    codes = [rosters.code_of(names) for names in (["va", "hungary"], ["va"], ["va, hungary"], ['va", "hungary'])]
    assert len(set(codes)) == 4
    assert all(len(code) == 16 for code in codes)


def with_column(column: str, value: Any) -> Callable[[ConfigRecord], None]:
    def change(record: ConfigRecord) -> None:
        record[column] = value

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda record: record.pop("keys"), "it must have exactly the lists names, keys, certificates and signatures"),
        (with_column("names", "abc"), "it must have exactly the lists names, keys, certificates and signatures"),
        (with_column("more", [1]), "it must have exactly the lists names, keys, certificates and signatures"),
        (with_column("names", ["a", "b"]), "its lists must have the same length, from 1 to 256"),
        (with_column("names", ["a", "b", ""]), "a hospital has no name, or one that cannot be printed"),
        (with_column("names", ["a", "b", "c\x1b[2J"]), "a hospital has no name, or one that cannot be printed"),
        (with_column("names", [1, 2, 3]), "a hospital has no name, or one that cannot be printed"),
        (with_column("keys", [bytes(32), bytes(32), bytes(31)]), "a key does not have 32 bytes"),
        (with_column("keys", ["a", "b", "c"]), "a key, certificate or signature is no bytes, or too long"),
        (
            with_column("certificates", [b"", b"", b"x" * (64 * 1024 + 1)]),
            "a key, certificate or signature is no bytes, or too long",
        ),
    ],
)
def test_an_invalid_roster_is_refused_with_one_line(change: Callable[[ConfigRecord], Any], line: str) -> None:
    content = rosters.encode_roster(ROSTER)
    change(content[rosters.ROSTER])  # type: ignore[arg-type]
    with pytest.raises(ValueError) as caught:
        rosters.decode_roster(content)
    assert str(caught.value) == f"the server's roster is invalid: {line}"


def test_more_than_256_hospitals_are_refused() -> None:
    many = KeyRoster(RUN, tuple(Entry(f"{place:03}", bytes(32)) for place in range(257)))
    with pytest.raises(ValueError, match=r"from 1 to 256$"):
        rosters.decode_roster(rosters.encode_roster(many))
    most = KeyRoster(RUN, many.entries[1:])
    assert rosters.decode_roster(rosters.encode_roster(most)) == most


@pytest.mark.parametrize("run_id", [b"short", bytes(17), "text of 16 signs", 7])
def test_a_run_id_of_another_form_is_refused(run_id: Any) -> None:
    content = RecordDict({CONFIG: ConfigRecord({rosters.RUN_ID: run_id})})
    with pytest.raises(ValueError, match=r"^the server's run-id is invalid: 16 bytes are needed$"):
        rosters.decode_key_request(content)


def test_a_roster_without_entries_and_a_reply_with_two_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^the server's roster is invalid: there is none$"):
        rosters.decode_roster(rosters.encode_key_request(RUN))
    two = RecordDict({rosters.ROSTER: rosters.encode_roster(ROSTER)[rosters.ROSTER]})
    with pytest.raises(ValueError, match=r"^it must send one key$"):
        rosters.decode_key_reply(two)


@pytest.mark.parametrize(
    "record", [ConfigRecord(), ConfigRecord({"digest": "text"}), ConfigRecord({"digest": b"", "x": 1})]
)
def test_an_acceptance_of_another_form_is_refused(record: ConfigRecord) -> None:
    with pytest.raises(ValueError, match=r"^it must send exactly the digest of the roster$"):
        rosters.decode_acceptance(RecordDict({rosters.ROSTER: record}))
