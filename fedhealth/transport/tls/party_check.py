"""Checks of another party's certificate and signature against the own certificate authority."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from fedhealth.common.errors import UsageError
from fedhealth.transport.tls.identity import Identity, day, name_of, purposes_of

SIGNATURE = ec.ECDSA(SHA256())


def sign(identity: Identity, content: bytes) -> bytes:
    """The signature (ECDSA, SHA-256) of the party's certificate over `content`; a `UsageError` if it is of another kind."""
    key = load_pem_private_key(identity.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(
            f"{identity.folder / 'key.pem'}: secure aggregation needs an ECDSA key; "
            "python -m fedhealth certificates makes one"
        )
    return key.sign(content, SIGNATURE)


def check_signature(ca: bytes, certificate: bytes, name: str, signature: bytes, content: bytes) -> None:
    """Check that a client certificate of this CA for `name`, valid now, has signed `content`.

    Parameters
    ----------
    ca, certificate : PEM; `certificate` may contain intermediate certificates.

    Raises
    ------
    ValueError
        It is not so; the text continues a sentence that starts with the name.
    """
    try:
        leaf, *between = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise ValueError("has no certificate") from None
    if name_of(leaf) != name:
        raise ValueError(f"has the certificate of {name_of(leaf)}")
    if "client" not in purposes_of(leaf):
        raise ValueError("has no hospital's certificate")
    if not leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc:
        raise ValueError(
            f"has a certificate that is valid from {day(leaf.not_valid_before_utc)} to {day(leaf.not_valid_after_utc)}"
        )
    # Names and purposes are checked above: hospitals' certificates have no subject alternative name.
    policy = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(ca)))
    policy = policy.extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
    )
    try:
        policy.build_client_verifier().verify(leaf, between)
    except VerificationError:
        raise ValueError("has a certificate that this hospital's CA has not issued") from None
    key = leaf.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("has a certificate without an ECDSA key")
        key.verify(signature, content, SIGNATURE)
    except InvalidSignature:
        raise ValueError("has not signed its key") from None


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (PEM) in hex digits."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(SHA256()).hex()
