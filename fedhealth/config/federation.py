"""What all hospitals of a federation must agree on, as flags and as Flower's run config."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import LONGEST_WAIT, read_values, require
from fedhealth.config.engine import ENGINE_KEYS, RUN_NAME
from fedhealth.config.federation_flags import (
    Calibration,
    ModelFlags,
    ModelName,
    ModelSelectionFlags,
    Personalise,
    PrivacyFlags,
    RobustnessFlags,
    RunFlags,
    Scaling,
    StrategyName,
    Threshold,
)
from fedhealth.config.newton import check_newton
from fedhealth.config.privacy import check_privacy
from fedhealth.config.secure_aggregation import check_secure_aggregation
from fedhealth.config.selection import asks_for_choice, check_choices

NAMED: tuple[tuple[str, Any], ...] = (
    ("model", ModelName),
    ("strategy", StrategyName),
    ("scaling", Scaling),
    ("calibrate", Calibration),
    ("threshold", Threshold),
    ("personalise", Personalise),
)
"""The settings whose value is one of a few words."""
ADAPTIVE: tuple[StrategyName, ...] = ("fedadam", "fedyogi", "fedadagrad")
"""Strategies whose server adapts the step size of each weight."""
USUAL_RATE = 0.15
"""The usual learning rate of a hospital, chosen on training rows (docs/results.md)."""
PLAIN_TO_ADAPTIVE = 3.0
"""Under an adaptive server hospitals take a third of that learning rate, which did better on training rows."""


def usual_rate(strategy: str) -> float:
    """The usual learning rate of a hospital under this strategy."""
    return USUAL_RATE / PLAIN_TO_ADAPTIVE if strategy in ADAPTIVE else USUAL_RATE


def fewest_hospitals(settings: "FederationSettings") -> int:
    """How many hospitals must train in a round for the strategy to do what it is for, with f that send false weights.

    Krum: n >= 2f + 3 (Blanchard et al. 2017, proposition 4.2); Bulyan: n >= 4f + 3 (El Mhamdi et al. 2018, section 4);
    FedTrimmedAvg: of fewer, it cuts nobody off.
    """
    match settings.strategy:
        case "krum" | "multikrum":
            return 2 * settings.malicious + 3
        case "bulyan":
            return 4 * settings.malicious + 3
        case "fedtrimmedavg":
            fewest = math.ceil(1 / settings.trim_share)
            return fewest + (int(settings.trim_share * fewest) == 0)  # 49 * (1 / 49) is less than 1
    return 1


def fewest_flags(settings: "FederationSettings") -> str:
    """The flags that `fewest_hospitals` follows from, as a message names them."""
    robust = {"fedtrimmedavg": f" with --trim-share {settings.trim_share:g}"}
    return f"--strategy {settings.strategy}{robust.get(settings.strategy, f' with --malicious {settings.malicious}')}"


def share_of(hospitals: int, fraction: float) -> int:
    """How many hospitals a fraction of them is: at least one."""
    return max(1, round(fraction * hospitals))


@dataclass(frozen=True)
class FederationSettings(PrivacyFlags, ModelSelectionFlags, RobustnessFlags, ModelFlags, RunFlags):
    """What all hospitals must agree on: set at the server, sent to every client (the run config)."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        require(self.hospitals >= 1, "hospitals", self.hospitals, "1 or more")
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(0 < self.fraction <= 1, "fraction", self.fraction, "a share above 0, at most 1")
        require(self.evaluate_every >= 0, "evaluate-every", self.evaluate_every, "0 or more")
        require(self.local_epochs >= 1, "local-epochs", self.local_epochs, "1 or more")
        require(self.batch_size >= 1, "batch-size", self.batch_size, "1 or more")
        rate_range = "a number above 0, at most 100, or 0 for the usual one"
        require(0 <= self.learning_rate <= 100, "learning-rate", self.learning_rate, rate_range)
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
        require(1 <= self.hidden <= 4096, "hidden", self.hidden, "a number from 1 to 4096")
        require(0 <= self.weight_decay <= 1, "weight-decay", self.weight_decay, "a number from 0 to 1")
        require(0 <= self.seed < 2**31, "seed", self.seed, "a whole number from 0 to 2147483647")
        self._check_strategy()
        check_newton(vars(self))
        check_secure_aggregation(vars(self))
        check_choices(self.patience, self.validation, self.evaluate_every)
        for name, value in check_privacy(vars(self)).items():
            object.__setattr__(self, name, value)

    @property
    def private(self) -> bool:
        """Whether each patient has a guarantee of differential privacy."""
        return self.dp_epsilon > 0 or self.dp_noise > 0

    @property
    def local_learning_rate(self) -> float:
        """The learning rate in the hospitals: the given one, else the usual one of the strategy (docs/results.md)."""
        return self.learning_rate or usual_rate(self.strategy)

    def _check_strategy(self) -> None:
        """Refuse what the strategy cannot do, with the reason, before anybody connects."""
        rate, momentum = self.server_learning_rate, self.server_momentum
        require(0 <= rate <= 100, "server-learning-rate", rate, "a number from 0 (the usual one) to 100")
        require(0 <= momentum < 1, "server-momentum", momentum, "a share from 0 to below 1")
        require(0 <= self.proximal_mu <= 100, "proximal-mu", self.proximal_mu, "a number from 0 to 100")
        require(0 <= self.fairness <= 10, "fairness", self.fairness, "a number from 0 to 10")
        require(0 <= self.trim_share < 0.5, "trim-share", self.trim_share, "a share from 0 to below 0.5")
        require(self.malicious >= 0, "malicious", self.malicious, "0 or more")
        if self.strategy == "bulyan" and self.malicious == 0:
            raise UsageError(
                "--strategy bulyan with --malicious 0 is a plain mean; give --malicious 1 or more (1 needs 7 hospitals), "
                "or --strategy fedavg"
            )
        trained = self.trained_per_round
        if self.strategy == "fedtrimmedavg" and int(self.trim_share * trained) == 0:
            raise UsageError(
                f"--trim-share is {self.trim_share:g}, which cuts nobody off among {trained} hospitals; "
                f"give {min(0.49, 1 / trained):.2g} or more with 3 hospitals at least, or --strategy fedavg"
            )
        if trained < (fewest := fewest_hospitals(self)):
            raise UsageError(
                f"{fewest_flags(self)} needs at least {fewest} hospitals, "
                f"{self._trained_text()}; give another strategy (fedmedian works with any number)"
            )

    def _trained_text(self) -> str:
        if self.fraction == 1:
            return f"--hospitals is {self.hospitals}"
        return f"--fraction {self.fraction:g} of {self.hospitals} is {self.trained_per_round}"

    @property
    def trained_per_round(self) -> int:
        """How many hospitals are asked to train in a round, if all are there."""
        return share_of(self.hospitals, self.fraction)

    @property
    def validation_share(self) -> float:
        """Share of the training patients that is held out for choices: 0 if nothing is chosen."""
        return self.validation if asks_for_choice(self.to_run_config()) else 0.0

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
        if unknown := sorted(set(run_config) - set(known) - ENGINE_KEYS - {RUN_NAME}):
            raise UsageError(f"run config: unknown key {unknown[0]}; known are {', '.join(known)}")
        values = read_values(run_config, {key: known[key] for key in run_config if key in known})
        for name, allowed in NAMED:
            choices = allowed.__args__
            if name in values:
                require(values[name] in choices, name, values[name], f"one of {', '.join(choices)}")
        return cls(**values)
