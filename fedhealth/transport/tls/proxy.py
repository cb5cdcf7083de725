"""The server's front door with TLS: checks who comes, says whom it sent away and why, and leads the others inside.

Inside is a gRPC server on this machine's loopback. A connection that was let in is pumped there from a local port that is
noted with the name in its certificate; `peer` tells who is behind a local port, and nobody is behind any other.
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
"""How many may shake hands at once, over all and from one address."""
MOST_PER_PEER = 8
"""How many connections one certificate may hold."""
QUIET_SECONDS = 5.0
"""The same refusal of the same host is told once in this time."""
INSIDE = "127.0.0.1"
FULL_SECONDS = 0.1
"""How long to wait when the system has no file descriptor left for one more connection."""


@dataclass(frozen=True)
class Peer:
    """Who is behind a connection that was let in: the name in its certificate and its address."""

    name: str
    peer: str


class TlsProxy:
    """Listens with TLS. `on_refused(peer, reason)` hears of everybody who was sent away."""

    def __init__(self, context: ssl.SSLContext, on_refused: Callable[[str, str], None]) -> None:
        self._context = context
        self._on_refused = on_refused
        self._listeners: list[socket.socket] = []
        self._inner_port = 0
        self._peers: dict[int, Peer] = {}
        self._pending: Counter[str] = Counter()
        self._told: dict[tuple[str, str], float] = {}
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int, inner_port: int) -> int:
        """Listen on every address of the host; an `OSError` if that cannot be. Returns the port."""
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
        """Who is behind a connection to the inside."""
        return self._peers.get(local_port)

    def stop_listening(self) -> None:
        """Free the port; who is in stays in."""
        for task in self._accepting:
            task.cancel()
        for listener in self._listeners:
            listener.close()

    async def shut(self, grace: float) -> None:
        """Let what is on its way out go out for `grace` seconds, then end every connection."""
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
        """One connection from its first byte to its last."""
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = TlsStream(sock, self._context)
        try:
            if name := await self._identify(stream, host, peer):
                await self._lead_inside(stream, Peer(name, peer))
        except (OSError, TimeoutError):
            pass  # a connection that breaks is no news here: the stream inside ends, and the hub tells
        finally:
            stream.close()

    async def _identify(self, stream: TlsStream, host: str, peer: str) -> str | None:
        """The name in the certificate of whoever is at the door; None for one who was sent away."""
        if self._pending.total() >= MOST_PENDING or self._pending[host] >= MOST_PENDING_PER_HOST:
            self._tell(host, peer, "too many others are at the door")
            return None
        self._pending[host] += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await stream.shake_hands()
        except Exception as error:  # noqa: BLE001  # a stranger may send anything; whatever it breaks, it is not let in
            self._tell(host, peer, explain(error))
            await stream.say_no()
            return None
        finally:
            self._pending -= Counter([host])
        name, reason = self._read_name(stream)
        if reason:
            self._tell(host, peer, reason)
        return None if reason else name

    def _read_name(self, stream: TlsStream) -> tuple[str, str]:
        """(name, why it may not come in)."""
        try:
            name = name_of(x509.load_der_x509_certificate(stream.certificate))
        except ValueError:  # OpenSSL takes what a stricter reader does not
            return "", "its certificate cannot be read"
        if name is None or not name.isprintable():
            return "", "its certificate names nobody, or several"
        if stream.protocol != "h2":
            return name, f"it does not speak HTTP/2 ({name})"
        if sum(peer.name == name for peer in self._peers.values()) >= MOST_PER_PEER:
            return name, f"{name} has {MOST_PER_PEER} connections already"
        return name, ""

    async def _lead_inside(self, stream: TlsStream, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as inner:
            inner.setblocking(False)
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(inner, (INSIDE, self._inner_port))
            local_port = inner.getsockname()[1]
            self._peers[local_port] = peer  # before the first byte goes in
            try:
                await _pump(stream, inner)
            finally:
                del self._peers[local_port]  # before the port can be anybody else's

    def _tell(self, host: str, peer: str, reason: str) -> None:
        now = time.monotonic()
        if now - self._told.get((host, reason), float("-inf")) >= QUIET_SECONDS:
            self._told = {key: told for key, told in self._told.items() if now - told < QUIET_SECONDS}
            self._told[host, reason] = now
            self._on_refused(peer, reason)


async def _pump(stream: TlsStream, inner: socket.socket) -> None:
    """Carry bytes both ways until one end closes; each waits for the other, so nothing piles up."""
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
    # All addresses of IPv6 mean those of IPv4, too, as gRPC has it.
    both = address == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((address, port), family=family, backlog=128, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener
