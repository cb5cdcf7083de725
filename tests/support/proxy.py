"""A TCP proxy between clients and a server that can misbehave on command."""

import contextlib
import random
import socket
import struct
import threading


class Proxy:
    """Listens on `port` and forwards bytes to the port `target` of this machine, unless a fault is injected.

    While there is no target, connections are closed at once. The first bytes that clients sent are kept in `recorded`, for
    replays.
    """

    def __init__(self, target: int = 0, seed: int = 0) -> None:
        self.recorded = b""
        self.target = target
        self._random = random.Random(seed)
        self._corrupt = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._proxy = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._proxy.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more connections and cut those that are there."""
        self._proxy.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection at once, as a broken line does."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def corrupt(self) -> None:
        """Flip a bit in the next piece that passes."""
        self._corrupt.set()

    def hold(self) -> None:
        """Hold all bytes back, without closing a connection."""
        self._flowing.clear()

    def release(self) -> None:
        """Let it pass again."""
        self._flowing.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._proxy.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                pair = (client, server)
                with self._lock:
                    self._pairs.add(pair)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self._pass_on, args=(source, sink, source is client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                self._flowing.wait()
                if from_client and len(self.recorded) < 65536:
                    self.recorded += piece
                if self._corrupt.is_set():
                    self._corrupt.clear()
                    place = self._random.randrange(len(piece))
                    piece = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
