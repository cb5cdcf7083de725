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
