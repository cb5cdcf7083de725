"""What the messages of a run depend on."""

from collections.abc import Mapping
from typing import Any, Protocol


class RunSettings(Protocol):
    """What the sums depend on; `FederationSettings` has it."""

    @property
    def strategy(self) -> str:
        """The strategy's name."""

    @property
    def private(self) -> bool:
        """Whether the run is under differential privacy."""

    @property
    def dp_epsilon(self) -> float:
        """Its epsilon."""

    @property
    def validation_share(self) -> float:
        """The share of validation patients; 0 if there are none."""

    def to_run_config(self) -> Mapping[str, Any]:
        """All settings."""
