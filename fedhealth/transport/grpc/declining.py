"""How a hospital that looks at a run declines to take part: by metadata of its next look, which is the preflight check.

They hold a hash of the settings that it declined, so that a run of the same name with other settings is not declined.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fedhealth.common.safe_text import printable

RUN, REASON = "declined-run", "declined-reason-bin"
LONGEST_REASON = 200


class Declined:
    """The hospitals that have declined to take part and have not joined since, at most so many.

    Attributes
    ----------
    reasons : hospital -> why; may be read from any thread, since it is replaced and never modified.
    """

    def __init__(self, most: int) -> None:
        self.reasons: Mapping[str, str] = {}
        self._most = most

    def note(self, hospital: str, reason: str) -> bool:
        """Note why a hospital does not take part; False if that is known, or they are too many."""
        if self.reasons.get(hospital) == reason or len(self.reasons) >= self._most:
            return False
        self.reasons = {**self.reasons, hospital: reason}
        return True

    def forget(self, hospital: str) -> None:
        """The hospital has joined."""
        if hospital in self.reasons:
            self.reasons = {name: reason for name, reason in self.reasons.items() if name != hospital}

    def clear(self) -> None:
        """Another run begins."""
        self.reasons = {}


def decline_metadata(run_config: Mapping[str, Any], reason: str) -> dict[str, str | bytes]:
    """The metadata that decline the run with these settings."""
    return {RUN: _hash_settings(run_config), REASON: printable(reason, LONGEST_REASON).encode()}


def read_decline(metadata: Mapping[str, Any], run_config: Mapping[str, Any]) -> str | None:
    """Why a caller declines the run with these settings, escaped for one line; None if it does not."""
    reason = metadata.get(REASON)
    if not isinstance(reason, bytes) or metadata.get(RUN) != _hash_settings(run_config):
        return None
    return printable(reason.decode("utf-8", "replace"), LONGEST_REASON)


def _hash_settings(run_config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(run_config, sort_keys=True).encode()).hexdigest()
