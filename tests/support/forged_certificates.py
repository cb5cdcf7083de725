"""Certificates that no honest authority issues, for tests of what is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedhealth.transport.tls.identity import Identity

AUTHORITY_USE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def forge(
    name: str,
    issuer: bytes | None,
    issuer_key: bytes | None,
    *,
    days: float = 30,
    since: float = 1,
    is_ca: bool = False,
    more_certificates: bytes = b"",
    based_on: Identity,
) -> Identity:
    """`based_on` with a new certificate for `name`, signed with a PEM key as if by `issuer` (None: by itself)."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = load_pem_private_key(issuer_key, password=None) if issuer_key else key
    parent = x509.load_pem_x509_certificate(issuer).subject if issuer else subject
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=since))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if is_ca:
        builder = builder.add_extension(AUTHORITY_USE, critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return replace(based_on, name=name, cert=certificate.public_bytes(Encoding.PEM) + more_certificates, key=pem)


def authority_of(folder: Path) -> tuple[bytes, bytes]:
    """Certificate and key of the authority below `folder`."""
    return (folder / "ca" / "ca.pem").read_bytes(), (folder / "ca" / "ca.key").read_bytes()
