"""What secure aggregation allows of the other settings."""

from collections.abc import Mapping
from typing import Any

from fedhealth.common.errors import UsageError

FEWEST_HOSPITALS = 3
"""Of the sum of two hospitals, each knows the other's numbers."""
SUMS_ENOUGH = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "newton")
"""The strategies that need nothing but sums over all hospitals."""
USUAL_MIN_HOSPITALS = 2


def check_secure_aggregation(settings: Mapping[str, Any]) -> None:
    """Refuse what cannot be done with sums over all hospitals, with the reason."""
    if not settings["secure_aggregation"]:
        return
    if settings["hospitals"] < FEWEST_HOSPITALS:
        raise UsageError(
            f"--secure-aggregation needs {FEWEST_HOSPITALS} hospitals or more, and --hospitals is {settings['hospitals']}: "
            "of the sum of two, each would know the other's numbers"
        )
    for flag, wrong, reason in _exclusions(settings):
        if wrong:
            raise UsageError(f"--{flag} and --secure-aggregation exclude each other: {reason}; leave one out")


def _exclusions(settings: Mapping[str, Any]) -> tuple[tuple[str, bool, str], ...]:
    """(flag, whether it is set so, why it cannot be)."""
    strategy, fraction, fewest = settings["strategy"], settings["fraction"], settings["min_hospitals"]
    return (
        (f"strategy {strategy}", strategy not in SUMS_ENOUGH, "it needs the weights of single hospitals"),
        (f"fraction {fraction:g}", fraction < 1, "every sum is over all hospitals"),
        (
            f"min-hospitals {fewest}",
            fewest not in (USUAL_MIN_HOSPITALS, settings["hospitals"]),
            "every sum is over all hospitals",
        ),
        ("dp-noise", settings["dp_noise"] > 0, "each hospital's epsilon would disclose its number of patients"),
        ("feasibility", settings["feasibility"], "it shows each hospital's counts"),
    )
