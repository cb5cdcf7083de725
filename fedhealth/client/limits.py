"""A hospital's own limits, which the server's settings cannot override."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from fedhealth.common.errors import UsageError
from fedhealth.config.scripts import SecureAggregationWish

LEAST_COUNT = 5
"""Sums over fewer patients are not sent, unless the hospital sets another limit."""
NODE_KEYS = (
    "data",
    "schema",
    "sheet",
    "decimal",
    "mapping",
    "name",
    "min-count",
    "max-epsilon",
    "require-dp",
    "share-verdict",
    "secure-aggregation",
    "accept-roster",
    "tls",
    "pin",
    "partition-id",
    "num-partitions",
)
"""The valid keys of a Flower node config; Flower's simulation sets the last two."""


@dataclass(frozen=True)
class HospitalLimits:
    """What a hospital allows, whatever the server asks for."""

    min_count: int = LEAST_COUNT
    """Sums over fewer patients than this are not sent."""
    max_epsilon: float | None = None
    """Limit on a patient's epsilon over all runs together; with it, only runs under differential privacy are joined."""
    share_comparisons: bool = False
    """Whether the comparisons of the final model with the local-only model are sent to the server (--share-verdict)."""
    secure_aggregation: SecureAggregationWish = "accept"
    """required: only runs with secure aggregation are joined; never: only runs without it."""


USUAL_LIMITS = HospitalLimits()
SIMULATED_LIMITS = HospitalLimits(min_count=1)
"""In a simulation nothing leaves the computer, so only the settings of the run decide what is suppressed."""


def read_limits(node_config: Mapping[str, Any]) -> HospitalLimits:
    """The limits in a Flower node config.

    Raises
    ------
    UsageError
        A value is invalid, a key is unknown, or `require-dp` is true and `max-epsilon` is missing.
    """
    for key in node_config:
        require_known(key)
    min_count = node_config.get("min-count", LEAST_COUNT)
    if type(min_count) is not int or min_count < 1:
        raise UsageError(f"min-count is {min_count} in the node config; give 1 or more")
    limit = node_config.get("max-epsilon")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0):
        raise UsageError(f"max-epsilon is {limit} in the node config; give a number above 0")
    for key in ("share-verdict", "require-dp"):
        if type(node_config.get(key, False)) is not bool:
            raise UsageError(f"{key} is {node_config[key]} in the node config; give true or false")
    if node_config.get("require-dp") and limit is None:
        raise UsageError(
            "require-dp is true in the node config, but max-epsilon is missing; give it, without spaces around ="
        )
    wishes = {each: each for each in get_args(SecureAggregationWish)}
    wish: SecureAggregationWish | None = wishes.get(node_config.get("secure-aggregation", "accept"))
    if wish is None:
        raise UsageError(
            f"secure-aggregation is {node_config['secure-aggregation']} in the node config; give {', '.join(wishes)}"
        )
    share = node_config.get("share-verdict", False)
    return HospitalLimits(min_count, None if limit is None else float(limit), share, wish)


def require_known(key: str) -> None:
    """Raise a `UsageError` if `key` is not a key of a node config: a misspelt limit would have no effect."""
    if key in NODE_KEYS:
        return
    near = difflib.get_close_matches(key.replace("_", "-").lower(), NODE_KEYS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(NODE_KEYS)}"
    raise UsageError(f"{key} is not a key of a node config; {hint}")


def describe_node_config(node_config: Mapping[str, Any], limits: HospitalLimits) -> str:
    """The parsed node config of a SuperNode, as one line for its log."""
    name, schema = node_config.get("name", "as in the file"), node_config.get("schema", "heart disease")
    limit = "none, so no limit" if limits.max_epsilon is None else f"{limits.max_epsilon:g}"
    return (
        f"node config: file {node_config['data']}, schema {schema}, name {name}, min-count {limits.min_count}, "
        f"max-epsilon {limit}, secure-aggregation {limits.secure_aggregation}, "
        f"share-verdict {str(limits.share_comparisons).lower()}"
    )
