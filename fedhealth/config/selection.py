"""What may be chosen during a run, on patients that are neither trained nor tested on: the checks of those settings."""

from collections.abc import Mapping
from typing import Any

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import require

NOTHING_CHOSEN: Mapping[str, int | str] = {"patience": 0, "calibrate": "none", "threshold": "half"}
"""The settings that ask for a choice, as they are if they do not."""


def asks_for_choice(run_config: Mapping[str, Any]) -> bool:
    """Whether anything is to be chosen, so that hospitals hold patients out for it."""
    asked = (run_config.get(key, nothing) != nothing for key, nothing in NOTHING_CHOSEN.items())
    return any(asked)


def check_choices(patience: int, validation: float, evaluate_every: int) -> None:
    """Refuse what cannot be chosen, with the reason."""
    require(patience >= 0, "patience", patience, "0 or more")
    require(0.05 <= validation <= 0.5, "validation", validation, "a share from 0.05 to 0.5")
    if patience and evaluate_every == 0:
        raise UsageError(
            f"--patience is {patience}, but --evaluate-every 0 evaluates after the last round only; "
            "give --evaluate-every 1 or more, or leave --patience out"
        )
