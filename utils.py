"""What the scripts share: checks before a long run."""

import os
from pathlib import Path

from fedhealth.cli.terminal import warn
from fedhealth.common.addresses import is_loopback
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


def warn_if_readable(address: str, encrypted: bool) -> None:
    """Warn if others than this machine can reach a server without TLS (--insecure)."""
    if not (encrypted or is_loopback(address)):
        warn(f"{address} can be reached from other machines; without TLS anybody there can join and read everything")
