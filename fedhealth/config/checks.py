"""How a wrong setting is refused: one line with the flag, its value and what it should be."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from fedhealth.common.addresses import is_unspecified, parse_proxy_url, without_credentials
from fedhealth.common.errors import UsageError

LONGEST_WAIT = 30 * 24 * 3600.0
"""Seconds; longer than any run, shorter than what the system's clocks can wait."""


def require(condition: bool, flag: str, value: object, expected: str) -> None:
    """Raise a one-line `UsageError` that names the flag, its value and what it should be."""
    if not condition:
        raise UsageError(f"--{flag} is {value}; give {expected}")


def parse_address(address: str, flag: str) -> tuple[str, int]:
    """`HOST:PORT` -> (host, port); an IPv6 host stands in brackets. Port 0 lets the system choose."""
    parts = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address)
    require(parts is not None and int(parts[2]) <= 65535, flag, address, "HOST:PORT, such as 127.0.0.1:8080")
    return (parts[1], int(parts[2])) if parts else ("", 0)


def parse_server(address: str) -> tuple[str, int]:
    """`parse_address` for a server that a client connects to: neither an address for listening only nor port 0."""
    parsed = parse_address(address, "server")
    example = "127.0.0.1:8080, or fed.example.org:8443 on another machine"
    require(
        not is_unspecified(address),
        "server",
        f"{address}, where a server only listens",
        f"its own address, such as {example}",
    )
    require(parsed[1] > 0, "server", address, "the port that the server prints (listening on HOST:PORT)")
    return parsed


def check_proxy(proxy: str | None) -> None:
    """Raise a one-line `UsageError`, which shows no password, unless the value of --proxy is None, "none" or a URL."""
    if proxy in (None, "none"):
        return
    try:
        parse_proxy_url(proxy)
    except ValueError:
        shown = without_credentials(proxy)
        require(False, "proxy", shown, "none, or http://HOST:PORT (http://USER:PASSWORD@HOST:PORT)")


def read_values(run_config: Mapping[str, Any], fields: "Mapping[str, dataclasses.Field[Any]]") -> dict[str, Any]:
    """The run config's values for these fields (key -> field), each of the type of its field's default.

    TOML and protobuf may turn 1.0 into 1; a bool is never meant as a number.
    """
    values: dict[str, Any] = {}
    for key, field in fields.items():
        given, expected = run_config[key], type(field.default)
        value = float(given) if expected is float and type(given) is int else given
        require(type(value) is expected, key, repr(value), f"a value of type {expected.__name__}")
        values[field.name] = value
    return values
