"""The flags of `python -m fedhealth simulate`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import require
from fedhealth.config.engine import LEAST_PATIENTS, PATIENTS_RANGE, EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName

USUAL_HOSPITALS = 200
Engine = Literal["auto", "numpy", "keras"]
TAKE_SUMS: tuple[StrategyName, ...] = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad")
"""Strategies that need no more than the sum of the hospitals' weights."""


@dataclass(frozen=True)
class SimulationFlags:
    """Who the hospitals are, and how this machine runs them."""

    data: Path | None = None
    """A folder with the hospitals' CSV files (full_dataset.csv is not one of them); without it, synthetic hospitals."""
    schema: Path | None = None
    """The file (TOML) that defines the columns of --data (default: heart disease; docs/schemas.md)."""
    patients: int = EngineSettings.patients
    """Patients of each synthetic hospital."""
    processes: int = 1
    """How many processes share the hospitals; 1: all in this one."""
    engine: Engine = "auto"
    """How the hospitals compute. numpy: all of them in arrays, many times as fast; keras: hospital by hospital, with the
    scripts' weights bit for bit; auto: numpy where it can (docs/deployment.md)."""
    out: Path | None = None
    """The run folder to write (default: runs/<time>)."""


@dataclass(frozen=True)
class SimulateSettings(SimulationFlags, FederationSettings):
    """A whole federation on this machine: no network, one program. Same seed, same weights as with the scripts.

    Example: python -m fedhealth simulate --hospitals 200 --rounds 20 --fraction 0.1

    The hospitals of a folder: python -m fedhealth simulate --data data (--hospitals 0: all of them; without --data, 200)
    """

    hospitals: int = 0
    """How many hospitals take part; 0: all of --data, without it 200."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        require(self.hospitals >= 0, "hospitals", self.hospitals, "1 or more, or 0 for all of --data, else 200")
        require(LEAST_PATIENTS <= self.patients <= 10**6, "patients", self.patients, PATIENTS_RANGE)
        require(1 <= self.processes <= 256, "processes", self.processes, "a number from 1 to 256")
        require(self.schema is None or self.data is not None, "schema", self.schema, "it beside --data only")
        self.federation()
        if self.engine == "numpy" and (reason := self.needs_keras()):
            raise UsageError(f"--engine numpy: {reason}; give --engine keras")

    def needs_keras(self) -> str:
        """Why only the Keras engine can run this federation; empty if the NumPy engine can."""
        if self.private:
            return "has no differential privacy (--dp-epsilon, --dp-noise)"
        if self.feasibility:
            return "has no --feasibility, which every hospital answers by itself"
        if self.secure_aggregation:
            return "has no --secure-aggregation, under which every hospital masks its own numbers"
        if self.max_update_norm:
            return "does not clip updates (--max-update-norm)"
        return (
            "" if self.strategy in TAKE_SUMS else f"has no --strategy {self.strategy}, which needs each one's weights"
        )

    def federation(self, files: int = USUAL_HOSPITALS) -> FederationSettings:
        """What all hospitals must agree on, of a folder with so many `files`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(FederationSettings)}
        return FederationSettings(**{**values, "hospitals": self.hospitals or files})

    def source(self) -> EngineSettings:
        """Who the hospitals are."""
        schema, data = (str(path.absolute()) if path else "" for path in (self.schema, self.data))
        return EngineSettings(schema=schema, data=data, patients=self.patients)
