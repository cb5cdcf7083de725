"""What all hospitals of a federation must agree on, as flags and as Flower's run config."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from fedhealth.errors import UsageError
from fedhealth.settings.checks import LONGEST_WAIT, require

Scaling = Literal["federated", "reference", "local"]
ModelName = Literal["mlp", "logistic"]
StrategyName = Literal["fedavg"]


@dataclass(frozen=True)
class FederationSettings:
    """What all hospitals must agree on: set at the server, sent to every client (the run config)."""

    hospitals: int = 4
    """How many hospitals take part; the server waits for them."""
    rounds: int = 20
    """Federated rounds: train in every hospital, average, evaluate."""
    local_epochs: int = 1
    """Passes over a hospital's training patients in one round."""
    batch_size: int = 16
    """Patients per gradient step."""
    learning_rate: float = 0.1
    """Step size of a hospital's stochastic gradient descent."""
    model: ModelName = "mlp"
    """mlp: one small hidden layer; logistic: logistic regression."""
    strategy: StrategyName = "fedavg"
    """How the server combines the hospitals' weights."""
    scaling: Scaling = "federated"
    """Whose means standardise: the federation's, fixed clinical constants, or each hospital's own (shows what it costs)."""
    missing_indicators: bool = True
    """Tell the model which values are missing: it predicts better, partly by what a doctor saw no need to measure."""
    test_share: float = 0.25
    """Share of each hospital's patients that is held out for evaluation and never trained on."""
    round_timeout: float = 3600.0
    """Seconds that the server waits for a hospital's answer before going on without it."""
    min_hospitals: int = 2
    """A round counts if at least this many trained (or all, if the federation is smaller); else it waits for them."""
    strikes: int = 3
    """Unsound answers (wrong shapes, not finite, wrong counts) after which a hospital is dropped."""
    max_update_norm: float = 0.0
    """Longest step (L2 norm of new minus old weights) a hospital may take in a round; a longer one is cut. 0: no limit."""
    min_count: int = 5
    """A hospital keeps to itself the count and sum of a measurement that fewer of its patients have."""
    seed: int = 0
    """Same seed, same weights, bit for bit."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        require(self.hospitals >= 1, "hospitals", self.hospitals, "1 or more")
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(self.local_epochs >= 1, "local-epochs", self.local_epochs, "1 or more")
        require(self.batch_size >= 1, "batch-size", self.batch_size, "1 or more")
        require(0 < self.learning_rate <= 100, "learning-rate", self.learning_rate, "a number above 0, at most 100")
        require(0.05 <= self.test_share <= 0.5, "test-share", self.test_share, "a share from 0.05 to 0.5")
        require(
            0 < self.round_timeout <= LONGEST_WAIT,
            "round-timeout",
            self.round_timeout,
            "seconds above 0, 30 days at most",
        )
        require(self.min_hospitals >= 1, "min-hospitals", self.min_hospitals, "1 or more")
        require(self.strikes >= 1, "strikes", self.strikes, "1 or more")
        require(
            0 <= self.max_update_norm < float("inf"),
            "max-update-norm",
            self.max_update_norm,
            "a number, 0 for no limit",
        )
        require(self.min_count >= 1, "min-count", self.min_count, "1 or more")
        require(0 <= self.seed < 2**31, "seed", self.seed, "a whole number from 0 to 2147483647")

    def to_run_config(self) -> dict[str, bool | int | float | str]:
        """As Flower's run config: kebab-case keys, plain values."""
        return {f.name.replace("_", "-"): getattr(self, f.name) for f in dataclasses.fields(FederationSettings)}

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """From Flower's run config; a missing key takes its default.

        Raises
        ------
        UsageError
            A key that is no setting, or a value out of its range or of another type.
        """
        known = {f.name.replace("_", "-"): f for f in dataclasses.fields(FederationSettings)}
        if unknown := sorted(set(run_config) - set(known)):
            raise UsageError(f"run config: unknown key {unknown[0]}; known are {', '.join(known)}")
        values: dict[str, Any] = {}
        for key, given in run_config.items():
            expected = type(known[key].default)
            # TOML and protobuf may turn 1.0 into 1; a bool is never meant as a number.
            value = float(given) if expected is float and type(given) is int else given
            require(type(value) is expected, key, repr(value), f"a value of type {expected.__name__}")
            values[known[key].name] = value
        for name, allowed in (("model", ModelName), ("strategy", StrategyName), ("scaling", Scaling)):
            choices = allowed.__args__  # type: ignore[attr-defined]  # typing.Literal has it
            if name in values:
                require(values[name] in choices, name, values[name], f"one of {', '.join(choices)}")
        return cls(**values)
