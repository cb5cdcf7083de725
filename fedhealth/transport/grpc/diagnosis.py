"""What a failed call means to the hospital: try again, or stop with a line that says what to do.

gRPC says little about why a connection failed, and with TLS 1.3 a refused certificate looks like any lost connection. So
after a failed attempt one more connection is made here, with the `ssl` module, only to read the reason from the server.
"""

import contextlib
import os
import socket
import ssl

import grpc

from fedhealth.common.errors import RunError, UsageError
from fedhealth.transport.grpc.retry import NameTakenError, ServerLostError
from fedhealth.transport.options import LOOPBACK
from fedhealth.transport.tls.handshake import explain
from fedhealth.transport.tls.identity import Identity

PROBE_SECONDS = 3.0
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""How every HTTP/2 client begins: the preface and empty settings (RFC 9113, section 3.4)."""
SETTINGS_TYPE = 4
TLS_ALERT = b"\x15\x03"
BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
NO_SERVER = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
TOO_MANY_CALLS = "Concurrent RPC limit exceeded"
TOO_LARGE = "message larger than max"
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


def translate(error: grpc.RpcError, joined: bool = False) -> Exception:
    """The exception for a failed call. After a welcome the peer is a federation server: an odd end is a lost connection."""
    code, details = error.code(), error.details() or ""
    if code in BROKEN or (joined and code in NO_SERVER):
        return ServerLostError(details or code.name.lower())
    if details.startswith(TOO_MANY_CALLS):
        return ServerLostError("the server has too many callers just now")
    if code == grpc.StatusCode.ABORTED:
        return RunError(f"the server ended the run: {details}")
    if joined and code == grpc.StatusCode.PERMISSION_DENIED:
        return RunError(details)  # the run goes on without this hospital
    return _refusal(code, details)


def _refusal(code: grpc.StatusCode, details: str) -> UsageError:
    if TOO_LARGE in details:
        return UsageError(f"a message is larger than the link takes ({details}); the model has to be smaller")
    if code in NO_SERVER:
        return UsageError(
            f"what answers there is no federation server ({code.name.lower()}: {details}); check --server"
        )
    if code == grpc.StatusCode.ALREADY_EXISTS:
        return NameTakenError(f"the server refused: {details}")
    return UsageError(f"the server refused: {details}")


def find_reason(lost: Exception, address: str, tls: Identity | None) -> Exception:
    """Why there was no connection: a `UsageError` if trying again cannot help, else `lost`, with a clearer text if found."""
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES) and not address.startswith(
        LOOPBACK
    ):
        return lost  # gRPC goes through a proxy, which may reach what a plain connection cannot
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_SECONDS) as sock:
            reason = _listen_with_tls(sock, host, tls) if tls else _listen_plainly(sock)
    except TimeoutError:
        reason = "it takes connections but says nothing"
    except socket.gaierror:
        reason = f"there is no computer named {host}"
    except OSError as error:
        reason = (error.strerror or "no connection").lower()
    return ServerLostError(reason) if reason else lost


def _listen_plainly(sock: socket.socket) -> str:
    sock.sendall(HELLO)
    said = sock.recv(9)
    if said.startswith(TLS_ALERT):
        raise UsageError("the server speaks TLS; give this hospital's folder of certificates with --tls")
    if not said:
        return "it closed the connection at once"
    if len(said) > 3 and said[3] == SETTINGS_TYPE:
        return ""
    raise UsageError("what answers there is no federation server (it speaks no HTTP/2); check --server")


def _listen_with_tls(sock: socket.socket, host: str, tls: Identity) -> str:
    try:
        with tls.client_context().wrap_socket(sock, server_hostname=host) as stream:
            return _listen_for_refusal(stream)
    except ssl.SSLCertVerificationError as error:
        raise UsageError(_distrust(error, host, tls)) from None
    except ssl.SSLEOFError:
        return "it closed the connection during the handshake"
    except ssl.SSLError as error:
        if "plain text" in (reason := explain(error)):
            raise UsageError(
                "the server does not speak TLS; leave out --tls, or ask the coordinator to start it with --tls"
            ) from None
        raise UsageError(f"no TLS with the server: {reason}") from None


def _listen_for_refusal(stream: ssl.SSLSocket) -> str:
    """In TLS 1.3 a client is done before the server has looked at its certificate: the refusal comes with the first read."""
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


def _distrust(error: ssl.SSLCertVerificationError, host: str, tls: Identity) -> str:
    """Why this end does not trust the server's certificate, and what to do."""
    reason = explain(error)
    if "host name" in reason or "another address" in reason:
        return (
            f"the server's certificate is not for {host}; use the name it is for in --server, "
            f"or ask the coordinator to make one for {host} (certificates --server-names)"
        )
    return f"the server cannot be trusted: {reason} (trusted is {tls.folder / 'ca.pem'}); check --server and --tls"
