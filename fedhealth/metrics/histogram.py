"""Histograms of predicted risk: what a hospital sends, and the metrics of every round.

A hospital sends no score and no label: it sends the numbers of ill and of healthy patients in each bin of predicted risk
(`bins.py`), and two sums. Histograms add up, so the metrics of all patients together are those of the summed histogram:
accuracy, sensitivity, specificity, Brier score and loss exactly, AUROC up to a bound that is computed and kept beside it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedhealth.common.risk import SMALLEST_RISK, USUAL_THRESHOLD
from fedhealth.metrics.bins import BIN_RISKS, NUM_BINS, TENTHS, find_bins, find_edge

LARGEST_LOG_LOSS = -math.log(SMALLEST_RISK)
"""Of one patient, nats."""
MOST_PATIENTS = 10**9
"""In one bin; a larger count is refused (and this one is far from overflowing)."""


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Counts of patients by label and predicted risk, and the two sums that counts cannot give."""

    positives: NDArray[np.int64]  # (NUM_BINS,) ill patients
    negatives: NDArray[np.int64]  # (NUM_BINS,) healthy patients
    log_loss: float  # sum over patients, nats
    squared_error: float  # sum over patients

    @property
    def num_examples(self) -> int:
        """How many patients."""
        return int(self.positives.sum() + self.negatives.sum())


@dataclass(frozen=True)
class Metrics:
    """Metrics of some patients; None where they are undefined (no patient, or AUROC with one class only)."""

    num_examples: int
    num_ill: int
    loss: float | None
    auroc: float | None
    auroc_bound: float | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    brier: float | None
    ece: float | None


def score_histogram(risks: ArrayLike, labels: ArrayLike) -> ScoreHistogram:
    """Histogram of `risks` (num_patients,) in [0, 1] by `labels` (num_patients,) in {0, 1}."""
    given, known = np.asarray(risks), np.asarray(labels)
    ill = known > 0.5
    risk = given.astype(np.float64)
    if not np.all((risk >= 0) & (risk <= 1)):
        raise ValueError("a risk is not a number from 0 to 1")
    if not np.all((known == 0) | (known == 1)):
        raise ValueError("a label is neither 0 nor 1")
    bins = find_bins(given if given.dtype == np.float32 else risk)
    clipped = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return ScoreHistogram(
        positives=np.bincount(bins[ill], minlength=NUM_BINS),
        negatives=np.bincount(bins[~ill], minlength=NUM_BINS),
        log_loss=-float(np.log(np.where(ill, clipped, 1 - clipped)).sum()),
        squared_error=float(((risk - ill) ** 2).sum()),
    )


def add_histograms(histograms: Iterable[ScoreHistogram]) -> ScoreHistogram:
    """Histogram of all patients together: the sum."""
    positives, negatives = np.zeros((2, NUM_BINS), dtype=np.int64)
    losses, errors = [], []
    for each in histograms:  # one after the other, since very many are made only here
        positives += each.positives
        negatives += each.negatives
        losses.append(each.log_loss)
        errors.append(each.squared_error)
    return ScoreHistogram(positives, negatives, sum(losses), sum(errors))


def check_histogram(
    num_examples: int, positives: ArrayLike, negatives: ArrayLike, log_loss: float, squared_error: float
) -> ScoreHistogram:
    """The histogram of these numbers, as sent by a hospital or held by a file; a `ValueError` if they are no histogram."""
    histogram = ScoreHistogram(_check_bins(positives), _check_bins(negatives), log_loss, squared_error)
    if histogram.num_examples != num_examples:
        raise ValueError("the bins do not add up to num-examples")
    if not are_possible_sums(num_examples, log_loss, squared_error):
        raise ValueError("the sum of log loss or of squared error is out of range")
    return histogram


def are_possible_sums(num_examples: int, log_loss: float, squared_error: float) -> bool:
    """Whether so many patients can have these sums of log loss and of squared error."""
    return 0 <= log_loss <= LARGEST_LOG_LOSS * num_examples + 1e-6 and 0 <= squared_error <= num_examples


def _check_bins(values: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(values)
    if counts.shape != (NUM_BINS,):
        raise ValueError(f"a histogram must have {NUM_BINS} bins")
    if counts.dtype.kind != "i" or counts.min() < 0 or counts.max() > MOST_PATIENTS:
        raise ValueError("a bin is not a count of patients")
    return counts


def compute_metrics(histogram: ScoreHistogram, threshold: float = USUAL_THRESHOLD) -> Metrics:
    """All metrics of the patients in `histogram`; risks from `threshold` (an edge of bins) up are predicted positive."""
    place = find_edge(threshold)
    ill, healthy = int(histogram.positives.sum()), int(histogram.negatives.sum())
    true_positives = int(histogram.positives[place:].sum())
    true_negatives = int(histogram.negatives[:place].sum())
    auroc, bound = compute_auroc(histogram)
    return Metrics(
        num_examples=ill + healthy,
        num_ill=ill,
        loss=_ratio(histogram.log_loss, ill + healthy),
        auroc=auroc,
        auroc_bound=bound,
        accuracy=_ratio(true_positives + true_negatives, ill + healthy),
        sensitivity=_ratio(true_positives, ill),
        specificity=_ratio(true_negatives, healthy),
        brier=_ratio(histogram.squared_error, ill + healthy),
        ece=compute_calibration_error(histogram),
    )


def compute_auroc(histogram: ScoreHistogram) -> tuple[float | None, float | None]:
    """AUROC and the largest error that the bins can have caused; (None, None) if a class is missing.

    AUROC is the share of (ill, healthy) pairs in which the ill patient has the higher risk, ties counting half (Hanley
    & McNeil 1982, "The meaning and use of the area under a receiver operating characteristic curve"). Only pairs that
    share a bin can be wrong, each by half at most.
    """
    pairs = int(histogram.positives.sum()) * int(histogram.negatives.sum())
    if pairs == 0:
        return None, None
    healthy_below = np.cumsum(histogram.negatives) - histogram.negatives
    half_shared = (histogram.positives * histogram.negatives).sum() / 2
    return float(((histogram.positives * healthy_below).sum() + half_shared) / pairs), float(half_shared / pairs)


def compute_calibration_error(histogram: ScoreHistogram) -> float | None:
    """Expected calibration error over the tenths of risk (Guo et al. 2017, equation 3).

    Risks count as the middle of their bin, which changes the result by half a bin's width at most: 0.0025.
    """
    counts = histogram.positives + histogram.negatives
    gaps = np.add.reduceat(counts * BIN_RISKS - histogram.positives, TENTHS)
    return _ratio(float(np.abs(gaps).sum()), int(counts.sum()))


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
