"""The flags of `python -m experiments.compare` and their checks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedhealth.config.checks import require
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName

Protocol = Literal["flamby", "cv", "cv-no-indicators", "new-hospital", "small"]


@dataclass(frozen=True)
class CompareSettings:
    """Compare training in each hospital alone, federated, and on pooled rows, with the same patients and seeds.

    Example: python -m experiments.compare --source data/raw --protocol cv --strategy fedavg scaffold --out runs/compare
    """

    source: str = "auto"
    """auto, uci, synthetic, or the PATH of the UCI files or a Kaggle copy (flamby needs the UCI files' folder)."""
    protocol: tuple[Protocol, ...] = ("flamby", "cv", "cv-no-indicators", "new-hospital", "small")
    """flamby: FLamby's rows and split; cv: five folds; cv-no-indicators; new-hospital: leave one out; small: few patients."""
    strategy: tuple[StrategyName, ...] = ("fedavg", "fedadagrad", "scaffold")
    """The federated strategies."""
    seeds: int = 5
    """Number of seeds: repetitions of cv, training runs of flamby."""
    out: Path = Path("runs/compare")
    """The folder for results.json, differences.json and figures."""
    page: Path | None = None
    """Also write a Markdown page of the tables, with figures in a folder beside it."""
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
        require(bool(self.protocol), "protocol", "empty", "at least one")
        require(bool(self.strategy), "strategy", "empty", "at least one")
        for epsilon in self.dp_epsilon:
            require(0 < epsilon <= 100, "dp-epsilon", epsilon, "numbers above 0, at most 100")
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
