"""An HTTP proxy on loopback that connects every caller to one port of this machine, whatever server was asked for."""

import contextlib
import socket
import threading


class ConnectProxy:
    """Answers CONNECT with `status` and, if that is 200, passes bytes to and from `target`. `requests` keeps the headers.

    `first` are bytes of the server that come in one piece with the answer.
    """

    def __init__(self, target: int = 0, status: int = 200, first: bytes = b"") -> None:
        self.target = target
        self.status = status
        self.first = first
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(None)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What a proxy variable would say."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "ConnectProxy":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            header = b""
            while not header.endswith(b"\r\n\r\n"):
                header += client.recv(1) or b"\r\n\r\n"
            self.requests.append(header.decode())
            client.sendall(f"HTTP/1.1 {self.status} -\r\n\r\n".encode() + self.first)
            if self.status != 200:
                return
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
