"""What all hospitals of a federation must agree on, as flags and as Flower's run config."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from fedhealth.common.errors import UsageError
from fedhealth.config.checks import LONGEST_WAIT, read_values, require
from fedhealth.config.engine import ENGINE_KEYS
from fedhealth.config.privacy import check_privacy
from fedhealth.config.selection import asks_for_choice, check_choices

Scaling = Literal["federated", "reference", "local"]
ModelName = Literal["mlp", "logistic"]
Calibration = Literal["none", "temperature"]
Threshold = Literal["half", "youden"]
Personalise = Literal["none", "intercept", "finetune"]
StrategyName = Literal[
    "fedavg",
    "fedprox",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
    "multikrum",
    "bulyan",
    "qfedavg",
    "scaffold",
]

NAMED: tuple[tuple[str, Any], ...] = (
    ("model", ModelName),
    ("strategy", StrategyName),
    ("scaling", Scaling),
    ("calibrate", Calibration),
    ("threshold", Threshold),
    ("personalise", Personalise),
)
"""The settings that are one of some words."""


def fewest_hospitals(settings: "FederationSettings") -> int:
    """How many hospitals the strategy's proof asks for, with f that send false weights.

    Krum: n >= 2f + 3 (Blanchard et al. 2017, proposition 4.2); Bulyan: n >= 4f + 3 (El Mhamdi et al. 2018, section 4).
    """
    needs = {"krum": 2 * settings.malicious + 3, "multikrum": 2 * settings.malicious + 3}
    return {**needs, "bulyan": 4 * settings.malicious + 3}.get(settings.strategy, 1)


def share_of(hospitals: int, fraction: float) -> int:
    """How many hospitals a fraction of them is: at least one."""
    return max(1, round(fraction * hospitals))


@dataclass(frozen=True)
class FederationSettings:
    """What all hospitals must agree on: set at the server, sent to every client (the run config)."""

    hospitals: int = 4
    """How many hospitals take part; the server waits for them."""
    rounds: int = 20
    """Federated rounds: train in every hospital, average, evaluate."""
    local_epochs: int = 1
    """Passes over a hospital's training patients in one round."""
    batch_size: int = 64
    """Patients per gradient step."""
    learning_rate: float = 0.05
    """Step size of a hospital's stochastic gradient descent."""
    model: ModelName = "logistic"
    """logistic: logistic regression; mlp: one small hidden layer."""
    hidden: int = 32
    """Units in the hidden layer (mlp)."""
    weight_decay: float = 0.01
    """Pull of the weights (not of the biases) towards 0: the factor of half their squares in the loss."""
    strategy: StrategyName = "fedadagrad"
    """How the server combines the hospitals' weights."""
    server_learning_rate: float = 0.0
    """The server's own step (fedavgm, fedadam, fedyogi, fedadagrad, scaffold). 0: the strategy's usual."""
    server_momentum: float = 0.9
    """Share of the last rounds' direction that the server keeps (fedavgm, fedadam, fedyogi)."""
    proximal_mu: float = 0.1
    """How strongly a hospital is held near the global weights while it trains (fedprox)."""
    fairness: float = 0.2
    """How much more a hospital with a high loss counts (qfedavg's q); 0: all the same."""
    trim_share: float = 0.25
    """Share of the hospitals whose values are cut off at either end (fedtrimmedavg)."""
    malicious: int = 0
    """How many hospitals may send false weights without doing harm (krum, multikrum, bulyan)."""
    scaling: Scaling = "federated"
    """Whose means standardise: the federation's, fixed clinical constants, or each hospital's own (shows what it costs)."""
    missing_indicators: bool = True
    """Tell the model which values are missing: it predicts better, partly by what a doctor saw no need to measure."""
    class_weights: bool = False
    """Let the rarer of ill and healthy patients count more in training, by the federation's counts; risks are corrected."""
    test_share: float = 0.25
    """Share of each hospital's patients that is held out for evaluation and never trained on."""
    patience: int = 0
    """Stop after so many evaluated rounds without a lower loss on validation patients, and keep the best round; 0: off."""
    calibrate: Calibration = "none"
    """temperature: divide the final model's log odds by the one number that makes validation patients least surprising."""
    threshold: Threshold = "half"
    """The risk from which a patient is called ill. half: 0.5; youden: best sum of validation sensitivity and specificity."""
    validation: float = 0.2
    """Share of each hospital's training patients that is held out for such choices (without one, none is)."""
    fraction: float = 1.0
    """Share of the hospitals that train in a round, drawn anew for each (at least 1; all of them evaluate)."""
    evaluate_every: int = 1
    """Evaluate after every so many rounds, and always after the last; 0: only after the last."""
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
    subgroups: bool = True
    """After the rounds, count in each hospital who is called ill by sex and by age band; small groups stay untold."""
    importance: bool = True
    """After the rounds, ask every hospital what the final model goes by (AUROC lost when a feature is shuffled)."""
    personalise: Personalise = "intercept"
    """What each hospital makes of the final model, for itself only: nothing, a bias of its own, or a few epochs more."""
    seed: int = 0
    """Same seed, same weights, bit for bit (but for --dp-epsilon, whose noise nobody may foresee)."""
    dp_epsilon: float = 0.0
    """Differential privacy: how much all that leaves a hospital in this run may tell of any one patient. 0: no promise."""
    dp_delta: float = 1e-4
    """The chance that the promise of --dp-epsilon fails; it must be below one in the patients of the smallest hospital."""
    dp_clip: float = 2.0
    """Longest gradient (L2 norm) of one patient under differential privacy; a longer one is cut."""
    dp_noise: float = 0.0
    """Noise of each step in units of --dp-clip, instead of --dp-epsilon; each hospital then tells what epsilon that is."""

    def __post_init__(self) -> None:
        """Check every value; a wrong one is a `UsageError`."""
        require(self.hospitals >= 1, "hospitals", self.hospitals, "1 or more")
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(0 < self.fraction <= 1, "fraction", self.fraction, "a share above 0, at most 1")
        require(self.evaluate_every >= 0, "evaluate-every", self.evaluate_every, "0 or more")
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
        require(1 <= self.hidden <= 4096, "hidden", self.hidden, "a number from 1 to 4096")
        require(0 <= self.weight_decay <= 1, "weight-decay", self.weight_decay, "a number from 0 to 1")
        require(0 <= self.seed < 2**31, "seed", self.seed, "a whole number from 0 to 2147483647")
        self._check_strategy()
        check_choices(self.patience, self.validation, self.evaluate_every)
        for name, value in check_privacy(vars(self)).items():
            object.__setattr__(self, name, value)

    @property
    def private(self) -> bool:
        """Whether each patient is promised differential privacy."""
        return self.dp_epsilon > 0 or self.dp_noise > 0

    def _check_strategy(self) -> None:
        """Refuse what the strategy cannot do, with the reason, before anybody waits for anybody."""
        rate, momentum, fewest = self.server_learning_rate, self.server_momentum, fewest_hospitals(self)
        require(0 <= rate <= 100, "server-learning-rate", rate, "a number from 0 (the strategy's usual) to 100")
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
        if trained < fewest:
            raise UsageError(
                f"--strategy {self.strategy} with --malicious {self.malicious} needs at least {fewest} hospitals, "
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
        if unknown := sorted(set(run_config) - set(known) - ENGINE_KEYS):
            raise UsageError(f"run config: unknown key {unknown[0]}; known are {', '.join(known)}")
        values = read_values(run_config, {key: known[key] for key in run_config if key in known})
        for name, allowed in NAMED:
            choices = allowed.__args__
            if name in values:
                require(values[name] in choices, name, values[name], f"one of {', '.join(choices)}")
        return cls(**values)
