"""Typed records of a run: its hospitals, rounds, model selection and summary.

The rounds, the console, the dashboard, the run folder and the report use the same types. Each `msgspec.Struct` is JSON
on disk (`run_files.py`), where the pooled metrics are called `union`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from fedhealth.metrics.clinical import NetBenefit
from fedhealth.metrics.histogram import Metrics, ScoreHistogram, add_histograms, compute_metrics
from fedhealth.metrics.many_histograms import ManyHistograms, metrics_by_hospital
from fedhealth.metrics.odds_ratios import OddsRatios
from fedhealth.metrics.paired_comparison import MetricName, PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups

Histograms = Mapping[str, ScoreHistogram]
"""By hospital."""
Interval = tuple[float, float]
TOGETHER = "all hospitals together"
"""The name of the one member of a run with secure aggregation."""
V = TypeVar("V")


def name_each(values: Mapping[str, V], roster: Sequence[str]) -> dict[str, V]:
    """Values by hospital, with each hospital of the roster instead of all of them together."""
    if TOGETHER not in values:
        return dict(values)
    others = {name: value for name, value in values.items() if name != TOGETHER}
    return {**dict.fromkeys(roster, values[TOGETHER]), **others}


@dataclass(frozen=True, slots=True)
class Member:
    """A hospital of the federation, from its description."""

    node_id: int
    name: str
    source: str
    train_patients: int
    test_patients: int
    test_ill: int
    validation_patients: int = 0
    """Held out of the training patients for model selection."""
    validation_ill: int = 0
    epsilon: float | None = None
    """Of the (epsilon, delta) guarantee; `train_patients` is then a noisy count, and no other count is sent."""
    split_hash: str | None = field(default=None, compare=False)
    """The keyed hash of its test patients: the name of the key, a dash, the hash; None if it sent none."""

    @property
    def patients(self) -> int:
        """Number of all its patients."""
        return self.train_patients + self.validation_patients + self.test_patients

    @property
    def test_pairs(self) -> int:
        """Number of pairs of an ill and a healthy test patient, over which the AUROC is an average."""
        return self.test_ill * (self.test_patients - self.test_ill)

    def tests_same_patients(self, other: "Member") -> bool | None:
        """Whether this hospital's test patients are those of another run; None if that is not known."""
        if not self.split_hash or not other.split_hash:
            return None
        (key, _, ours), (other_key, _, theirs) = self.split_hash.partition("-"), other.split_hash.partition("-")
        return ours == theirs if key == other_key else None


class RoundRecord(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"round_num": "round", "pooled": "union"}
):
    """The record of one round: a line of history.jsonl.

    `hospitals` has the metrics of those that evaluated; `left_out` has the reason for every other, and for those whose
    weights are missing from this round's model.
    """

    round_num: int
    seconds: float
    """Of the training and the aggregation; of the evaluation only if it was asked for alone."""
    train_loss: float | None
    """None if no hospital sent one, as under differential privacy."""
    pooled: Metrics
    """Of the pooled test patients of all hospitals."""
    hospitals: Mapping[str, Metrics]
    left_out: dict[str, str]
    left_out_share: float
    """Share of the federation's training patients that were not used in this round's training."""
    clipped: dict[str, float]
    """Hospital -> L2 norm of its update before clipping, if it was longer than --max-update-norm."""
    asked: tuple[str, ...] = ()
    """The hospitals sampled for training with --fraction; empty if all train."""
    validation: Metrics | None = None
    """Of the pooled validation patients; None if there are none or no hospital evaluated."""


@dataclass(frozen=True)
class Evaluation:
    """The hospitals' evaluation of one model: the record of its round, and the histograms behind its metrics."""

    record: RoundRecord
    tested: Histograms
    validation: Histograms


def split_histograms(
    evaluated: Mapping[str, tuple[ScoreHistogram, ScoreHistogram | None]],
) -> tuple[Histograms, Histograms]:
    """The histograms of the test patients and those of the validation patients, each by hospital.

    In the order of names, since floating-point sums depend on the order and node ids differ between engines.
    """
    ordered = sorted(evaluated.items(), key=lambda entry: entry[0])
    tested = {name: histogram for name, (histogram, _) in ordered}
    return tested, {name: histogram for name, (_, histogram) in ordered if histogram}


