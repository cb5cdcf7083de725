"""Whether a hospital's computer reaches the server: its name, and its port, directly or through an HTTP proxy."""

import socket

from fedhealth.common.addresses import split_address
from fedhealth.common.errors import RunError
from fedhealth.transport.grpc.http_proxy import connect, explain_unused, find_proxy
from fedhealth.transport.grpc.retry import ServerLostError

CONNECT_SECONDS = 10.0


def resolve(server: str, flag: str | None) -> str:
    """The address of the host of HOST:PORT; raises a `RunError` if it cannot be resolved. `flag` is the value of --proxy."""
    host, port = split_address(server)
    if proxy := find_proxy(server, flag):
        return f"{host} is left to {proxy}, which connects to it"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RunError(
            f"{host} cannot be resolved ({error.strerror}); check --server, or ask the coordinator for the IP address"
            f"{_unused(server, flag)}"
        ) from None
    return f"{host} is {found[0][4][0]}"


def open_port(server: str, flag: str | None) -> str:
    """Whether the port accepts connections, and through which proxy; raises a `RunError` if it does not."""
    host, port = split_address(server)
    proxy = find_proxy(server, flag)
    try:
        with connect(server, proxy, CONNECT_SECONDS):
            return f"{port} is open" + (f", through {proxy}" if proxy else "")
    except ServerLostError as error:
        raise RunError(f"{port} at {host} is not reached: {error}; {error.advice}") from None
    except OSError as error:
        raise RunError(
            f"{port} at {host} does not accept connections ({error.strerror or error}); is the server running, and does "
            f"the firewall allow outgoing connections to this port?{_unused(server, flag)}"
        ) from None


def _unused(server: str, flag: str | None) -> str:
    unused = explain_unused(server, flag)
    return f" ({unused})" if unused else ""
