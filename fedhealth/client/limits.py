"""A hospital's own limits, which no server can loosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedhealth.common.errors import UsageError

LEAST_COUNT = 5
"""Sums over fewer patients stay in a hospital that has no limit of its own."""


@dataclass(frozen=True)
class HospitalLimits:
    """What a hospital allows, whatever the server asks for."""

    min_count: int = LEAST_COUNT
    """Sums over fewer patients than this stay in the hospital."""
    max_epsilon: float | None = None
    """The most that all runs together may disclose of a patient; with it, only runs under differential privacy are joined."""
    share_verdict: bool = False
    """Whether the server is sent what the run was worth to the hospital."""


USUAL_LIMITS = HospitalLimits()


def read_limits(node_config: Mapping[str, Any]) -> HospitalLimits:
    """The limits in a Flower node config; a `UsageError` if a value is none."""
    min_count = node_config.get("min-count", LEAST_COUNT)
    if type(min_count) is not int or min_count < 1:
        raise UsageError(f"min-count is {min_count} in the node config; give 1 or more")
    limit = node_config.get("max-epsilon")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0):
        raise UsageError(f"max-epsilon is {limit} in the node config; give a number above 0")
    share = node_config.get("share-verdict", False)
    if type(share) is not bool:
        raise UsageError(f"share-verdict is {share} in the node config; give true or false")
    return HospitalLimits(min_count, None if limit is None else float(limit), share)
