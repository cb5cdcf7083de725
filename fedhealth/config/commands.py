"""The flags of `python -m fedhealth COMMAND`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import check_proxy, parse_server, require
from fedhealth.config.scripts import Decimal

LONGEST_COMMON_NAME = 64
"""Letters that a certificate has for a name (RFC 5280, ub-common-name)."""
RESERVED = ("ca", "server")
"""Folders of certificates that are not a hospital's."""
HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
"""A host's name or address, without brackets."""


@dataclass(frozen=True)
class CertificatesSettings:
    """Make the certificates of a federation: a CA, one for the server and one for each hospital.

    Example: python -m fedhealth certificates --hospitals cleveland hungary --server-names fed.example.org
    """

    hospitals: tuple[str, ...] = ()
    """The hospitals' names; the name in its certificate is the name under which a hospital joins."""
    out: Path = Path("certs")
    """The folder to write to; the CA that is there already is used."""
    server_names: tuple[str, ...] = ()
    """Every host name and address by which clients reach the server (default: those of its certificate; localhost
    127.0.0.1 for a first one)."""
    days: int = 365
    """How long the certificates of server and hospitals are good for."""
    ca_days: int = 3650
    """How long the CA is good for."""
    force: bool = False
    """Replace the certificates of --hospitals, and the server's if --server or --server-names is given (renewal); all
    others and the CA are kept."""
    server: bool = False
    """Name the server: with --force its certificate is replaced and keeps its names; --hospitals may be left out."""
    list: bool = False
    """Print the subject, server names, end and days left of each certificate in --out, and make nothing."""
    supernodes: bool = False
    """Also make each hospital's key pair for Flower's SuperNode (only for flwr run: docs/deployment.md)."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        if self.list:
            self._require_nothing_to_make()
            return
        named = bool(self.hospitals or self.server or self.server_names)
        require(named, "hospitals", "empty", "the name of each hospital (or --server for the server alone, or --list)")
        for name in self.hospitals:
            reserved = f"another name: {' and '.join(RESERVED)} are the folders of the other two parties"
            require(name.casefold() not in RESERVED, "hospitals", repr(name), reserved)
            require(_is_folder_name(name), "hospitals", repr(name), "names of 1 to 64 letters that can name a folder")
        require(
            len(set(map(str.casefold, self.hospitals))) == len(self.hospitals),
            "hospitals",
            " ".join(self.hospitals),
            "each name once",
        )
        for name in self.server_names:
            expected = "host names or addresses, without port or brackets"
            if "_" in name:
                expected = "a host name of letters, digits, - and . (an underscore is not valid in one), or an address"
            require(
                re.fullmatch(HOST, name) is not None and len(name) <= LONGEST_COMMON_NAME,
                "server-names",
                repr(name),
                expected,
            )
        require(1 <= self.days <= 36500, "days", self.days, "a number from 1 to 36500")
        require(1 <= self.ca_days <= 36500, "ca-days", self.ca_days, "a number from 1 to 36500")

    def _require_nothing_to_make(self) -> None:
        for flag in ("hospitals", "server_names", "server", "force", "supernodes"):
            if getattr(self, flag):
                raise UsageError(f"--list makes nothing; leave --{flag.replace('_', '-')} out, or leave --list out")


def _is_folder_name(name: str) -> bool:
    """A printable name that is one folder on any system, and not hidden."""
    sound = 0 < len(name) <= LONGEST_COMMON_NAME and name.isprintable() and name == name.strip()
    return sound and name[0] != "." and not set(name) & set('/\\:*?"<>|')


@dataclass(frozen=True)
class DoctorSettings:
    """From a hospital's computer: file, certificate, network, server, versions, clock, and one local round, each in a line.

    Example: python -m fedhealth doctor --server fed.example.org:8080 --data data/client_1.csv --tls certs/cleveland
    """

    server: str = "127.0.0.1:8080"
    """HOST:PORT of the server."""
    data: Path = Path()
    """The hospital's table, as for client.py."""
    schema: Path | None = None
    """The file (TOML) that defines the columns and the outcome (default: heart disease; docs/schemas.md)."""
    sheet: str | None = None
    """The sheet of an Excel workbook (default: the only one that has cells)."""
    decimal: Decimal = "auto"
    """Whether the numbers of a file have decimal commas or points, if the file leaves it open (docs/own-files.md)."""
    mapping: Path | None = None
    """A file (TOML) of what this hospital names, measures or codes differently; it stays here (docs/own-files.md)."""
    tls: Path | None = None
    """This hospital's folder of certificates."""
    proxy: str | None = None
    """none, or http://HOST:PORT of an HTTP proxy to the server (default: as gRPC reads http_proxy, docs/deployment.md)."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        parse_server(self.server)
        check_proxy(self.proxy)
        require(self.data != Path(), "data", "missing", "the hospital's CSV file")


@dataclass(frozen=True)
class ReceiptsSettings:
    """Check a hospital's receipts line by line and sum up what has ever left it.

    Example: python -m fedhealth receipts data/receipts/cleveland.jsonl
    """

    file: Path
    """The receipts of one hospital (client.py keeps them in receipts/ beside the CSV)."""
    noted: str | None = None
    """A last hash that was noted earlier: some line must still have it."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        is_hash = self.noted is None or re.fullmatch("[0-9a-f]{64}", self.noted) is not None
        require(is_hash, "noted", self.noted, "the 64 letters and digits that this command showed as the last hash")


@dataclass(frozen=True)
class SchemaSettings:
    """draft: print a schema file (TOML) that a person completes, from one table. check: check a table as client.py does.

    Example: python -m fedhealth schema draft patients.csv --outcome died > my.toml

    Then: python -m fedhealth schema check my.toml patients.csv
    """

    action: Literal["draft", "check"]
    """What to do."""
    files: tuple[Path, ...]
    """draft: the table; check: the schema file and the table."""
    outcome: str | None = None
    """The column to predict (for draft)."""
    min_count: int = 5
    """Show no code, text or count of fewer patients than this."""
    sheet: str | None = None
    """The sheet of an Excel workbook (default: the only one that has cells)."""
    decimal: Decimal = "auto"
    """Whether the numbers of a file have decimal commas or points, if the file leaves it open (docs/own-files.md)."""
    mapping: Path | None = None
    """A file (TOML) of what this hospital names, measures or codes differently (for check; docs/own-files.md)."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        wanted = {"draft": "one file, the table", "check": "two files, the schema and the table"}[self.action]
        if len(self.files) != {"draft": 1, "check": 2}[self.action]:
            raise UsageError(f"schema {self.action}: {len(self.files)} given; give {wanted}")
        if self.action == "check" and self.outcome is not None:
            raise UsageError("--outcome is for draft; check reads it from the schema, so leave it out")
        if self.action == "draft" and self.mapping is not None:
            raise UsageError("--mapping is for check; a draft has no columns yet to map to, so leave it out")
        require(self.min_count >= 1, "min-count", self.min_count, "1 or more")
