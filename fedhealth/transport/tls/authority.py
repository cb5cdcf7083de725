"""The federation's own small CA: makes the folders that `identity.py` reads, and keeps its key to itself.

Each folder is written under a temporary name and renamed, so it is there as a whole or not at all. Certificates follow
RFC 5280 (basicConstraints, keyUsage, extended key usage, key identifiers, random serial numbers); keys are ECDSA P-256.
"""

import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedhealth.common.errors import UsageError
from fedhealth.transport.tls.identity import day, is_signed_by

CLOCK_SLACK = timedelta(hours=1)
"""New certificates are valid since this long ago: the clocks of hospitals differ."""
CA_NAME = "federated health CA"
LONGEST_COMMON_NAME = 64
"""Bytes that the `cryptography` package takes for a name (RFC 5280, ub-common-name, counts letters)."""
NO_USE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@dataclass(frozen=True)
class Issued:
    """One folder: for whom, whether it was made just now or stood there before, and until when it is good."""

    folder: Path
    made: bool
    not_after: datetime
    server_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def issue_certificates(
    out: Path, hospitals: Sequence[str], server_names: Sequence[str], *, days: int, ca_days: int, force: bool
) -> list[Issued]:
    """Make what is missing below `out`: the CA, the server's folder and one per hospital.

    A folder that is there is left alone, or with `force` made anew; the CA always stays, for all certificates hang on it.

    Raises
    ------
    UsageError
        A name is too long, the folder cannot be written to, the CA there is damaged, or it ends before the new
        certificates would.
    """
    for name in (*hospitals, server_names[0]):
        if (size := len(name.encode())) > LONGEST_COMMON_NAME:
            most = f"a certificate has room for {LONGEST_COMMON_NAME} (a letter with an accent takes 2 or more)"
            raise UsageError(f"the name {name!r} takes {size} bytes and {most}; give a shorter one")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        issued = [_ensure_ca(out / "ca", ca_days)]
        authority = _load_authority(out / "ca")
        server = [_san(name) for name in server_names]
        issued.append(_ensure_party(out / "server", server_names[0], server, authority, days=days, force=force))
        for name in hospitals:
            issued.append(_ensure_party(out / name, name, [], authority, days=days, force=force))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); give another folder with --out") from error
    return issued


def _ensure_ca(folder: Path, days: int) -> Issued:
    made = not folder.exists()
    if made:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)])
        use = x509.KeyUsage(**{**NO_USE, "key_cert_sign": True, "crl_sign": True})
        builder = (
            _builder(name, name, key.public_key(), key.public_key(), datetime.now(UTC) + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(use, critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256())
        _write_folder(folder, {"ca.pem": _pem(certificate), "ca.key": _key_pem(key)}, replace=False)
    return Issued(folder, made, _load_authority(folder).certificate.not_valid_after_utc)


def _ensure_party(
    folder: Path, name: str, server_names: list[x509.GeneralName], authority: _Authority, *, days: int, force: bool
) -> Issued:
    """The folder of the server (which has names on the network) or of a hospital (which has none)."""
    made = force or not folder.exists()
    if made:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign_party(authority, key, name, server_names, days)
        files = {"ca.pem": _pem(authority.certificate), "cert.pem": _pem(certificate), "key.pem": _key_pem(key)}
        _write_folder(folder, files, replace=force)
    try:
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    except (ValueError, FileNotFoundError):
        raise UsageError(f"{folder}: holds no certificate; remove it or make it anew with --force") from None
    if not is_signed_by(certificate, authority.certificate):
        raise UsageError(f"{folder}: is signed by another CA than {folder.parent / 'ca'}; make it anew with --force")
    return Issued(folder, made, certificate.not_valid_after_utc, _names_of(certificate))


def _sign_party(
    authority: _Authority,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    server_names: list[x509.GeneralName],
    days: int,
) -> x509.Certificate:
    until = datetime.now(UTC) + timedelta(days=days)
    if until > (end := authority.certificate.not_valid_after_utc):
        raise UsageError(
            f"--days is {days}; the CA itself ends on {day(end)}: give fewer, or another folder with --out"
        )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ca_key = authority.key.public_key()
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server_names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(subject, authority.certificate.subject, key.public_key(), ca_key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**NO_USE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if server_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(server_names), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - CLOCK_SLACK)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _load_authority(folder: Path) -> _Authority:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (ValueError, TypeError, FileNotFoundError):
        raise UsageError(f"{folder}: is not a CA made by this command; give another folder with --out") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise UsageError(f"{folder}: ca.key does not belong to ca.pem; give another folder with --out")
    return _Authority(certificate, key)


def _write_folder(folder: Path, files: Mapping[str, bytes], *, replace: bool) -> None:
    """Put a folder there as a whole, private from its first instant."""
    with _new_folder(folder.parent) as fresh:
        for name, content in files.items():
            mode = 0o600 if name.endswith("key") or name == "key.pem" else 0o644
            with os.fdopen(os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if replace and folder.exists():
            _put_in_place_of(folder, fresh)
        else:
            fresh.rename(folder)  # fails if another run of this command has just made one


def _put_in_place_of(folder: Path, fresh: Path) -> None:
    """Put `fresh` where `folder` is, which is deleted only then, and comes back if that cannot be."""
    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent)) / folder.name
    try:
        folder.rename(aside)
        fresh.rename(folder)
    except BaseException:
        if not folder.exists():
            aside.rename(folder)
        raise
    finally:
        if folder.exists():
            shutil.rmtree(aside.parent, ignore_errors=True)


@contextmanager
def _new_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder of mode 0700 that is gone after the block, unless it has got another name."""
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
