"""TLS on one accepted connection, and what a failed handshake means.

gRPC's C core tells Python nothing of a failed handshake, and asyncio's TLS closes without the alert that tells the other
side why; so the server shakes hands itself, with the `ssl` module's memory buffers.
"""

import asyncio
import socket
import ssl

CHUNK = 256 * 1024
STALL_SECONDS = 60.0
"""A connection that takes nothing for this long is closed."""
TLS_FIRST_BYTE = b"\x16"
PLAIN_TEXT_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
"""Fatal alert "protocol version": how a program that speaks no TLS can tell that this end does."""
LAST_WORD_SECONDS = 1.0


class PlainTextError(Exception):
    """The other side does not speak TLS."""


class TlsStream:
    """The server's end of one TLS connection; owns the socket. `silent`: nothing has come yet."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()
        self.silent = True

    async def shake_hands(self) -> None:
        """Until both sides know each other.

        Raises
        ------
        PlainTextError, ssl.SSLError, ConnectionError
            `explain` says what they mean.
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
        """Send the alert that tells the other side why, and wait a moment so that it can be read."""
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await self._flush()
            self._sock.shutdown(socket.SHUT_WR)
            while await asyncio.get_running_loop().sock_recv(self._sock, CHUNK):
                pass

    @property
    def protocol(self) -> str | None:
        """What the two will speak inside TLS."""
        return self._tls.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes:
        """The other side's certificate (DER)."""
        return self._tls.getpeercert(binary_form=True) or b""

    async def read(self) -> bytes:
        """What has come, decrypted; nothing at the end."""
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
        """Encrypt and send; a `TimeoutError` if the other side takes nothing."""
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
            self._incoming.write_eof()  # the other side has said goodbye
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            if not self._incoming.eof:
                raise
        return b"".join(parts)

    async def _flush(self) -> None:
        # Both directions may have something to send, and a socket takes one sender at a time.
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
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust this end's certificate (another CA)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept this end's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept this end's certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not accept this end's certificate (wrong purpose)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that this end's certificate has expired",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "it speaks plain text instead of TLS",
    "HTTP_REQUEST": "it speaks plain text instead of TLS",
    "RECORD_LAYER_FAILURE": "it speaks plain text instead of TLS",
}
"""OpenSSL's reasons."""


def explain(error: Exception) -> str:
    """The reason of a failed handshake, as text."""
    match error:
        case ssl.SSLCertVerificationError():
            return VERIFY_CODES.get(error.verify_code, f"its certificate is not sound ({error.verify_message})")
        case ssl.SSLEOFError() | ConnectionError():
            return "it hung up during the handshake"
        case ssl.SSLError():
            reason = error.reason or "unknown reason"
            return REASONS.get(reason, f"the TLS handshake failed ({reason.replace('_', ' ').lower()})")
        case PlainTextError():
            return "it speaks plain text instead of TLS"
        case TimeoutError():
            return "it did not finish the handshake in time"
        case _:
            return f"the connection failed ({error})"
