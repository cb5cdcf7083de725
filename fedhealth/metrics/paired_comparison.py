"""Is it worth joining? One model against the one that a hospital would have alone, on the hospital's own test patients.

A paired bootstrap over the patients (Efron 1979, "Bootstrap methods: another look at the jackknife"): in every draw the same
patients are drawn anew for both models, and the interval is that of their difference. It says what other patients of the same
hospital might have shown, not what another training would.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.ranking import exact_auroc, weighted_auroc

MetricName = Literal["auroc", "brier"]
METRIC_NAMES: dict[MetricName, str] = {"auroc": "AUROC", "brier": "Brier score"}
DIGITS: dict[MetricName, int] = {"auroc": 2, "brier": 3}
"""What is told is rounded, and judged as it is told: more digits say more of single patients than of models."""
NUM_DRAWS = 2000
LEVEL = 0.95
COMPARISON_STREAM = 0x3E2D1C7
MOST_VALUES = 1_000_000
"""Patients times draws that are looked at together."""

Values = NDArray[np.floating]


@dataclass(frozen=True)
class PairedComparison:
    """A model's metric, that of the model alone, and their difference with its 95 % interval; all rounded."""

    metric: MetricName
    value: float
    alone: float
    difference: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """What follows: the interval leaves no doubt, or it does."""
        better, worse = (self.low > 0, self.high < 0) if self.metric == "auroc" else (self.high < 0, self.low > 0)
        return "worth it" if better else "yours alone is better" if worse else "no clear difference"


def choose_metric(labels: Values, fewest: int, same_order: bool = False) -> MetricName:
    """AUROC, if `fewest` patients are ill, and as many healthy; else, or if their order is the same, the Brier score."""
    ill = int((labels > 0.5).sum())
    return "brier" if same_order or min(ill, len(labels) - ill) < max(1, fewest) else "auroc"


def judge(risks: Values, alone: Values, labels: Values, metric: MetricName) -> PairedComparison:
    """The model that gave `risks` against the one that gave the risks `alone`, to the same patients (num_patients,)."""
    one, other = _measure(risks, labels, metric), _measure(alone, labels, metric)
    draws = _draw_differences(risks, alone, labels, metric)
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    told = (round(float(value), DIGITS[metric]) + 0.0 for value in (one, other, one - other, low, high))
    return PairedComparison(metric, *told)


def comparison_sentence(model: str, verdict: PairedComparison, alone: str = "yours alone") -> str:
    """The verdict in one line, such as `global model: AUROC 0.74, yours alone 0.67, ...: worth it`."""
    digits = DIGITS[verdict.metric]
    words = verdict.words.replace("yours alone", alone)
    return (
        f"{model} model: {METRIC_NAMES[verdict.metric]} {verdict.value:.{digits}f}, {alone} {verdict.alone:.{digits}f}, "
        f"difference {verdict.difference:+.{digits}f} [{verdict.low:.{digits}f}, {verdict.high:.{digits}f}]: {words}"
    )


def _measure(risks: Values, labels: Values, metric: MetricName) -> float:
    if metric == "brier":
        return float(((np.asarray(risks, np.float64) - labels) ** 2).mean())
    auroc = exact_auroc(risks, labels)
    if auroc is None:
        raise ValueError("an AUROC needs ill and healthy patients")
    return auroc


def _draw_differences(risks: Values, alone: Values, labels: Values, metric: MetricName) -> NDArray[np.float64]:
    """The difference in every draw (NUM_DRAWS,); NaN where a draw has no ill or no healthy patient."""
    num_patients, generator = len(labels), np.random.default_rng(COMPARISON_STREAM)
    size = max(1, MOST_VALUES // num_patients)
    losses = (np.asarray(risks, np.float64) - labels) ** 2 - (np.asarray(alone, np.float64) - labels) ** 2
    found = []
    for start in range(0, NUM_DRAWS, size):
        shares = np.full(num_patients, 1 / num_patients)
        weights = generator.multinomial(num_patients, shares, size=min(size, NUM_DRAWS - start)).astype(np.float64)
        if metric == "brier":
            found.append(weights @ losses / num_patients)
        else:
            found.append(weighted_auroc(risks, labels, weights) - weighted_auroc(alone, labels, weights))
    return np.concatenate(found)