def pooled_metrics(tested: Histograms, validation: Histograms) -> dict[str, Any]:
    """The fields of a `RoundRecord` that are computed from histograms."""
    return {
        "pooled": compute_metrics(pool(tested)),
        "hospitals": metrics_by_hospital(tested),
        "validation": compute_metrics(pool(validation)) if validation else None,
    }


def pool(histograms: Histograms) -> ScoreHistogram:
    """The histogram of all hospitals' patients."""
    return histograms.pooled() if isinstance(histograms, ManyHistograms) else add_histograms(histograms.values())


class PooledMetrics(Struct, frozen=True, rename={"pooled": "union"}):
    """Metrics of the pooled test patients and of the pooled validation patients."""

    pooled: Metrics
    validation: Metrics | None


class Rates(Struct, frozen=True):
    """The metrics that depend on the threshold; None where undefined."""

    accuracy: float | None
    sensitivity: float | None
    specificity: float | None


class RatesByHospital(Struct, frozen=True, rename={"pooled": "union"}):
    """Rates of the test patients, pooled and by hospital."""

    pooled: Rates
    hospitals: Mapping[str, Rates]


class ModelSelection(Struct, frozen=True, kw_only=True):
    """How the final model was chosen and corrected, and its evaluation."""

    best_round: int | None = None
    """The round of the final model's weights; None without --patience."""
    stopped: bool = False
    """Whether the run was stopped early."""
    class_weights: tuple[float, float] | None = None
    """Of a healthy and an ill patient in training; the final model is corrected for them."""
    temperature: float | None = None
    """The divisor of the log odds; None without --calibrate."""
    uncalibrated: PooledMetrics | None = None
    """The metrics before calibration."""
    threshold: float | None = None
    """A patient is predicted positive from this risk on; None without --threshold, which means 0.5."""
    at_threshold: RatesByHospital | None = None
    evaluation: RoundRecord


class ModelComparison(Struct, frozen=True):
    """The comparison of a model with a hospital's local-only model: a `PairedComparison` and its conclusion in words."""

    metric: MetricName
    value: float
    alone: float
    difference: float
    low: float
    high: float
    words: str

    @classmethod
    def of(cls, comparison: PairedComparison) -> "ModelComparison":
        """From a `PairedComparison`."""
        return cls(**asdict(comparison), words=comparison.words)


Setting = bool | int | float | str


class Start(Struct, frozen=True):
    """A start of a run, or one that resumed it."""

    done: int
    """Number of rounds that were complete before it."""
    link: str
    """The kind of connection to the hospitals."""


class RunDescription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """settings.json: what was run, on whose data, with which version."""

    version: str
    schema: str
    dataset: str
    hospitals: tuple[Member, ...]
    settings: dict[str, Setting]
    """As in Flower's run config."""
    left_out: dict[str, str] = msgspec.field(default_factory=dict)
    """Hospital -> why it could not take part; these are not in `hospitals`."""
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    """Start time, package versions and operating system; in files of earlier versions also the link of the first start."""
    starts: tuple[Start, ...] = ()
    """In the order of time; empty in files of earlier versions."""
    roster: tuple[str, ...] = ()
    """The hospitals of a run with secure aggregation, of which `hospitals` has only all together."""
    roster_digest: str = ""
    """The digits that this server and every hospital of the roster have shown."""

    @property
    def known_starts(self) -> tuple[Start, ...]:
        """The starts; of a file of an earlier version the first one, or none if it has no link."""
        link = self.environment.get("link")
        return self.starts or ((Start(0, link),) if link else ())


class RunSummary(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"comparisons": "verdicts"}):
    """summary.json: the metrics of the final model, pooled and by hospital, and the replies of the finalization."""

    dataset: str
    rounds: int
    seconds: float
    metrics: dict[str, float | None]
    intervals: dict[str, Interval | None]
    decision_curve: tuple[NetBenefit, ...]
    hospitals: Mapping[str, dict[str, int | float | None]]
    left_out: dict[str, str]
    importance: Importance | None = None
    comparisons: dict[str, dict[str, ModelComparison]] = msgspec.field(default_factory=dict)
    round_seconds: tuple[float, ...]
    subgroups: Subgroups | None = None
    choices: ModelSelection | None = None
    odds_ratios: OddsRatios | None = None
