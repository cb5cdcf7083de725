"""The federation's own certificate authority: creates the folders that `identity.py` reads.

Each folder is written under a temporary name and then renamed, so it is never incomplete. Certificates follow RFC 5280
(basicConstraints, keyUsage, extended key usage, key identifiers, random serial numbers); keys are ECDSA P-256.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedhealth.common.errors import UsageError
from fedhealth.transport.tls.identity import day, is_signed_by
from fedhealth.transport.tls.party_folder import write_folder
from fedhealth.transport.tls.server_names import general_name, kept_names, names_of, names_without

CLOCK_SLACK = timedelta(hours=1)
"""New certificates are valid from this long before now, since the hospitals' clocks differ."""
CA_NAME = "federated health CA"
FIRST_SERVER_NAMES = ("localhost", "127.0.0.1")
"""The names of a new server certificate if none are given."""
LONGEST_COMMON_NAME = 64
"""Maximum length of a name in bytes in the `cryptography` package (RFC 5280, ub-common-name, counts characters)."""
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
    """One folder: whether it was created now (`made`) or existed before, until when it is valid, and its server names.

    `missing` are the requested server names that the kept certificate lacks; `dropped` are those of the
    replaced certificate that the new one lacks.
    """

    folder: Path
    made: bool
    not_after: datetime
    server_names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def issue_certificates(
    out: Path,
    hospitals: Sequence[str],
    server_names: Sequence[str],
    *,
    days: int,
    ca_days: int,
    force: bool,
    server: bool = False,
) -> list[Issued]:
    """Create what is missing below `out`: the CA, the server's folder and one per hospital; first CA, then server.

    An existing folder is kept, or with `force` replaced if it is named: each of `hospitals`, and the server's with
    `server` or with `server_names`. A replaced server certificate keeps its names unless others are given. The CA is
    always kept, since all certificates depend on it.

    Raises
    ------
    UsageError
        A name is too long, the folder cannot be written to, or the CA there is damaged or expires before the new
        certificates would.
    """
    for name in (*hospitals, *server_names[:1]):
        if (size := len(name.encode())) > LONGEST_COMMON_NAME:
            limit = f"the maximum is {LONGEST_COMMON_NAME} (a letter with an accent takes 2 or more)"
            raise UsageError(f"the name {name!r} takes {size} bytes; {limit}; give a shorter one")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca = _ensure_ca(out / "ca", ca_days)
        authority = _load_authority(out / "ca")
        renew = force and (server or bool(server_names))
        issued = [ca, _ensure_server(out / "server", tuple(server_names), authority, days=days, force=renew)]
        for name in hospitals:
            issued.append(_ensure_party(out / name, name, (), authority, days=days, force=force))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); give another folder with --out") from error
    return issued


def _ensure_server(folder: Path, asked: tuple[str, ...], authority: _Authority, *, days: int, force: bool) -> Issued:
    """The server's folder, with the requested names, else those of its certificate, else `FIRST_SERVER_NAMES`."""
    if not folder.exists():
        return _ensure_party(
            folder, (asked or FIRST_SERVER_NAMES)[0], asked or FIRST_SERVER_NAMES, authority, days=days
        )
    if not force:
        kept = _ensure_party(folder, folder.name, asked, authority, days=days)
        return replace(kept, missing=names_without(asked, kept.server_names))
    before = kept_names(folder, required=not asked)
    names = asked or before
    issued = _ensure_party(folder, names[0], names, authority, days=days, force=True)
    return replace(issued, dropped=names_without(before, issued.server_names))


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
        write_folder(folder, {"ca.pem": _pem(certificate), "ca.key": _key_pem(key)}, replace=False)
    return Issued(folder, made, _load_authority(folder).certificate.not_valid_after_utc)


def _ensure_party(
    folder: Path, name: str, server_names: Sequence[str], authority: _Authority, *, days: int, force: bool = False
) -> Issued:
    """The folder of the server (which has `server_names`) or of a hospital (which has none)."""
    made = force or not folder.exists()
    if made:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign_party(authority, key, name, server_names, days)
        files = {"ca.pem": _pem(authority.certificate), "cert.pem": _pem(certificate), "key.pem": _key_pem(key)}
        write_folder(folder, files, replace=force)
    again = "--server --force" if folder.name == "server" else f"--hospitals '{folder.name}' --force"
    try:
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    except (ValueError, FileNotFoundError):
        raise UsageError(f"{folder}: contains no certificate; replace it with {again}") from None
    if not is_signed_by(certificate, authority.certificate):
        raise UsageError(f"{folder}: is signed by another CA than {folder.parent / 'ca'}; replace it with {again}")
    return Issued(folder, made, certificate.not_valid_after_utc, names_of(certificate))


def _sign_party(
    authority: _Authority,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    server_names: Sequence[str],
    days: int,
) -> x509.Certificate:
    until = datetime.now(UTC) + timedelta(days=days)
    if until > (end := authority.certificate.not_valid_after_utc):
        raise UsageError(
            f"--days is {days}, but the CA itself expires on {day(end)}; give fewer, or another folder with --out"
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
        builder = builder.add_extension(x509.SubjectAlternativeName(map(general_name, server_names)), critical=False)
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


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
