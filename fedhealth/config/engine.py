"""What only Flower's own engines read of a run config: `flwr run` has no flags beside it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fedhealth.config.checks import read_values, require

LEAST_PATIENTS = 21
"""Of a virtual hospital: fewer could not be split into patients to train and to test on."""
PATIENTS_RANGE = f"a number from {LEAST_PATIENTS} to 1000000"
ENGINE_KEYS = frozenset({"out", "schema", "data", "patients"})
RUN_NAME = "run"
"""The key under which a service's run config has the name of the run; it is no setting."""


@dataclass(frozen=True)
class EngineSettings:
    """Where `flwr run` puts its run folder, and who the virtual hospitals of a simulation are."""

    out: str = ""
    """The run folder to write at the server, an absolute path (default: fedhealth-runs/<time> in FLWR_HOME)."""
    schema: str = ""
    """The schema file (TOML), an absolute path, the same at the server and at every simulated hospital (default: heart
    disease)."""
    data: str = ""
    """Simulation: the folder with the hospitals' CSV files, an absolute path (default: invented hospitals)."""
    patients: int = 100
    """Simulation: patients of each invented hospital."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        # Flower's programs keep the working directory of where they were first started.
        for name in ("out", "schema", "data"):
            path = getattr(self, name)
            require(not path or Path(path).is_absolute(), name, path, "an absolute path")
        require(LEAST_PATIENTS <= self.patients <= 10**6, "patients", self.patients, PATIENTS_RANGE)

    def to_run_config(self) -> dict[str, str | int]:
        """As keys of Flower's run config."""
        return dataclasses.asdict(self)

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """The keys of a run config that are an engine's; a missing one takes its default.

        Raises
        ------
        UsageError
            A value is out of its range or of another type.
        """
        fields = {field.name: field for field in dataclasses.fields(EngineSettings) if field.name in run_config}
        return cls(**read_values(run_config, fields))
