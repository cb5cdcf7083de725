"""TLS on one accepted connection, and the reasons of failed handshakes.

gRPC's C core does not report a failed handshake to Python, and asyncio's TLS closes the connection without the alert
that gives the peer the reason; so the server does the handshake itself, with the `ssl` module's memory buffers.
"""

import asyncio
import socket
import ssl

CHUNK = 256 * 1024
STALL_SECONDS = 60.0
"""A connection whose peer reads nothing for this long is closed."""
TLS_FIRST_BYTE = b"\x16"
PLAIN_TEXT_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
"""Fatal alert "protocol version"; it shows a client without TLS that the server requires TLS."""
ALERT_SECONDS = 1.0


class PlainTextError(Exception):
    """The peer does not use TLS."""


class TlsStream:
    """The server's end of one TLS connection; owns the socket. `silent`: nothing has been received yet."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()
        self.silent = True

    async def handshake(self) -> None:
        """Complete the TLS handshake.

        Raises
        ------
        PlainTextError, ssl.SSLError, ConnectionError
            `explain` gives their reasons.
        """
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._flush()
            received = await asyncio.get_running_loop().sock_recv(self._sock, CHUNK)
            if not received:
                raise ConnectionResetError
            first, self.silent = self.silent, False
            if first and not received.startswith(TLS_FIRST_BYTE):
                self._outgoing.write(PLAIN_TEXT_ALERT)
                raise PlainTextError
            self._incoming.write(received)

    async def send_alert(self) -> None:
        """Send the TLS alert with the reason, and wait a moment so that the peer can read it."""
        async with asyncio.timeout(ALERT_SECONDS):
            await self._flush()
            self._sock.shutdown(socket.SHUT_WR)
            while await asyncio.get_running_loop().sock_recv(self._sock, CHUNK):
                pass

    @property
    def protocol(self) -> str | None:
        """The application protocol that was negotiated (ALPN)."""
        return self._tls.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes:
        """The peer's certificate (DER)."""
        return self._tls.getpeercert(binary_form=True) or b""

    async def read(self) -> bytes:
        """The next received bytes, decrypted; empty at the end."""
        while True:
            if clear := self._decrypt():
                return clear
            if self._incoming.eof:
                return b""
            await self._flush()
            if received := await asyncio.get_running_loop().sock_recv(self._sock, CHUNK):
                self._incoming.write(received)
            else:
                self._incoming.write_eof()

    async def write(self, clear: bytes) -> None:
        """Encrypt and send; raises a `TimeoutError` if the peer does not read."""
        self._tls.write(clear)
        await self._flush()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _decrypt(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._tls.read(CHUNK):
                parts.append(part)
            self._incoming.write_eof()  # the peer has closed the TLS connection
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            if not self._incoming.eof:
                raise
        return b"".join(parts)

    async def _flush(self) -> None:
        # Reading and writing may both have to send, and only one coroutine may send on a socket at a time.
        async with self._sending:
            if secret := self._outgoing.read():
                async with asyncio.timeout(STALL_SECONDS):
                    await asyncio.get_running_loop().sock_sendall(self._sock, secret)


VERIFY_CODES = {
    7: "its certificate is signed by an unknown CA",
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is signed by an unknown CA",
    20: "its certificate is signed by an unknown CA",
    21: "its certificate is signed by an unknown CA",
    26: "its certificate is for another purpose",
    30: "its certificate is signed by an unknown CA",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}
"""OpenSSL's X509_V_ERR codes."""
REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it sent no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust this end's certificate (another CA)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept this end's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept this end's certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not accept this end's certificate (wrong purpose)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it reports that this end's certificate has expired",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not support TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not support TLS 1.3",
    "WRONG_VERSION_NUMBER": "it uses plain text instead of TLS",
    "HTTP_REQUEST": "it uses plain text instead of TLS",
    "RECORD_LAYER_FAILURE": "it uses plain text instead of TLS",
}
"""OpenSSL's reason codes."""


def explain(error: Exception) -> str:
    """The reason of a failed handshake, as text."""
    match error:
        case ssl.SSLCertVerificationError():
            return VERIFY_CODES.get(error.verify_code, f"its certificate is invalid ({error.verify_message})")
        case ssl.SSLEOFError() | ConnectionError():
            return "it closed the connection during the handshake"
        case ssl.SSLError():
            reason = error.reason or "unknown reason"
            return REASONS.get(reason, f"the TLS handshake failed ({reason.replace('_', ' ').lower()})")
        case PlainTextError():
            return "it uses plain text instead of TLS"
        case TimeoutError():
            return "it did not finish the handshake in time"
        case _:
            return f"the connection failed ({error})"
