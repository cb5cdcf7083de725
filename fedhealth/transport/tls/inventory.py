"""Lists the certificates below a folder that `authority.py` has written: subjects, names, days left."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from fedhealth.common.errors import UsageError
from fedhealth.transport.tls.identity import name_of
from fedhealth.transport.tls.server_names import names_of


@dataclass(frozen=True)
class Listed:
    """One certificate: its subject's common name ("" if it has none or several), its server names, its end."""

    folder: Path
    subject: str
    server_names: tuple[str, ...]
    not_after: datetime

    @property
    def days_left(self) -> int:
        """Whole days until the certificate expires; negative afterwards."""
        return (self.not_after - datetime.now(UTC)).days


def list_certificates(out: Path) -> list[Listed]:
    """The certificates of the CA, the server and the hospitals below `out`, in this order, the hospitals by name.

    Raises
    ------
    UsageError
        There are none, or one of them cannot be read; which.
    """
    found = list(_find(out))
    if not found:
        raise UsageError(f"{out}: contains no certificates; give the folder with --out, or make them with --hospitals")
    return sorted(found, key=lambda listed: (_rank(listed.folder.name), listed.folder.name))


def _rank(name: str) -> int:
    return {"ca": 0, "server": 1}.get(name, 2)


def _find(out: Path) -> Iterator[Listed]:
    for folder in out.iterdir() if out.is_dir() else ():
        path = folder / ("ca.pem" if folder.name == "ca" else "cert.pem")
        if folder.name.startswith(".") or not path.is_file():
            continue
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError:
            raise UsageError(f"{path}: contains no certificate; replace it with --force") from None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
        yield Listed(folder, name_of(certificate) or "", names_of(certificate), certificate.not_valid_after_utc)
