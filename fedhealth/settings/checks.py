"""How a wrong setting is refused: one line with the flag, its value and what it should be."""

import re

from fedhealth.errors import UsageError

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
