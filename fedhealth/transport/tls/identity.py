"""The identity of one party: a folder with `ca.pem`, `cert.pem` and `key.pem`, validated before anything is sent.

The files may come from `authority.py` or from a hospital's own PKI; `cert.pem` may contain intermediate certificates.
"""

import os
import ssl
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedhealth.common.errors import UsageError

LONGEST_CHAIN = 8
RENEW_DAYS = 30
"""There is a warning if a certificate expires sooner than this."""
PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


@dataclass(frozen=True)
class Identity:
    """One party's certificate, its private key and its trusted CA, all as PEM.

    `purposes` are the allowed uses of the certificate ("server", "client"); `warnings` are lines for its owner.
    """

    folder: Path
    ca: bytes = field(repr=False)
    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)
    name: str
    not_before: datetime
    not_after: datetime
    purposes: frozenset[str]
    warnings: tuple[str, ...]

    def require_usable(self, purpose: str) -> None:
        """Raise a `UsageError` if the certificate is for another purpose or is not valid now."""
        if purpose not in self.purposes:
            has = " and ".join(sorted(self.purposes)) or "other"
            raise UsageError(
                f"{self.folder / 'cert.pem'}: is a {has} certificate; give a folder with a {purpose} certificate"
            )
        _require_valid_now(self.folder / "cert.pem", self.not_before, self.not_after)

    def server_context(self) -> ssl.SSLContext:
        """The context for accepting clients: TLS 1.3, HTTP/2, client certificates of this CA required."""
        context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.num_tickets = 0  # no session resumption: every connection must present its certificate
        return context

    def client_context(self) -> ssl.SSLContext:
        """The context for connecting to a server, with the same checks as gRPC's own TLS."""
        return self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        try:
            context.load_verify_locations(cadata=self.ca.decode("ascii", "replace"))
            context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        except (ssl.SSLError, OSError) as error:
            raise UsageError(f"{self.folder}: cannot be used for TLS ({error.strerror or error})") from None
        return context


def load_identity(folder: Path) -> Identity:
    """Read and validate a folder of certificates; raises a `UsageError` for any fault."""
    ca, cert, key = (_read(folder, name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authorities = _certificates(folder / "ca.pem", ca)
    leaf, *between = _certificates(folder / "cert.pem", cert)
    _require_key(folder, leaf, key)
    name = name_of(leaf)
    if name is None:
        raise UsageError(f"{folder / 'cert.pem'}: its subject must have exactly one common name")
    _require_valid_now(folder / "cert.pem", leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    latest = max(authorities, key=lambda authority: authority.not_valid_after_utc)  # a bundle may contain expired ones
    _require_valid_now(folder / "ca.pem", latest.not_valid_before_utc, latest.not_valid_after_utc)
    if not _is_issued_by(leaf, between, authorities):
        raise UsageError(
            f"{folder / 'cert.pem'}: is not signed by the CA of {folder / 'ca.pem'}; copy both from one place"
        )
    return Identity(
        folder=folder,
        ca=ca,
        cert=cert,
        key=key,
        name=name,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        purposes=purposes_of(leaf),
        warnings=tuple(_warnings(folder, leaf)),
    )


def name_of(certificate: x509.Certificate) -> str | None:
    """The certificate's only common name; None if it has none or several."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value).strip() or None if len(names) == 1 else None


def day(moment: datetime) -> str:
    """A certificate's date as text."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _read(folder: Path, name: str) -> bytes:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of certificates; make it with python -m fedhealth certificates")
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{folder / name}: is missing; a folder of certificates contains ca.pem, cert.pem and key.pem"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder / name}: cannot be read ({error.strerror})") from None


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise UsageError(f"{path}: contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)") from None


def _require_key(folder: Path, leaf: x509.Certificate, content: bytes) -> None:
    path = folder / "key.pem"
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise UsageError(
            f"{path}: is encrypted with a password; store it unencrypted and readable by its owner only"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path}: contains no private key in PEM format (-----BEGIN PRIVATE KEY-----)") from None
    both = (key.public_key(), leaf.public_key())
    if len({part.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for part in both}) > 1:
        raise UsageError(f"{path}: does not belong to {folder / 'cert.pem'}; copy both from one place")


def _require_valid_now(path: Path, not_before: datetime, not_after: datetime) -> None:
    now = datetime.now(UTC)
    if now > not_after:
        raise UsageError(f"{path}: expired on {day(not_after)}; ask the coordinator for a new one")
    if now < not_before:
        raise UsageError(f"{path}: is not valid before {day(not_before)}; is this computer's clock right ({day(now)})?")


def _is_issued_by(leaf: x509.Certificate, between: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether a chain of signatures leads from the certificate to one of the authorities."""
    current = leaf
    for _ in range(LONGEST_CHAIN):
        if any(is_signed_by(current, authority) for authority in authorities):
            return True
        issuer = next((other for other in between if other != current and is_signed_by(current, other)), None)
        if issuer is None:
            return False
        current = issuer
    return False


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a certificate names this issuer and has its signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def purposes_of(leaf: x509.Certificate) -> frozenset[str]:
    """The purposes of the certificate; both if it does not restrict them."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset(PURPOSES.values())
    return frozenset(PURPOSES[purpose] for purpose in usage if purpose in PURPOSES)


def _warnings(folder: Path, leaf: x509.Certificate) -> list[str]:
    warnings = []
    path = folder / "key.pem"
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.append(f"{path}: other users of this computer can read this private key; run chmod 600 {path}")
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    if left < timedelta(days=RENEW_DAYS):
        ends = f"{day(leaf.not_valid_after_utc)}, in {left.days} days"
        warnings.append(f"{folder / 'cert.pem'}: expires on {ends}; ask the coordinator for a new one")
    return warnings
