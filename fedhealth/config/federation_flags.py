"""The settings of a federation as flags; `federation` checks them together.

A class `...Flags` is a group of `--help`, a field's docstring is its flag's help text. Each group starts with what most
people need.
"""

from dataclasses import dataclass
from typing import Literal

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
    "newton",
]


@dataclass(frozen=True)
class RunFlags:
    """How long, how fast, and by which algorithm the hospitals train."""

    hospitals: int = 4
    """How many hospitals take part; training starts when all of them have joined."""
    rounds: int = 30
    """Federated rounds: every hospital trains, the server combines the weights, every hospital evaluates them (newton ends
    earlier, at the optimum)."""
    strategy: StrategyName = "fedavg"
    """How the server combines the hospitals' weights; newton: exact logistic regression with odds ratios."""
    seed: int = 0
    """Same seed, same weights, bit for bit (except under differential privacy, whose noise cannot be repeated)."""
    test_share: float = 0.25
    """Share of each hospital's patients that is held out for evaluation and never trained on."""
    learning_rate: float = 0.0
    """Step size of the gradient descent in a hospital. 0: the usual one (0.15; 0.05 for fedadam, fedyogi, fedadagrad)."""
    local_epochs: int = 1
    """Passes over a hospital's training patients in one round."""
    batch_size: int = 64
    """Patients per gradient step."""
    feasibility: bool = False
    """Train nothing: ask each hospital how many patients lack each value, and print who lacks what (docs/schemas.md)."""
    server_learning_rate: float = 0.0
    """Rarely needed. Step size of the server (fedavgm, fedadam, fedyogi, fedadagrad, scaffold). 0: the usual one."""
    server_momentum: float = 0.9
    """Rarely needed. Momentum of the server's steps (fedavgm, fedadam, fedyogi)."""
    proximal_mu: float = 0.1
    """Rarely needed. Weight of the proximal term that keeps a hospital near the global weights (fedprox)."""
    fairness: float = 0.2
    """Rarely needed. q of qfedavg: how much more a hospital with a high loss counts; 0: all count alike."""
    fraction: float = 1.0
    """Rarely needed. Share of the hospitals that train in a round, drawn anew each time; all of them evaluate."""
    evaluate_every: int = 1
    """Rarely needed. Evaluate after every Nth round and after the last; 0: after the last only."""


@dataclass(frozen=True)
class ModelFlags:
    """The model, its inputs, and what each hospital derives from it for its own use."""

    model: ModelName = "logistic"
    """logistic: logistic regression; mlp: a network with one hidden layer."""
    personalise: Personalise = "intercept"
    """What each hospital fits for its own use after the run: nothing, an intercept, or five more epochs (finetune)."""
    missing_indicators: bool = True
    """One more input per column: whether the value is missing. Improves predictions where tests are ordered on suspicion."""
    intercept_prior: float = 1.0
    """Rarely needed. newton with --personalise intercept: the weight, in patients, of the prior that a hospital's intercept
    is the common one; 0: none, so that the intercepts are those of a dummy variable per hospital."""
    class_weights: bool = False
    """Weight patients so that both classes count equally in training; the predicted risks are corrected afterwards."""
    hidden: int = 32
    """Rarely needed. Units in the hidden layer (mlp)."""
    weight_decay: float = 0.01
    """Rarely needed. L2 penalty: the factor of half the sum of squared weights (not biases) in the loss."""
    scaling: Scaling = "federated"
    """Rarely needed. Means and deviations that standardise the inputs: over all hospitals, published, or each hospital's."""
    importance: bool = True
    """Rarely needed. After the rounds, measure permutation importance: the AUROC lost when a feature is shuffled."""


@dataclass(frozen=True)
class RobustnessFlags:
    """What happens when hospitals are absent, slow, or send wrong weights."""

    min_hospitals: int = 2
    """A run and each of its rounds need so many hospitals (or all, if there are fewer); a robust strategy may need more."""
    round_timeout: float = 3600.0
    """Seconds that the server waits for a hospital's reply before the round goes on without it."""
    strikes: int = 3
    """Rarely needed. Invalid replies (wrong shapes or counts, not finite) after which a hospital is dropped."""
    max_update_norm: float = 0.0
    """Rarely needed. Largest L2 norm of a hospital's update; a longer one is scaled down. 0: no limit."""
    trim_share: float = 0.25
    """Rarely needed. Share of the hospitals whose values are cut off at either end (fedtrimmedavg)."""
    malicious: int = 0
    """Rarely needed. How many hospitals may send false weights without harm (krum, multikrum, bulyan)."""


@dataclass(frozen=True)
class ModelSelectionFlags:
    """Choices that are made on validation patients, who are neither trained nor tested on. By default there are none."""

    patience: int = 0
    """Early stopping: end after this many evaluated rounds without a lower validation loss, keep the best; 0: off."""
    calibrate: Calibration = "none"
    """temperature: divide the final model's log odds by the number that minimises the validation loss."""
    threshold: Threshold = "half"
    """The risk from which a patient is predicted positive. half: 0.5; youden: best validation sensitivity + specificity."""
    validation: float = 0.2
    """Rarely needed. Share of each hospital's training patients that is held out if any of these choices is on."""


@dataclass(frozen=True)
class PrivacyFlags:
    """What the results may disclose about patients."""

    dp_epsilon: float = 0.0
    """Differential privacy: the epsilon that each patient is guaranteed in this run. 0: no guarantee."""
    secure_aggregation: bool = False
    """The server receives masked numbers and can read only their sums over all hospitals (docs/secure-aggregation.md)."""
    min_count: int = 5
    """A hospital does not send the count and sum of a measurement that fewer than this many of its patients have."""
    subgroups: bool = True
    """After the rounds, report results by the schema's subgroups, such as sex; small groups are suppressed."""
    dp_delta: float = 1e-4
    """Rarely needed. The delta of the guarantee; it must be below 1 / (patients of the smallest hospital)."""
    dp_clip: float = 2.0
    """Rarely needed. Largest L2 norm of one patient's gradient under differential privacy; a longer one is scaled down."""
    dp_noise: float = 0.0
    """Rarely needed. Noise multiplier, instead of --dp-epsilon; each hospital then reports its epsilon."""
