"""What the scripts share: checks before a long run."""

import ipaddress
import os
from pathlib import Path

from fedhealth.cli.terminal import warn
from fedhealth.common.errors import UsageError


def require_writable(path: Path | None, flag: str) -> None:
    """Raise a `UsageError` before a long run, not after it, if the flag's file cannot be written; None: no file is meant."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"--{flag} {path}: is a folder; give a file name")
    if not path.parent.is_dir():
        raise UsageError(f"--{flag} {path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--{flag} {path}: no permission to write in {path.parent}; give another place")


def require_safe_address(address: str, encrypted: bool, insecure: bool) -> None:
    """Raise a `UsageError` if others than this machine could reach a server without TLS, unless --insecure says so."""
    if encrypted or _is_own(address.rpartition(":")[0].strip("[]")):
        return
    if not insecure:
        raise UsageError(
            f"--address {address} can be reached from other machines; give --tls FOLDER (python -m fedhealth "
            "certificates makes one), or --insecure if the network itself is safe"
        )
    warn(
        f"{address} can be reached from other machines; without TLS anybody there can join and read along (--insecure)"
    )


def _is_own(host: str) -> bool:
    """Whether only this machine can reach that host; a name that begins like a number (127.example.org) is a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
