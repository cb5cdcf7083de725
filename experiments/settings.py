"""The flags of `python -m experiments.compare` and `python -m experiments.tables`, and their checks."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.config.checks import require
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.config.scripts import DatasetSettings, Split

Protocol = Literal["flamby", "cv", "cv-no-indicators", "new-hospital", "small"]
TableName = Literal["breast-cancer", "lung-cancer"]


@dataclass(frozen=True)
class TableSettings:
    """Write a public table of patients as CSV, from an installed package.

    Example: python -m experiments.tables breast-cancer --out tables
    """

    table: TableName
    """breast-cancer (scikit-learn's Wisconsin data), lung-cancer (the NCCTG trial, from lifelines)."""
    out: Path = Path("tables")
    """The folder to write to."""
    others: bool = False
    """lung-cancer: put the institutions that are too small to take part together into one more hospital, `others`."""

    def __post_init__(self) -> None:
        """Check the flags; raises a `UsageError` for one that has no effect."""
        require(not self.others or self.table == "lung-cancer", "others", self.others, "it for lung-cancer only")


@dataclass(frozen=True)
class CompareSettings:
    """Compare training in each hospital alone, federated, and on pooled rows, with the same patients and seeds.

    Example: python -m experiments.compare --source data/raw --protocol cv --strategy fedavg scaffold --out runs/compare
    """

    source: str = "auto"
    """auto, uci, synthetic, or the PATH of the UCI files or a Kaggle copy (flamby needs the UCI files' folder)."""
    schema: Path | None = None
    """The file (TOML) that defines the columns of --source, then the PATH of a CSV (default: heart disease)."""
    split: Split = "natural"
    """natural: the hospitals of the source; iid, label-skew, quantity-skew, feature-skew: patients are redistributed."""
    clients: int = DatasetSettings.clients
    """How many hospitals the patients are divided among (the natural split always has its own)."""
    protocol: tuple[Protocol, ...] = ("flamby", "cv", "cv-no-indicators", "new-hospital", "small")
    """flamby: FLamby's rows and split; cv: five folds; cv-no-indicators; new-hospital: leave one out; small: few patients."""
    strategy: tuple[StrategyName, ...] = ("fedavg", "fedadagrad", "scaffold", "newton")
    """The federated strategies."""
    seeds: int = 5
    """Number of seeds: repetitions of cv, training runs of flamby."""
    out: Path = Path("runs/compare")
    """The folder for results.json, differences.json and figures."""
    page: Path | None = None
    """Also write a Markdown page of the tables, with figures in a folder beside it (heart disease data only)."""
    choose: bool = False
    """Also select the settings in every case on its training rows only (takes several times as long)."""
    dp_epsilon: tuple[float, ...] = ()
    """Also run the first strategy under differential privacy with each of these epsilons."""
    dp_delta: float = FederationSettings.dp_delta
    """The delta of --dp-epsilon."""
    rounds: int = FederationSettings.rounds
    """Federated rounds."""
    local_epochs: int = FederationSettings.local_epochs
    """Passes over a hospital's training patients in one round."""
    batch_size: int = FederationSettings.batch_size
    """Patients per gradient step."""
    learning_rate: float = FederationSettings.learning_rate
    """Step size of the gradient descent in a hospital (a third of it under an adaptive server). 0: the usual one."""

    def __post_init__(self) -> None:
        """Check every value; raises a `UsageError` for a wrong one."""
        require(1 <= self.seeds <= 100, "seeds", self.seeds, "a number from 1 to 100")
        require(1 <= self.clients <= 1000, "clients", self.clients, "a number from 1 to 1000")
        require(bool(self.protocol), "protocol", "empty", "at least one")
        require(bool(self.strategy), "strategy", "empty", "at least one")
        for epsilon in self.dp_epsilon:
            require(0 < epsilon <= 100, "dp-epsilon", epsilon, "numbers above 0, at most 100")
            dataclasses.replace(self.federation(self.strategy[0]), dp_epsilon=epsilon)  # refuses newton first
        for strategy in self.strategy:
            self.federation(strategy)

    def federation(self, strategy: StrategyName) -> FederationSettings:
        """The settings of a run with this strategy."""
        return FederationSettings(
            strategy=strategy,
            rounds=self.rounds,
            local_epochs=self.local_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            dp_delta=self.dp_delta,
            subgroups=False,
            importance=False,
        )

    def flags(self) -> str:
        """The flags besides source and protocol that determine the tables, as command line text."""
        private = f" --dp-epsilon {' '.join(f'{each:g}' for each in self.dp_epsilon)} --dp-delta {self.dp_delta:g}"
        return " --choose" * self.choose + private * bool(self.dp_epsilon)
