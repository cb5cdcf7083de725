"""A TLS proxy in front of the gRPC server: verifies certificates, reports refusals with their reason, forwards the rest.

The gRPC server listens on this machine's loopback. An accepted connection is forwarded to it from a local port;
`TlsProxy.peer` maps that local port to the name in the certificate.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from fedhealth.transport.options import HANDSHAKE_SECONDS
from fedhealth.transport.tls.handshake import CHUNK, STALL_SECONDS, TlsStream, explain
from fedhealth.transport.tls.identity import name_of

MOST_PENDING, MOST_PENDING_PER_HOST = 256, 32
"""Maximum number of pending handshakes, in total and from one address."""
MOST_PER_PEER = 8
"""Maximum number of connections with one certificate."""
QUIET_SECONDS = 5.0
"""The same refusal of the same host is reported at most once in this time."""
LOOPBACK_HOST = "127.0.0.1"
FULL_SECONDS = 0.1
"""How long to wait if the system has no file descriptor left."""


@dataclass(frozen=True)
class Peer:
    """The other end of an accepted connection: the name in its certificate and its address."""

    name: str
    peer: str


class TlsProxy:
    """Listens with TLS. `on_refused(peer, reason)` is called for every refused connection."""

    def __init__(self, context: ssl.SSLContext, on_refused: Callable[[str, str], None]) -> None:
        self._context = context
        self._on_refused = on_refused
        self._listeners: list[socket.socket] = []
        self._inner_port = 0
        self._peers: dict[int, Peer] = {}
        self._pending: Counter[str] = Counter()
        self._reported: dict[tuple[str, str], float] = {}
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int, inner_port: int) -> int:
        """Listen on every address of the host and return the port; raises an `OSError` if that fails."""
        self._inner_port = inner_port
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in {(family, address[0]): None for family, *_, address in found}:
                listener = _listen(family, str(address), port)
                self._listeners.append(listener)
                port = listener.getsockname()[1]
        except OSError:
            self.stop_listening()
            raise
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in self._listeners]
        return port

    def peer(self, local_port: int) -> Peer | None:
        """The verified peer of the connection that is forwarded from this local port; None for any other port."""
        return self._peers.get(local_port)

    def stop_listening(self) -> None:
        """Close the port; accepted connections continue."""
        for task in self._accepting:
            task.cancel()
        for listener in self._listeners:
            listener.close()

    async def shut(self, grace: float) -> None:
        """Send pending bytes for at most `grace` seconds, then end every connection."""
        self.stop_listening()
        if self._connections:
            await asyncio.wait(self._connections, timeout=grace)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._accepting, *self._connections, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, address = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # out of file descriptors, or gone before it was accepted
                await asyncio.sleep(FULL_SECONDS)
                continue
            task = asyncio.create_task(self._receive(sock, str(address[0]), address[1]))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _receive(self, sock: socket.socket, host: str, port: int) -> None:
        """Handle one accepted connection until it ends."""
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = TlsStream(sock, self._context)
        try:
            if name := await self._identify(stream, host, peer):
                await self._forward(stream, Peer(name, peer))
        except (OSError, TimeoutError):
            pass  # the stream at the gRPC server ends as well, and is reported there
        finally:
            stream.close()

    async def _identify(self, stream: TlsStream, host: str, peer: str) -> str | None:
        """The name in the peer's certificate; None for a refused peer."""
        if self._pending.total() >= MOST_PENDING or self._pending[host] >= MOST_PENDING_PER_HOST:
            self._report(host, peer, "too many handshakes are pending")
            return None
        self._pending[host] += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await stream.handshake()
        except Exception as error:  # noqa: BLE001  # the peer is not authenticated and may send anything: refuse it
            if not (stream.silent and isinstance(error, ConnectionError)):  # such as the preflight check of the port
                self._report(host, peer, explain(error))
            await stream.send_alert()
            return None
        finally:
            self._pending -= Counter([host])
        name, reason = self._read_name(stream)
        if reason:
            self._report(host, peer, reason)
        return None if reason else name

    def _read_name(self, stream: TlsStream) -> tuple[str, str]:
        """(name in the certificate, reason for a refusal or "")."""
        try:
            name = name_of(x509.load_der_x509_certificate(stream.certificate))
        except ValueError:  # OpenSSL accepts certificates that the stricter `cryptography` does not
            return "", "its certificate cannot be read"
        if name is None or not name.isprintable():
            return "", "its certificate does not have exactly one printable common name"
        if stream.protocol != "h2":
            return name, f"it does not use HTTP/2 ({name})"
        if sum(peer.name == name for peer in self._peers.values()) >= MOST_PER_PEER:
            return name, f"{name} already has {MOST_PER_PEER} connections"
        return name, ""

    async def _forward(self, stream: TlsStream, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as inner:
            inner.setblocking(False)
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(inner, (LOOPBACK_HOST, self._inner_port))
            local_port = inner.getsockname()[1]
            self._peers[local_port] = peer  # before the first byte is forwarded
            try:
                await _pump(stream, inner)
            finally:
                del self._peers[local_port]  # before another connection can get the port

    def _report(self, host: str, peer: str, reason: str) -> None:
        now = time.monotonic()
        if now - self._reported.get((host, reason), float("-inf")) >= QUIET_SECONDS:
            self._reported = {key: last for key, last in self._reported.items() if now - last < QUIET_SECONDS}
            self._reported[host, reason] = now
            self._on_refused(peer, reason)


async def _pump(stream: TlsStream, inner: socket.socket) -> None:
    """Copy bytes both ways until one end closes; each read waits for the write before it, so no buffer grows."""
    loop = asyncio.get_running_loop()

    async def inwards() -> None:
        while clear := await stream.read():
            async with asyncio.timeout(STALL_SECONDS):
                await loop.sock_sendall(inner, clear)

    async def outwards() -> None:
        while clear := await loop.sock_recv(inner, CHUNK):
            await stream.write(clear)

    directions = {asyncio.ensure_future(inwards()), asyncio.ensure_future(outwards())}
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


def _listen(family: int, address: str, port: int) -> socket.socket:
    # "::" includes all IPv4 addresses, as in gRPC.
    both = address == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((address, port), family=family, backlog=128, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener
