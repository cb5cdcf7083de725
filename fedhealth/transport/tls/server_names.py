"""The host names and addresses in a server's certificate (RFC 5280, section 4.2.1.6)."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from fedhealth.common.errors import UsageError


def general_name(name: str) -> x509.GeneralName:
    """A host name or an address in a certificate's form."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names and addresses in a server's certificate; none in a hospital's."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def kept_names(folder: Path, *, required: bool) -> tuple[str, ...]:
    """The names in the certificate of a folder; without a certificate none, or a `UsageError` if they are required."""
    try:
        names = names_of(x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes()))
    except (ValueError, FileNotFoundError):
        names = ()
    if required and not names:
        raise UsageError(f"{folder}: contains no certificate with the server's names; give them with --server-names")
    return names


def names_without(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """The names that are not among `others`, regardless of case (RFC 4343) and of the spelling of an address."""
    known = set(map(_canonical, others))
    return tuple(name for name in names if _canonical(name) not in known)


def _canonical(name: str) -> str:
    return str(general_name(name).value).casefold()
