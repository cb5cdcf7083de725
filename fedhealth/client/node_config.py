"""What a hospital says for itself in its node config, whatever the server asks for; and what goes with its patients."""

from pathlib import Path

from flwr.app import Context

from fedhealth.client.participant import IN_MEMORY, read_settings
from fedhealth.client.privacy.ledger import Budget, budget_path
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.common.errors import UsageError

LEAST_COUNT = 5
"""Sums over fewer patients stay here where the hospital gave no limit of its own (node config `min-count`)."""


def find_min_count(context: Context) -> int:
    """The larger of what the server asks for and the hospital's own limit, which no server can lower."""
    own = context.node_config.get("min-count", LEAST_COUNT)
    if type(own) is not int or own < 1:
        raise UsageError(f"min-count is {own} in the node config; give 1 or more")
    return max(own, read_settings(context.run_config).min_count)


def find_budget(context: Context, limit: float | None) -> Budget:
    """What has been told of these patients: the ledger beside their CSV; without a CSV it dies with the process."""
    path = context.node_config.get("data")
    return Budget(None if path is None or path in IN_MEMORY else budget_path(Path(str(path))), limit)


def find_noise_source(context: Context) -> NoiseSource:
    """Noise that nobody can foresee; repeatable only for the patients of a study, who are public or invented."""
    path = context.node_config.get("data")
    if path is not None:
        return NoiseSource(IN_MEMORY[str(path)][3] if path in IN_MEMORY else None)
    from fedhealth.client.virtual import find_place

    place = find_place(context.node_config, context.run_config)
    return NoiseSource(None if place.engine.data else [place.seed, place.number])


def find_share_verdict(context: Context) -> bool:
    """Whether this hospital wants the server to hear what the run was worth to it (node config `share-verdict`)."""
    share = context.node_config.get("share-verdict", False)
    if type(share) is not bool:
        raise UsageError(f"share-verdict is {share} in the node config; give true or false")
    return share
