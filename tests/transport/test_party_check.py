"""The check of another hospital's certificate and signature: only what the own authority has issued to that hospital."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedhealth.common.errors import UsageError
from fedhealth.transport.tls.identity import Identity
from fedhealth.transport.tls.party_check import check_signature, fingerprint, sign
from tests.support.forged_certificates import authority_of, forge
from tests.support.secured_hospitals import issue

CONTENT = b"what is signed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs") / "ours"


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, Identity]:
    return issue(folder, "cleveland", "va", "病院 Zürich")


def problem(identity: Identity, name: str, ca: bytes, signature: bytes | None = None) -> str:
    """The line for this certificate."""
    with pytest.raises(ValueError) as caught:
        check_signature(ca, identity.cert, name, sign(identity, CONTENT) if signature is None else signature, CONTENT)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["cleveland", "va", "病院 Zürich"])
def test_a_hospitals_own_certificate_and_signature_are_accepted(ours: dict[str, Identity], name: str) -> None:
    check_signature(ours["cleveland"].ca, ours[name].cert, name, sign(ours[name], CONTENT), CONTENT)


def test_any_certificate_that_the_own_authority_has_issued_is_accepted(folder: Path, ours: dict[str, Identity]) -> None:
    """The forged ones below differ from this one in what makes them invalid, and in nothing else."""
    issued = forge("va", *authority_of(folder), based_on=ours["va"])
    check_signature(issued.ca, issued.cert, "va", sign(issued, CONTENT), CONTENT)


def test_an_intermediate_authority_counts_only_if_the_own_one_allows_it(
    folder: Path, ours: dict[str, Identity]
) -> None:
    """The authority of this package allows none (its path length is 0); that of a hospital's own PKI may."""
    root = forge("root", None, None, is_ca=True, based_on=ours["va"])
    for ca, key, is_allowed in ((root.cert, root.key, True), (*authority_of(folder), False)):
        between = forge("between", ca, key, is_ca=True, based_on=ours["va"])
        leaf = forge("va", between.cert, between.key, more_certificates=between.cert, based_on=ours["va"])
        if is_allowed:
            check_signature(ca, leaf.cert, "va", sign(leaf, CONTENT), CONTENT)
        else:
            assert problem(leaf, "va", ca) == "has a certificate that this hospital's CA has not issued"


def test_the_certificate_of_another_name_is_refused(ours: dict[str, Identity]) -> None:
    assert problem(ours["va"], "cleveland", ours["va"].ca) == "has the certificate of va"


def test_the_servers_certificate_is_not_a_hospitals(ours: dict[str, Identity]) -> None:
    assert problem(ours["server"], "localhost", ours["va"].ca) == "has no hospital's certificate"


def test_a_certificate_of_another_authority_of_the_same_name_is_refused(
    ours: dict[str, Identity], tmp_path: Path
) -> None:
    theirs = issue(tmp_path / "theirs", "va")
    assert problem(theirs["va"], "va", ours["va"].ca) == "has a certificate that this hospital's CA has not issued"


def test_a_hospital_is_no_authority(ours: dict[str, Identity]) -> None:
    """Cleveland, whose certificate is sent along, signs one for va."""
    own = ours["cleveland"]
    forged = forge("va", own.cert, own.key, more_certificates=own.cert, based_on=own)
    assert problem(forged, "va", own.ca) == "has a certificate that this hospital's CA has not issued"


@pytest.mark.parametrize("is_sent_along", [False, True])
def test_an_authority_that_only_its_owner_trusts_is_refused(ours: dict[str, Identity], is_sent_along: bool) -> None:
    own = forge("root", None, None, is_ca=True, based_on=ours["va"])
    forged = forge("va", own.cert, own.key, more_certificates=own.cert * is_sent_along, based_on=ours["va"])
    assert problem(forged, "va", ours["va"].ca) == "has a certificate that this hospital's CA has not issued"


@pytest.mark.parametrize(("since", "days"), [(10, -1), (-1, 10)], ids=["expired", "not yet valid"])
def test_a_certificate_that_is_not_valid_now_is_refused_with_its_dates(
    folder: Path, ours: dict[str, Identity], since: float, days: float
) -> None:
    old = forge("va", *authority_of(folder), since=since, days=days, based_on=ours["va"])
    line = problem(old, "va", ours["va"].ca)
    assert line.startswith("has a certificate that is valid from 20")
    assert " to 20" in line


def test_a_signature_over_something_else_or_by_another_key_is_refused(ours: dict[str, Identity]) -> None:
    for signature in (sign(ours["va"], b"else"), sign(ours["cleveland"], CONTENT), b"", b"x" * 70):
        assert problem(ours["va"], "va", ours["va"].ca, signature) == "has not signed its key"


@pytest.mark.parametrize("certificate", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END"])
def test_what_is_no_certificate_is_refused(ours: dict[str, Identity], certificate: bytes) -> None:
    assert problem(replace(ours["va"], cert=certificate), "va", ours["va"].ca) == "has no certificate"


def test_a_key_of_another_kind_cannot_sign(ours: dict[str, Identity]) -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(
        UsageError, match=r"key\.pem: secure aggregation needs an ECDSA key; python -m fedhealth certif"
    ):
        sign(replace(ours["va"], key=pem), CONTENT)


def test_the_fingerprint_is_that_of_the_first_certificate(ours: dict[str, Identity]) -> None:
    assert fingerprint(ours["va"].cert + ours["cleveland"].cert) == fingerprint(ours["va"].cert)
    assert len(fingerprint(ours["va"].cert)) == 64
    assert fingerprint(ours["va"].cert) != fingerprint(ours["cleveland"].cert)
