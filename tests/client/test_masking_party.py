"""Rosters of a lying server, with real certificates: each is refused by the hospital, with one line that says why."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.masking_party import MaskingParty, read_pins
from fedhealth.client.masking_state import MaskingState, masking_path
from fedhealth.common.errors import RunError, UsageError
from fedhealth.transport.protocol import roster as rosters
from fedhealth.transport.protocol.masked_vectors import MASKED
from fedhealth.transport.protocol.roster import Entry, KeyRoster
from fedhealth.transport.protocol.training import TRAIN
from fedhealth.transport.tls.identity import Identity
from fedhealth.transport.tls.party_check import fingerprint, sign
from tests.support.forged_certificates import authority_of, forge
from tests.support.secured_hospitals import (
    NAMES,
    QUICK,
    RUN,
    AskingServer,
    issue,
    make_hospital,
    make_settings,
    train_request,
    with_entry,
    write_files,
)

OTHER_RUN = b"another run here"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs") / "ours"


@pytest.fixture(scope="module")
def identities(folder: Path) -> dict[str, Identity]:
    return issue(folder, *NAMES, "basel", "leeds")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_files(tmp_path)


@pytest.fixture
def server(files: dict[str, Path], identities: dict[str, Identity]) -> AskingServer:
    hospitals = {name: make_hospital(path, identities[name]) for name, path in files.items()}
    return AskingServer(hospitals, make_settings())


def entry_of(identity: Identity, name: str = "", key: bytes = b"", run: bytes = RUN) -> Entry:
    """The entry of whoever has this identity, for a key of their own or for `key`."""
    entry = Entry(name or identity.name, key or X25519PrivateKey.generate().public_key().public_bytes_raw())
    signature = sign(identity, rosters.signed_bytes(run, entry))
    return replace(entry, certificate=identity.cert, signature=signature)


def refusal(server: AskingServer, roster: KeyRoster, name: str = "va") -> str:
    """The line with which the hospital refuses the roster; afterwards it masks nothing under it."""
    with pytest.raises(RunError) as caught:
        server.send_roster(name, roster)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"there is no roster for its run$"):
        server.ask(name, TRAIN, train_request(), run=roster.run_id)
    return str(caught.value)


# --- an honest server -------------------------------------------------------------------------------------------------


def test_hospitals_with_certificates_accept_the_roster_and_their_masks_cancel(server: AskingServer) -> None:
    agreed, request = server.agree(), train_request()
    replies = {name: server.ask(name, TRAIN, request) for name in NAMES}
    assert server.add_up(TRAIN, request, replies, agreed)["patients"][0] > 100


def test_the_key_of_a_run_is_the_same_when_asked_again_and_another_in_another_run(
    server: AskingServer, files: dict[str, Path], identities: dict[str, Identity]
) -> None:
    first = server.collect(RUN, "va").entries[0]
    again = AskingServer({"va": make_hospital(files["va"], identities["va"])}, server.settings)
    assert again.collect(RUN, "va").entries[0].key == first.key
    assert again.collect(OTHER_RUN, "va").entries[0].key != first.key


# --- a roster that is not one -----------------------------------------------------------------------------------------


def shorter(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    return KeyRoster(RUN, roster.entries[1:])


def without_itself(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    others = [entry_of(identities[name]) for name in ("basel", "leeds")]
    return KeyRoster(RUN, tuple(sorted((*others, roster.entries[0]), key=lambda entry: entry.name)))


def unsorted(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    return KeyRoster(RUN, roster.entries[::-1])


def with_a_name_twice(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    return KeyRoster(RUN, (roster.entries[0], *roster.entries))


def with_a_second_entry_of_its_own(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    return KeyRoster(RUN, (*roster.entries, entry_of(identities["va"])))


def with_a_key_twice(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    key = next(entry.key for entry in roster.entries if entry.name == "hungary")
    return with_entry(roster, entry_of(identities["cleveland"], key=key))


def with_its_key_as_another_hospitals(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    own = next(entry for entry in roster.entries if entry.name == "va")
    return with_entry(roster, entry_of(identities["cleveland"], key=own.key))


def with_another_key_of_its_own(roster: KeyRoster, identities: dict[str, Identity]) -> KeyRoster:
    return with_entry(roster, entry_of(identities["va"]))


INVALID = "the server's roster is invalid: "


@pytest.mark.parametrize(
    ("lie", "line"),
    [
        (shorter, "secure aggregation needs 3 hospitals or more, and the roster has 2"),
        (without_itself, INVALID + "it does not have this hospital's key"),
        (unsorted, INVALID + "names or keys are doubled or out of order"),
        (with_a_name_twice, INVALID + "names or keys are doubled or out of order"),
        (with_a_second_entry_of_its_own, INVALID + "names or keys are doubled or out of order"),
        (with_a_key_twice, INVALID + "names or keys are doubled or out of order"),
        (with_its_key_as_another_hospitals, INVALID + "names or keys are doubled or out of order"),
        (with_another_key_of_its_own, INVALID + "it does not have this hospital's key"),
    ],
    ids=lambda each: each.__name__.replace("_", " ") if callable(each) else "",
)
def test_a_roster_in_which_its_numbers_are_not_hidden_is_refused(
    server: AskingServer,
    identities: dict[str, Identity],
    lie: Callable[[KeyRoster, dict[str, Identity]], KeyRoster],
    line: str,
) -> None:
    assert refusal(server, lie(server.collect(), identities)) == line


def test_a_shorter_roster_of_enough_hospitals_is_another_roster(
    server: AskingServer, identities: dict[str, Identity]
) -> None:
    """Va accepts five hospitals, cleveland four of them: what the server adds up is noise, whomever it leaves out."""
    basel, leeds = entry_of(identities["basel"]), entry_of(identities["leeds"])
    five = with_entry(server.collect(), basel, leeds)
    four = KeyRoster(RUN, five.entries[1:])
    server.send_roster("va", five)
    server.send_roster("cleveland", four)
    request = train_request()
    replies = {name: server.ask(name, TRAIN, request) for name in ("va", "cleveland")}
    for roster in (five, four):
        with pytest.raises(ValueError, match=r"^the masks do not cancel"):
            server.add_up(TRAIN, request, replies, roster)


# --- keys and certificates of others ----------------------------------------------------------------------------------


def test_a_key_that_the_server_has_swapped_is_refused(server: AskingServer) -> None:
    """The certificate stays; the server has no key to sign with."""
    roster = server.collect()
    swapped = replace(roster.entries[0], key=X25519PrivateKey.generate().public_key().public_bytes_raw())
    line = "the roster is not accepted: cleveland has not signed its key"
    assert refusal(server, with_entry(roster, swapped)) == line


def test_the_key_and_signature_of_another_run_are_refused(server: AskingServer) -> None:
    earlier, roster = server.collect(OTHER_RUN), server.collect()
    line = "the roster is not accepted: cleveland has not signed its key"
    assert refusal(server, with_entry(roster, earlier.entries[0])) == line


def test_a_certificate_and_key_of_another_member_under_a_hospitals_name_are_refused(
    server: AskingServer, identities: dict[str, Identity]
) -> None:
    swapped = entry_of(identities["basel"], name="cleveland")
    line = "the roster is not accepted: cleveland has the certificate of basel"
    assert refusal(server, with_entry(server.collect(), swapped)) == line


def test_the_servers_own_certificate_is_refused_under_any_name(
    server: AskingServer, identities: dict[str, Identity]
) -> None:
    roster = server.collect()
    as_itself = KeyRoster(RUN, tuple(sorted((entry_of(identities["server"]), *roster.entries), key=lambda e: e.name)))
    line = "the roster is not accepted: localhost has no hospital's certificate"
    assert refusal(server, as_itself) == line
    swapped = entry_of(identities["server"], name="cleveland")
    line = "the roster is not accepted: cleveland has the certificate of localhost"
    assert refusal(server, with_entry(roster, swapped)) == line


def test_certificates_of_others_than_the_authority_are_refused(
    server: AskingServer, folder: Path, identities: dict[str, Identity]
) -> None:
    basel, roster = identities["basel"], server.collect()
    by_a_hospital = forge("cleveland", basel.cert, basel.key, more_certificates=basel.cert, based_on=basel)
    stranger = forge("CA", None, None, is_ca=True, based_on=basel)
    by_a_stranger = forge("cleveland", stranger.cert, stranger.key, more_certificates=stranger.cert, based_on=basel)
    for forged in (by_a_hospital, by_a_stranger):
        line = "the roster is not accepted: cleveland has a certificate that this hospital's CA has not issued"
        assert refusal(server, with_entry(roster, entry_of(forged))) == line
    expired = forge("cleveland", *authority_of(folder), since=10, days=-1, based_on=basel)
    line = refusal(server, with_entry(roster, entry_of(expired)))
    assert line.startswith("the roster is not accepted: cleveland has a certificate that is valid from 20")


def test_a_hospital_without_certificate_is_refused_by_those_that_have_one(server: AskingServer) -> None:
    roster = server.collect()
    bare = Entry("cleveland", roster.entries[0].key)
    assert refusal(server, with_entry(roster, bare)) == "the roster is not accepted: cleveland has no certificate"


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_that_gives_no_secret_is_refused(
    server: AskingServer, identities: dict[str, Identity], key: bytes
) -> None:
    """Of such a key the secret is 0, whatever the other key is: the server would know the pad."""
    useless = entry_of(identities["cleveland"], key=key)
    line = "the roster is not accepted: the key of cleveland gives no secret"
    assert refusal(server, with_entry(server.collect(), useless)) == line


# --- a second roster --------------------------------------------------------------------------------------------------


def test_a_second_roster_for_the_same_run_is_refused_also_after_a_start(
    server: AskingServer, files: dict[str, Path], identities: dict[str, Identity]
) -> None:
    agreed = server.agree()
    second = with_entry(agreed, entry_of(identities["cleveland"]))
    later = AskingServer({"va": make_hospital(files["va"], identities["va"])}, server.settings)
    for each in (server, later):
        with pytest.raises(RunError, match=r"^the server sends a second roster for the same run; nothing is sent$"):
            each.send_roster("va", second)
        assert each.send_roster("va", agreed) == agreed.digest


def test_a_roster_is_accepted_in_a_run_although_a_certificate_has_expired_meanwhile(
    server: AskingServer, identities: dict[str, Identity], files: dict[str, Path]
) -> None:
    """A run of weeks goes on; only a new roster needs certificates that are valid now."""
    agreed = server.agree()
    first = server.ask("va", TRAIN, train_request())
    stranger = forge("CA", None, None, is_ca=True, based_on=identities["va"])
    renewed = replace(identities["va"], ca=stranger.cert)
    later = AskingServer({"va": make_hospital(files["va"], renewed)}, server.settings)
    assert later.send_roster("va", agreed) == agreed.digest
    assert later.ask("va", TRAIN, train_request())[MASKED] == first[MASKED]


# --- pins -------------------------------------------------------------------------------------------------------------


def pinned(server: AskingServer, files: dict[str, Path], identity: Identity, pins: dict[str, str]) -> AskingServer:
    hospitals = {**server.hospitals, "va": make_hospital(files["va"], identity, pins=pins)}
    return AskingServer(hospitals, server.settings)


def test_pinned_certificates_are_accepted_and_the_own_one_needs_no_pin(
    server: AskingServer, files: dict[str, Path], identities: dict[str, Identity]
) -> None:
    pins = {name: fingerprint(identities[name].cert) for name in ("cleveland", "hungary")}
    pinned(server, files, identities["va"], pins).agree()


@pytest.mark.parametrize("named", [(), ("hungary",), ("cleveland", "hungary")], ids=["no pin", "one", "a wrong one"])
def test_a_certificate_that_is_not_pinned_is_refused(
    server: AskingServer, files: dict[str, Path], identities: dict[str, Identity], named: tuple[str, ...]
) -> None:
    pins = {name: fingerprint(identities["hungary"].cert) for name in named}
    strict = pinned(server, files, identities["va"], pins)
    line = "the roster is not accepted: the certificate of cleveland is not the one in --pin"
    assert refusal(strict, strict.collect()) == line


def test_pins_protect_from_an_authority_that_invents_a_hospital(
    server: AskingServer, files: dict[str, Path], folder: Path, identities: dict[str, Identity]
) -> None:
    pins = {name: fingerprint(identities[name].cert) for name in ("cleveland", "hungary")}
    strict = pinned(server, files, identities["va"], pins)
    invented = forge("cleveland", *authority_of(folder), based_on=identities["va"])
    line = "the roster is not accepted: the certificate of cleveland is not the one in --pin"
    assert refusal(strict, with_entry(strict.collect(), entry_of(invented))) == line


def test_a_file_of_pins_is_read_with_and_without_colons(tmp_path: Path) -> None:
    path, digits = tmp_path / "pins", "0123456789ABCDEF" * 4
    colons = ":".join(digits[place : place + 2] for place in range(0, 64, 2))
    path.write_text(f"# of the other hospitals\n\n{digits} va\n  {colons}   病院 Zürich  \n", encoding="utf-8")
    assert read_pins(path) == {"va": digits.lower(), "病院 Zürich": digits.lower()}


@pytest.mark.parametrize("line", ["va", "0" * 63 + " va", "0" * 64, "0" * 64 + "  ", "x" * 64 + " va"])
def test_a_file_of_pins_with_another_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pins"
    path.write_text(f"{'0' * 64} va\n{line}\n")
    with pytest.raises(UsageError) as caught:
        read_pins(path)
    assert str(caught.value) == (
        f"--pin {path}: line 2 is not SHA256 NAME; each client prints its own in a run with secure aggregation"
    )


def test_a_file_of_pins_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(base64.b64decode("////"))
    for name in ("missing", "bytes"):
        with pytest.raises(UsageError, match=r"cannot be read \(.*\); give a file with a line SHA256 NAME for each$"):
            read_pins(tmp_path / name)


# --- other hospitals than before --------------------------------------------------------------------------------------


def test_other_hospitals_than_in_an_earlier_run_need_the_code_that_the_client_prints(
    server: AskingServer, files: dict[str, Path], identities: dict[str, Identity]
) -> None:
    server.agree()
    larger = with_entry(server.collect(OTHER_RUN), entry_of(identities["basel"], run=OTHER_RUN))
    code = rosters.code_of(larger.names)
    assert refusal(server, larger) == (
        "its earlier sums were with other hospitals, and the difference of two sums can be about one; if all agree to "
        f"that, give client.py --accept-roster {code} (for basel, cleveland, hungary, va)"
    )
    for accepted, is_enough in ((rosters.code_of(NAMES), False), (code, True)):
        party = make_hospital(files["va"], identities["va"], accepted=frozenset([accepted]))
        agreeing = AskingServer({"va": party}, server.settings)
        if is_enough:
            assert agreeing.send_roster("va", larger) == larger.digest
        else:
            refusal(agreeing, larger)
    without = AskingServer({"va": make_hospital(files["va"], identities["va"])}, server.settings)
    third = with_entry(server.collect(b"the third run..."), entry_of(identities["basel"], run=b"the third run..."))
    assert without.send_roster("va", third) == third.digest


def test_the_same_hospitals_need_no_code_in_another_run(server: AskingServer) -> None:
    server.agree()
    server.agree(OTHER_RUN)


# --- hospitals without certificates -----------------------------------------------------------------------------------


NO_CERTIFICATE = "secure aggregation needs this hospital's certificate (--tls); without it keys could be swapped"


def test_without_certificate_no_key_is_sent_to_another_computer(files: dict[str, Path]) -> None:
    server = AskingServer({"va": make_hospital(files["va"], is_local=False)}, make_settings())
    with pytest.raises(RunError) as caught:
        server.collect()
    assert str(caught.value) == NO_CERTIFICATE
    assert not masking_path(files["va"]).exists()


def test_a_key_from_a_time_with_certificate_does_not_help_a_roster_without(
    server: AskingServer, files: dict[str, Path]
) -> None:
    roster = server.collect()
    bare = KeyRoster(RUN, tuple(replace(entry, certificate=b"", signature=b"") for entry in roster.entries))
    later = AskingServer({"va": make_hospital(files["va"], is_local=False)}, server.settings)
    assert refusal(later, bare) == NO_CERTIFICATE


def test_a_hospital_of_a_simulation_keeps_its_keys_in_memory(tmp_path: Path) -> None:
    party = MaskingParty(MaskingState())
    first = party.make_entry("va", RUN)
    assert party.make_entry("va", RUN) == first
    assert MaskingParty(MaskingState()).make_entry("va", RUN).key != first.key


def test_a_hospital_of_a_file_asks_for_a_certificate_unless_it_is_told_otherwise(files: dict[str, Path]) -> None:
    hospital = HospitalData.from_csv(files["va"], QUICK, "va")
    with pytest.raises(RunError, match=r"^secure aggregation needs this hospital's certificate \(--tls\)"):
        AskingServer({"va": hospital}, make_settings()).collect()
