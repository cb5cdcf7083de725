"""What happens in a run, as the server tells it: to the screen, to the run folder, to the link. Records only, no doing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.histogram import Metrics, ScoreHistogram, add_histograms, compute_metrics
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups


@dataclass(frozen=True)
class Waiting:
    """Not all hospitals are here, or not all who are have answered the question that comes before the rounds.

    `answered` names those who have, once they have said who they are.
    """

    here: int
    wanted: int
    seconds_left: float
    answered: Sequence[str] = ()


@dataclass(frozen=True)
class Member:
    """A hospital of the federation, as it described itself."""

    node_id: int
    name: str
    source: str
    train_patients: int
    test_patients: int
    test_ill: int
    validation_patients: int = 0
    """Held out of those to train on, for choices during the run."""
    validation_ill: int = 0
    epsilon: float | None = None
    """What its patients are promised under differential privacy; `train_patients` is then noisy, no other count told."""

    @property
    def patients(self) -> int:
        """All its patients."""
        return self.train_patients + self.validation_patients + self.test_patients

    @property
    def test_pairs(self) -> int:
        """Pairs of an ill and a healthy test patient: what an AUROC is a share of."""
        return self.test_ill * (self.test_patients - self.test_ill)


@dataclass(frozen=True)
class RunStarted:
    """All hospitals are ready; the rounds begin, or go on after round `done` of a run that was interrupted."""

    settings: FederationSettings
    members: Sequence[Member]
    dataset: str
    done: int = 0


@dataclass(frozen=True)
class Paused:
    """Too few hospitals trained in this round: it is finished when those who are missing have come back."""

    round_num: int
    trained: int
    needed: int
    missing: Mapping[str, str]
    """Hospital -> why it is missing."""
    seconds_left: float


@dataclass(frozen=True)
class Dropped:
    """A hospital is out of the run: it gave unsound answers once too often."""

    name: str
    reason: str


@dataclass(frozen=True)
class RoundRecord:
    """What one round was.

    `hospitals` holds those that evaluated; `left_out` says of every other, and of those whose weights are missing from this
    round's model, why.
    """

    round_num: int
    seconds: float
    train_loss: float
    union: Metrics
    hospitals: Mapping[str, Metrics]
    left_out: Mapping[str, str]
    left_out_share: float
    """Share of the federation's training patients that this round's weights have not seen."""
    clipped: Mapping[str, float] = field(default_factory=dict)
    """Hospital -> L2 norm of its step, where it was longer than --max-update-norm and was cut."""
    asked: Sequence[str] = ()
    """Who was asked to train, where that was not everybody (--fraction)."""
    histograms: Mapping[str, ScoreHistogram] = field(default_factory=dict, repr=False)
    """What each hospital sent; kept for the last round only."""
    validation: Metrics | None = None
    """Of the patients held out for choices, all together; none if nothing is chosen or nobody evaluated."""
    validation_histograms: Mapping[str, ScoreHistogram] = field(default_factory=dict, repr=False)
    """As `histograms`."""


@dataclass(frozen=True)
class Best:
    """The best round so far: the one with the least loss on the validation patients."""

    round_num: int
    weights: ArrayRecord
    losses: Mapping[str, float]
    """Hospital -> log loss (nats) summed over its validation patients."""
    rounds_since: int = 0
    """Evaluated rounds that came after it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that the server needs to go on after a whole round."""

    round_num: int
    weights: ArrayRecord
    standardisation: Standardisation | None
    strategy: Strategy
    """With all that it remembers from round to round."""
    members: Sequence[Member]
    strikes: Mapping[str, int]
    dropped: Mapping[str, str]
    best: Best | None = None
    """Kept with --patience only."""
    class_weights: tuple[float, float] | None = None
    """How much a healthy and an ill patient count in training, with --class-weights; the model of `weights` has it in it."""
    histograms: Mapping[str, ScoreHistogram] = field(default_factory=dict, repr=False)
    """What each hospital sent in this round: after the last one, all of the end's figures come from it."""
    validation_histograms: Mapping[str, ScoreHistogram] = field(default_factory=dict, repr=False)
    """The same of the patients held out for choices, if there are any."""


@dataclass(frozen=True)
class ResumeState:
    """What a run has behind it: its last checkpoint and all its rounds up to there."""

    checkpoint: Checkpoint
    rounds: Sequence[RoundRecord] = ()


@dataclass(frozen=True)
class ModelSelection:
    """How the final model was chosen and corrected, and its evaluation."""

    evaluation: RoundRecord
    best_round: int | None = None
    """Whose weights the final model has; none without --patience."""
    stopped: bool = False
    """Whether the run ended before its last round because nothing became better."""
    class_weights: tuple[float, float] | None = None
    """As in the checkpoint; the final model is corrected for it."""
    temperature: float | None = None
    """What the log odds were divided by; none without --calibrate."""
    uncalibrated: RoundRecord | None = None
    """The evaluation before that."""
    threshold: float | None = None
    """The risk from which a patient is called ill; none without --threshold, and then it is 0.5."""


@dataclass(frozen=True)
class RunFinished:
    """The run is over and every hospital has the final model."""

    settings: FederationSettings
    members: Sequence[Member]
    dataset: str
    weights: ArrayRecord
    standardisation: Standardisation | None
    rounds: Sequence[RoundRecord]
    seconds: float
    choices: ModelSelection | None = None
    """None where the final model is simply that of the last round."""
    subgroups: Subgroups | None = None
    """What was told by sex and age band, if it was asked for."""
    importance: Importance | None = None
    """What the final model goes by; None if nobody was asked."""
    verdicts: Mapping[str, Mapping[str, PairedComparison]] = field(default_factory=dict)
    """Hospital -> model (global, personal) -> what it is worth there, of the hospitals that wanted that told."""

    @property
    def final(self) -> RoundRecord:
        """The evaluation of the final model."""
        return self.choices.evaluation if self.choices else self.rounds[-1]


Event = Waiting | RunStarted | Paused | Dropped | RoundRecord | Checkpoint | RunFinished
OnEvent = Callable[[Event], None]


Histograms = Mapping[str, ScoreHistogram]
"""By hospital."""


def evaluation_fields(tested: Histograms, held: Histograms) -> dict[str, Any]:
    """The fields of a `RoundRecord` that follow from histograms of test patients and of those held out for choices.

    Always in the order of names: sums depend on the order in the last bit, and engines number their nodes as they like.
    """
    tested, held = dict(sorted(tested.items())), dict(sorted(held.items()))
    return {
        "union": compute_metrics(add_histograms(tested.values())),
        "hospitals": {name: compute_metrics(histogram) for name, histogram in tested.items()},
        "histograms": tested,
        "validation": compute_metrics(add_histograms(held.values())) if held else None,
        "validation_histograms": held,
    }
