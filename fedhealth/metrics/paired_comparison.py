"""Comparison of a model with a local one, trained on the hospital's own patients only, on its own test patients.

A paired bootstrap over the patients (Efron 1979, "Bootstrap methods: another look at the jackknife"): every draw has the same
patients for both models, and the interval is that of their difference. It says what other patients of the same hospital would
change, not what another training would.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.ranking import exact_auroc, weighted_auroc

MetricName = Literal["auroc", "brier"]
METRIC_NAMES: dict[MetricName, str] = {"auroc": "AUROC", "brier": "Brier score"}
DIGITS: dict[MetricName, int] = {"auroc": 2, "brier": 3}
"""Decimals of what is sent; conclusions are drawn from the rounded values. More digits depend on single patients."""
NUM_DRAWS = 2000
LEVEL = 0.95
COMPARISON_STREAM = 0x3E2D1C7
MOST_VALUES = 1_000_000
"""Patients times draws that are computed at once."""

Values = NDArray[np.floating]


@dataclass(frozen=True)
class PairedComparison:
    """A model's metric, that of the local model, and their difference with its 95 % interval; all rounded."""

    metric: MetricName
    value: float
    alone: float
    difference: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """The conclusion: which model is better, if the interval leaves out 0."""
        better, worse = (self.low > 0, self.high < 0) if self.metric == "auroc" else (self.high < 0, self.low > 0)
        return "better than the local model" if better else "local model is better" if worse else "no clear difference"


def choose_metric(labels: Values, fewest: int, by_error: bool = False) -> MetricName:
    """AUROC for at least `fewest` ill and as many healthy patients; else, or if the order says nothing, the Brier score."""
    ill = int((labels > 0.5).sum())
    return "brier" if by_error or min(ill, len(labels) - ill) < max(1, fewest) else "auroc"


def compare_paired(risks: Values, alone: Values, labels: Values, metric: MetricName) -> PairedComparison:
    """The model that predicted `risks` compared with the one that predicted `alone`, of the same patients (num_patients,)."""
    one, other = _measure(risks, labels, metric), _measure(alone, labels, metric)
    draws = _draw_differences(risks, alone, labels, metric)
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    rounded = (round(float(value), DIGITS[metric]) + 0.0 for value in (one, other, one - other, low, high))
    return PairedComparison(metric, *rounded)


def comparison_sentence(model: str, found: PairedComparison) -> str:
    """The comparison in one line: `global model: AUROC 0.74, local model 0.67, ...: better than the local model`."""
    digits = DIGITS[found.metric]
    sign = "+" if found.difference else ""  # of a difference that rounds to 0, the sign is not known
    return (
        f"{model} model: {METRIC_NAMES[found.metric]} {found.value:.{digits}f}, local model {found.alone:.{digits}f}, "
        f"difference {found.difference:{sign}.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]: {found.words}"
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
