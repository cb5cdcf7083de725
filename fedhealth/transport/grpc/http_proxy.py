"""Whether a client reaches its server through an HTTP proxy, and a plain connection that goes the same way.

The rules are those of gRPC (measured with grpcio 1.85.1). It reads `grpc_proxy`, `https_proxy` and `http_proxy`, in small
letters only. The first that is set counts, even if it is empty or no URL of an HTTP proxy: then no proxy is used.
`no_grpc_proxy`, or else `no_proxy`, lists the exceptions: a host, a domain with its subdomains, or, for servers that are
given by number, a network such as 10.0.0.0/8. `*` is no exception. Unlike gRPC, this program uses no proxy of the
environment for a server on the same machine (loopback).
"""

import contextlib
import ipaddress
import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

from fedhealth.common.addresses import (
    ProxyUrl,
    is_loopback,
    parse_ip,
    parse_proxy_url,
    split_address,
    without_credentials,
)
from fedhealth.common.errors import UsageError
from fedhealth.transport.grpc.retry import ServerLostError

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
FLAG, NONE = "--proxy", "none"
LONGEST_HEADER = 65_536
ASKS_FOR_PASSWORD = 407
UNSURE = (408, 429)
"""Codes below 500 after which trying again may help: a time-out, and too many requests."""


@dataclass(frozen=True)
class HttpProxy:
    """The proxy for one server, HOST:PORT, and the variable or flag that names it."""

    url: ProxyUrl
    origin: str
    server: str

    def __str__(self) -> str:
        """What error messages call it; without user and password."""
        return f"the proxy {self.url} of {self.origin}"

    @property
    def remedy(self) -> str:
        """How to do without it."""
        host, _ = split_address(self.server)
        names = _first_set(EXCEPTIONS) or EXCEPTIONS[-1]
        other = "" if self.origin == FLAG else f"add {host} to {names} (in small letters), or "
        return f"if the server can be reached without a proxy, {other}give --proxy none"


def find_proxy(server: str, flag: str | None = None) -> HttpProxy | None:
    """The proxy on the way to HOST:PORT; `flag` is the checked value of --proxy (None: the environment decides)."""
    if flag is not None:
        return None if flag == NONE else HttpProxy(parse_proxy_url(flag), FLAG, server)
    variable = _first_set(VARIABLES)
    if variable is None or is_loopback(server) or _is_exception(split_address(server)[0]):
        return None
    try:
        return HttpProxy(parse_proxy_url(os.environ[variable]), variable, server)
    except ValueError:
        return None


def explain_unused(server: str, flag: str | None = None) -> str:
    """Which proxy variable gRPC does not use although it is set, and why; "" if there is none or it was meant so."""
    if flag is not None or is_loopback(server):
        return ""
    variable = _first_set(VARIABLES)
    if variable is None:
        capitals = _first_set(tuple(name.upper() for name in VARIABLES))
        return f"{capitals} is not used, for gRPC reads it in small letters only; give --proxy" if capitals else ""
    value = os.environ[variable]
    try:
        parse_proxy_url(value)
    except ValueError:
        shown = without_credentials(value)
        return (
            f"{variable} is {shown}, which gRPC does not use; write http://HOST:PORT, or give --proxy" if value else ""
        )
    return ""


def _first_set(names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in os.environ), None)


@contextlib.contextmanager
def no_exceptions() -> Iterator[None]:
    """Within it, a new channel uses the proxy of its options: else gRPC applies `no_proxy` to that proxy as well."""
    before = os.environ.get(EXCEPTIONS[0])
    os.environ[EXCEPTIONS[0]] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[EXCEPTIONS[0]]
        else:
            os.environ[EXCEPTIONS[0]] = before


def _is_exception(host: str) -> bool:
    """Whether `no_grpc_proxy` or `no_proxy` names the host."""
    listed = _first_set(EXCEPTIONS)
    entries = os.environ[listed].split(",") if listed else []
    return any(_names(entry.strip().lower(), host.lower()) for entry in entries)


def _names(entry: str, host: str) -> bool:
    domain = entry.removeprefix(".")
    if domain and (host == domain or host.endswith(f".{domain}")):
        return True
    address = parse_ip(host)
    with contextlib.suppress(ValueError):
        return address is not None and "/" in entry and address in ipaddress.ip_network(entry, strict=False)
    return False


def connect(server: str, proxy: HttpProxy | None, timeout: float) -> socket.socket:
    """A TCP connection to HOST:PORT, through the proxy if there is one.

    Raises
    ------
    OSError
        Without a proxy: the server takes no connection.
    ServerLostError
        The proxy takes no connection, or does not reach the server.
    UsageError
        The proxy refuses to connect to this server, or asks for a password.
    """
    if proxy is None:
        return socket.create_connection(split_address(server), timeout=timeout)
    sock = _connect_to_proxy(proxy, timeout)
    try:
        _require_connected(proxy, _ask_for_server(sock, proxy))
    except Exception as error:
        sock.close()
        if isinstance(error, OSError):
            raise ServerLostError(f"{proxy} takes connections but gives no HTTP answer", proxy.remedy) from None
        raise
    return sock


def _connect_to_proxy(proxy: HttpProxy, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((proxy.url.host, proxy.url.port), timeout=timeout)
    except socket.gaierror:
        raise ServerLostError(f"{proxy} has an unknown host name", proxy.remedy) from None
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or "no connection").lower()
        raise ServerLostError(f"{proxy} takes no connection: {reason}", proxy.remedy) from None


def _ask_for_server(sock: socket.socket, proxy: HttpProxy) -> int:
    """Send CONNECT (RFC 9110, section 9.3.6) and return the status of the answer; an `OSError` if there is none."""
    lines = [f"CONNECT {proxy.server} HTTP/1.1", f"Host: {proxy.server}"]
    if proxy.url.credentials:
        lines.append(f"Proxy-Authorization: Basic {b64encode(proxy.url.credentials.encode()).decode()}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n") and len(answer) < LONGEST_HEADER:
        byte = sock.recv(1)  # one at a time: what follows the header comes from the server, and is not for us
        if not byte:
            break
        answer += byte
    version, _, rest = answer.partition(b" ")
    if not version.startswith(b"HTTP/") or not rest[:3].isdigit():
        raise ConnectionError
    return int(rest[:3])


def _require_connected(proxy: HttpProxy, status: int) -> None:
    if 200 <= status < 300:
        return
    if status >= 500 or status in UNSURE:
        reason = f"{proxy} does not reach {proxy.server} (HTTP {status})"
        raise ServerLostError(reason, f"start the server, or, {proxy.remedy}")
    if status == ASKS_FOR_PASSWORD:
        raise UsageError(
            f"{proxy} asks for a user name and a password (HTTP {status}); write http://USER:PASSWORD@HOST:PORT in "
            f"{proxy.origin}"
        )
    raise UsageError(
        f"{proxy} does not let this computer connect to {proxy.server} (HTTP {status}); ask its administrator for "
        f"access, or, {proxy.remedy}"
    )
