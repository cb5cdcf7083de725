"""The record of a run, typed: its hospitals, what each round was, how the final model was chosen, how the run ended.

The same types go from the rounds to the screen, to the live page, to the run folder and to the report. What is a
`msgspec.Struct` here is JSON on the disk (`run_files.py`), where the pooled metrics are called `union`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from msgspec import Struct

from fedhealth.metrics.clinical import NetBenefit
from fedhealth.metrics.histogram import Metrics, ScoreHistogram, add_histograms, compute_metrics
from fedhealth.metrics.paired_comparison import MetricName, PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups

Histograms = Mapping[str, ScoreHistogram]
"""By hospital."""
Interval = tuple[float, float]


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
    """Taken from those to train on, for model selection."""
    validation_ill: int = 0
    epsilon: float | None = None
    """Of the (epsilon, delta) guarantee for its patients; `train_patients` then carries noise, and no other count is sent."""

    @property
    def patients(self) -> int:
        """All its patients."""
        return self.train_patients + self.validation_patients + self.test_patients

    @property
    def test_pairs(self) -> int:
        """Pairs of an ill and a healthy test patient: what an AUROC is a share of."""
        return self.test_ill * (self.test_patients - self.test_ill)


class RoundRecord(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"round_num": "round", "pooled": "union"}
):
    """What one round was: a line of history.jsonl.

    `hospitals` holds those that evaluated; `left_out` gives the reason for every other, and for those whose weights are
    missing from this round's model.
    """

    round_num: int
    seconds: float
    train_loss: float | None
    """None where no hospital sent one, as under differential privacy."""
    pooled: Metrics
    """Of all tested patients together."""
    hospitals: dict[str, Metrics]
    left_out: dict[str, str]
    left_out_share: float
    """Share of the federation's training patients that this round's weights have not seen."""
    clipped: dict[str, float]
    """Hospital -> L2 norm of its update, where it was longer than --max-update-norm and was clipped."""
    asked: tuple[str, ...] = ()
    """Who was asked to train, where that was not everybody (--fraction)."""
    validation: Metrics | None = None
    """Of the validation patients of all hospitals; none if nothing is selected or nobody evaluated."""


@dataclass(frozen=True)
class Evaluation:
    """The hospitals' evaluation of one model: the record of its round, and the histograms that its metrics come from."""

    record: RoundRecord
    tested: Histograms
    validation: Histograms


def split_histograms(
    evaluated: Mapping[str, tuple[ScoreHistogram, ScoreHistogram | None]],
) -> tuple[Histograms, Histograms]:
    """The histograms of the tested patients and those of the validation patients, each by hospital.

    Always in the order of names: sums depend on the order in the last bit, and engines number their nodes as they like.
    """
    ordered = sorted(evaluated.items(), key=lambda entry: entry[0])
    tested = {name: histogram for name, (histogram, _) in ordered}
    return tested, {name: histogram for name, (_, histogram) in ordered if histogram}


def pooled_metrics(tested: Histograms, validation: Histograms) -> dict[str, Any]:
    """The fields of a `RoundRecord` that follow from histograms."""
    return {
        "pooled": compute_metrics(add_histograms(tested.values())),
        "hospitals": {name: compute_metrics(histogram) for name, histogram in tested.items()},
        "validation": compute_metrics(add_histograms(validation.values())) if validation else None,
    }


class PooledMetrics(Struct, frozen=True, rename={"pooled": "union"}):
    """Of the tested patients and of the validation patients, each of all hospitals together."""

    pooled: Metrics
    validation: Metrics | None


class Rates(Struct, frozen=True):
    """What depends on the threshold; None where undefined."""

    accuracy: float | None
    sensitivity: float | None
    specificity: float | None


class RatesByHospital(Struct, frozen=True, rename={"pooled": "union"}):
    """Of the tested patients, all together and by hospital."""

    pooled: Rates
    hospitals: dict[str, Rates]


class ModelSelection(Struct, frozen=True, kw_only=True):
    """How the final model was chosen and corrected, and its evaluation."""

    best_round: int | None = None
    """Whose weights the final model has; none without --patience."""
    stopped: bool = False
    """Whether the run ended before its last round because nothing became better."""
    class_weights: tuple[float, float] | None = None
    """Of a healthy and an ill patient in training; the final model is corrected for them."""
    temperature: float | None = None
    """What the log odds were divided by; none without --calibrate."""
    uncalibrated: PooledMetrics | None = None
    """The metrics before that."""
    threshold: float | None = None
    """The risk from which a patient is predicted positive; none without --threshold, and then it is 0.5."""
    at_threshold: RatesByHospital | None = None
    evaluation: RoundRecord


class Verdict(Struct, frozen=True):
    """What a model is worth to a hospital: a `PairedComparison` and what follows from it, in words."""

    metric: MetricName
    value: float
    alone: float
    difference: float
    low: float
    high: float
    words: str

    @classmethod
    def of(cls, comparison: PairedComparison) -> "Verdict":
        """With the words that the comparison has."""
        return cls(**asdict(comparison), words=comparison.words)


Setting = bool | int | float | str


class RunDescription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """settings.json: what was run, on whose data, with which version."""

    version: str
    schema: str
    dataset: str
    hospitals: tuple[Member, ...]
    settings: dict[str, Setting]
    """As in Flower's run config."""
    left_out: dict[str, str] = msgspec.field(default_factory=dict)
    """Hospital -> why it could take no part; none of them is one of `hospitals`."""
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    """When and with what the server ran, and how the hospitals reached it."""


class RunSummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """summary.json: the metrics of the final model, pooled and by hospital, and what was asked of it."""

    dataset: str
    rounds: int
    seconds: float
    metrics: dict[str, float | None]
    intervals: dict[str, Interval | None]
    decision_curve: tuple[NetBenefit, ...]
    hospitals: dict[str, dict[str, int | float | None]]
    left_out: dict[str, str]
    importance: Importance | None = None
    verdicts: dict[str, dict[str, Verdict]] = msgspec.field(default_factory=dict)
    round_seconds: tuple[float, ...]
    subgroups: Subgroups | None = None
    choices: ModelSelection | None = None
