"""The exception for a failed call: try again, or stop with a line that says what to do.

gRPC reports little about why a connection failed, and with TLS 1.3 a refused certificate looks like any lost
connection. So after a failed attempt this module makes one more connection, with the `ssl` module, to get the reason
from the server.
"""

import contextlib
import socket
import ssl
from dataclasses import dataclass

import grpc

from fedhealth.common.addresses import split_address
from fedhealth.common.errors import RunError, UsageError
from fedhealth.transport.grpc.http_proxy import connect, explain_unused, find_proxy
from fedhealth.transport.grpc.retry import ADVICE, NameTakenError, ServerLostError
from fedhealth.transport.tls.handshake import explain
from fedhealth.transport.tls.identity import Identity

PROBE_SECONDS = 3.0
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""The HTTP/2 connection preface with empty settings (RFC 9113, section 3.4)."""
SETTINGS_TYPE = 4
TLS_ALERT = b"\x15\x03"
BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
NO_SERVER = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
TOO_MANY_CALLS = "Concurrent RPC limit exceeded"
TOO_LARGE = "message larger than max"


def translate(error: grpc.RpcError, joined: bool = False) -> Exception:
    """The exception for a failed call; after a welcome (`joined`), an unexpected status is a lost connection."""
    code, details = error.code(), error.details() or ""
    if code in BROKEN or (joined and code in NO_SERVER):
        return ServerLostError(details or code.name.lower())
    if details.startswith(TOO_MANY_CALLS):
        return ServerLostError("the server has too many connections at the moment")
    if code == grpc.StatusCode.ABORTED:
        return RunError(f"the server ended the run: {details}")
    if joined and code == grpc.StatusCode.PERMISSION_DENIED:
        return RunError(details)  # the run goes on without this hospital
    return _refusal(code, details)


def _refusal(code: grpc.StatusCode, details: str) -> UsageError:
    if TOO_LARGE in details:
        return UsageError(f"a message is larger than the maximum ({details}); use a smaller model")
    if code in NO_SERVER:
        return UsageError(
            f"the program at that address is not a federation server ({code.name.lower()}: {details}); check --server"
        )
    if code == grpc.StatusCode.ALREADY_EXISTS:
        return NameTakenError(f"the server refused: {details}")
    return UsageError(f"the server refused: {details}")


@dataclass(frozen=True)
class Target:
    """A server HOST:PORT, the hospital's certificate, and the value of --proxy (None: the environment decides)."""

    address: str
    tls: Identity | None = None
    proxy: str | None = None

    def lost(self, reason: str) -> ServerLostError:
        """The error of a failed attempt; it names the proxy that was used, or the one that was set and not used."""
        if proxy := find_proxy(self.address, self.proxy):
            return ServerLostError(f"{reason} (through {proxy})", f"{ADVICE}; {proxy.remedy}")
        unused = explain_unused(self.address, self.proxy)
        return ServerLostError(f"{reason}; {unused}" if unused else reason)


def find_reason(lost: Exception, target: Target) -> Exception:
    """The exception for a failed connection: a `ServerLostError` with the reason if one is found, else the text of `lost`.

    Raises
    ------
    UsageError
        Trying again cannot help.
    """
    host, _ = split_address(target.address)
    try:
        with connect(target.address, find_proxy(target.address, target.proxy), PROBE_SECONDS) as sock:
            reason = _listen(sock, target)
    except ServerLostError as error:  # the proxy's
        return error
    except TimeoutError:
        reason = f"no reply within {PROBE_SECONDS:g} s"
    except socket.gaierror:
        reason = f"the host name {host} cannot be resolved"
    except OSError as error:
        reason = (error.strerror or "no connection").lower()
    return target.lost(reason or str(lost))


def _listen(sock: socket.socket, target: Target) -> str:
    """The fault of the server at the other end; "" if there is none."""
    try:
        return _listen_with_tls(sock, target, target.tls) if target.tls else _listen_plainly(sock)
    except TimeoutError:
        return "it accepts connections but sends nothing"


def _listen_plainly(sock: socket.socket) -> str:
    sock.sendall(HELLO)
    received = sock.recv(9)
    if received.startswith(TLS_ALERT):
        raise UsageError("the server requires TLS; give this hospital's folder of certificates with --tls")
    if not received:
        return "it closed the connection at once"
    if len(received) > 3 and received[3] == SETTINGS_TYPE:
        return ""
    raise UsageError("the program at that address is not a federation server (no HTTP/2); check --server")


def _listen_with_tls(sock: socket.socket, target: Target, tls: Identity) -> str:
    host, _ = split_address(target.address)
    try:
        with tls.client_context().wrap_socket(sock, server_hostname=host) as stream:
            return _listen_for_refusal(stream)
    except ssl.SSLCertVerificationError as error:
        raise UsageError(_distrust(error, host, target, tls)) from None
    except ssl.SSLEOFError:
        return "it closed the connection during the handshake"
    except ssl.SSLError as error:
        if "plain text" in (reason := explain(error)):
            raise UsageError(
                "the server does not use TLS; leave out --tls, or ask the coordinator to start it with --tls"
            ) from None
        raise UsageError(f"the TLS connection to the server failed: {reason}") from None


def _listen_for_refusal(stream: ssl.SSLSocket) -> str:
    """In TLS 1.3 the client's handshake ends before the server checks its certificate: a refusal shows at the first read."""
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream.sendall(HELLO)
        return "" if stream.recv(1) else "the server closed the connection during the handshake"
    except ConnectionError:
        return "the server closed the connection during the handshake"
    except ssl.SSLEOFError:
        return "the server closed the connection during the handshake"
    except ssl.SSLError as error:
        reason = explain(error)
        raise UsageError(f"the server closed the connection during the handshake: {reason}") from None


def _distrust(error: ssl.SSLCertVerificationError, host: str, target: Target, tls: Identity) -> str:
    """Why the client does not trust the server's certificate, and what to do."""
    reason = explain(error)
    if "host name" in reason or "another address" in reason:
        return (
            f"the server's certificate is not for {host}; give --server the name in the certificate, "
            f"or ask the coordinator to make one for {host} (certificates --server-names)"
        )
    trusted = f"the server cannot be trusted: {reason} (trusted CA: {tls.folder / 'ca.pem'}); check --server and --tls"
    proxy = find_proxy(target.address, target.proxy)
    opened = f"; if {proxy} decrypts TLS, ask its administrator for an exception for {target.address}"
    return trusted + (opened if proxy else "")
