"""What an address says: HOST:PORT of a server, and the URL of an HTTP proxy."""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

DEFAULT_PROXY_PORT = 443
"""The port of a proxy whose URL has none, in gRPC (curl takes 1080, Python's urllib 80)."""


@dataclass(frozen=True)
class ProxyUrl:
    """An HTTP proxy: its host without brackets, its port, and the USER:PASSWORD that it asks for ("": none)."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        """The URL without user and password."""
        return f"http://{self._address()}"

    def with_credentials(self) -> str:
        """The URL with user and password: for the connection, never for a message."""
        return f"http://{quote(self.credentials, safe=':')}@{self._address()}" if self.credentials else str(self)

    def _address(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_proxy_url(text: str) -> ProxyUrl:
    """`http://[USER:PASSWORD@]HOST[:PORT]` -> its parts; a `ValueError`, which shows no part of it, for anything else."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        raise ValueError("not of the form http://HOST:PORT")
    credentials = unquote(parts.netloc.rpartition("@")[0])
    return ProxyUrl(host, DEFAULT_PROXY_PORT if port is None else port, credentials)


def without_credentials(url: str) -> str:
    """A URL as it may be printed: what stands before an @ is left out."""
    return re.sub(r"^(.*?://)?.*@", r"\1", url)


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` that has been checked -> (host without brackets, port)."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach HOST:PORT; a name that begins like a number (127.example.org) is a name."""
    host = address.rpartition(":")[0].strip("[]")
    parsed = parse_ip(host)
    return parsed.is_loopback if parsed else host == "localhost"


def is_unspecified(address: str) -> bool:
    """Whether HOST:PORT stands for every address of a machine, where it can listen and nobody can be reached."""
    parsed = parse_ip(address.rpartition(":")[0].strip("[]"))
    return parsed is not None and parsed.is_unspecified


def parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A host that is a number; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
