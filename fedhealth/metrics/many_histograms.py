"""Histograms of predicted risk of very many hospitals: a bin for each patient instead of 400 counts for each hospital."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.risk import SMALLEST_RISK, USUAL_THRESHOLD
from fedhealth.metrics.bins import BIN_RISKS, NUM_BINS, TENTHS, find_bins, find_edge
from fedhealth.metrics.histogram import Metrics, ScoreHistogram, compute_metrics
from fedhealth.metrics.many_clinical import compute_many_clinical
from fedhealth.metrics.many_rows import Column, ManyRows

HOSPITALS_AT_ONCE = 64
CLINICAL_AT_ONCE = 4096
MOST_AT_ONCE = 2**31
"""Patients of whom the pairs can be counted in 64 bits."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The evaluated patients of some hospitals.

    Attributes
    ----------
    codes : (num_patients,) the bin of each patient, and `NUM_BINS` more if they are ill; hospital after hospital.
    sizes : (num_hospitals,) how many patients each has.
    log_losses, squared_errors : (num_hospitals,) each one's sums over patients.
    """

    codes: NDArray[np.uint16]
    sizes: NDArray[np.int64]
    log_losses: NDArray[np.float64]
    squared_errors: NDArray[np.float64]


def score_many(risks: NDArray[np.float32], labels: NDArray[np.float32]) -> Scores:
    """The scores of hospitals of one size: `risks` and `labels` are (num_hospitals, num_patients); see `score_histogram`."""
    ill, risk = labels > 0.5, risks.astype(np.float64)
    clipped = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return Scores(
        codes=(find_bins(risks) + NUM_BINS * ill).astype(np.uint16).reshape(-1),
        sizes=np.full(len(risks), risks.shape[1]),
        log_losses=-np.log(np.where(ill, clipped, 1 - clipped)).sum(axis=1),
        squared_errors=((risk - ill) ** 2).sum(axis=1),
    )


def join_scores(parts: Sequence[Scores], places: NDArray[np.intp]) -> Scores:
    """The hospitals of all `parts` in the order of their `places`, of which there is one for each hospital."""
    order, sizes = np.argsort(places, kind="stable"), np.concatenate([part.sizes for part in parts])
    starts = np.cumsum(sizes) - sizes
    ordered = sizes[order]
    shifts = np.repeat(starts[order] - (np.cumsum(ordered) - ordered), ordered)
    return Scores(
        codes=np.concatenate([part.codes for part in parts])[np.arange(len(shifts)) + shifts],
        sizes=ordered,
        log_losses=np.concatenate([part.log_losses for part in parts])[order],
        squared_errors=np.concatenate([part.squared_errors for part in parts])[order],
    )


class ManyHistograms(Mapping[str, ScoreHistogram]):
    """Hospital -> its histogram, made when it is asked for."""

    def __init__(self, names: Sequence[str], scores: Scores) -> None:
        self._names = names
        self._scores = scores
        self._ends = np.cumsum(scores.sizes)
        self._places: dict[str, int] = {}

    def __getitem__(self, name: str) -> ScoreHistogram:
        """The histogram of this hospital."""
        if not self._places:
            self._places = {each: place for place, each in enumerate(self._names)}
        return self._histogram(self._places[name])

    def __iter__(self) -> Iterator[str]:
        """The names, in their order."""
        return iter(self._names)

    def __len__(self) -> int:
        """Number of hospitals."""
        return len(self._names)

    def _histogram(self, place: int) -> ScoreHistogram:
        negatives, positives = self._count(place, place + 1)[0]
        scores = self._scores
        return ScoreHistogram(
            positives, negatives, *map(float, (scores.log_losses[place], scores.squared_errors[place]))
        )

    def _count(self, first: int, end: int) -> NDArray[np.int64]:
        """Counts of healthy and of ill patients by bin of these hospitals, (num_hospitals, 2, NUM_BINS)."""
        sizes = self._scores.sizes[first:end]
        start = int(self._ends[first] - sizes[0])
        codes = self._scores.codes[start : int(self._ends[end - 1])].astype(np.int64)
        codes += np.repeat(np.arange(len(sizes)) * (2 * NUM_BINS), sizes)
        return np.bincount(codes, minlength=len(sizes) * 2 * NUM_BINS).reshape(-1, 2, NUM_BINS)

    @property
    def are_sparse(self) -> bool:
        """Whether there are fewer patients than bins of all hospitals, of healthy and of ill patients."""
        return len(self._scores.codes) < 2 * NUM_BINS * len(self._names)

    def patients(self) -> Iterator[tuple[str, list[int], float, float]]:
        """Of each hospital its name, its patients' codes (see `Scores`), and the sums of log loss and squared error."""
        scores, ends = self._scores, self._ends.tolist()
        sums = zip(scores.log_losses.tolist(), scores.squared_errors.tolist(), strict=True)
        for name, start, end, (loss, error) in zip(self._names, [0, *ends[:-1]], ends, sums, strict=True):
            yield name, scores.codes[start:end].tolist(), loss, error

    def pooled(self) -> ScoreHistogram:
        """The histogram of all hospitals' patients; equal to `add_histograms` of them."""
        negatives, positives = np.bincount(self._scores.codes, minlength=2 * NUM_BINS).reshape(2, NUM_BINS)
        losses, errors = self._scores.log_losses.tolist(), self._scores.squared_errors.tolist()
        return ScoreHistogram(positives, negatives, sum(losses), sum(errors))

    def losses(self) -> dict[str, float]:
        """Each hospital's log loss (nats), summed over its patients."""
        return dict(zip(self._names, self._scores.log_losses.tolist(), strict=True))

    def metrics(self, threshold: float = USUAL_THRESHOLD) -> ManyRows[Metrics]:
        """Each hospital's metrics; equal to `compute_metrics` of its histogram."""
        parts = [
            compute_many_metrics(self._count(first, end), self._scores.log_losses[first:end], errors, threshold)
            for first, end, errors in self._blocks(HOSPITALS_AT_ONCE)
        ]
        return ManyRows(self._names, join_columns(parts), Metrics)

    def clinical(self) -> dict[str, Column]:
        """Each hospital's clinical metrics; see `compute_many_clinical`."""
        blocks = self._blocks(CLINICAL_AT_ONCE)
        parts = [compute_many_clinical(self._count(a, b), self._scores.log_losses[a:b]) for a, b, _ in blocks]
        return join_columns(parts)

    def _blocks(self, most: int) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
        """First hospital, end and sums of squared errors of blocks of at most so many."""
        for first in range(0, len(self._names), most):
            end = min(first + most, len(self._names))
            yield first, end, self._scores.squared_errors[first:end]


def metrics_by_hospital(histograms: Mapping[str, ScoreHistogram]) -> Mapping[str, Metrics]:
    """Each hospital's metrics; equal to `compute_metrics` of its histogram, and faster for many."""
    if isinstance(histograms, ManyHistograms):
        return histograms.metrics()
    found: list[Metrics] = []
    each = list(histograms.values())
    for first in range(0, len(each), HOSPITALS_AT_ONCE):
        part = each[first : first + HOSPITALS_AT_ONCE]
        counts = np.array([(histogram.negatives, histogram.positives) for histogram in part])
        if counts.sum() > MOST_AT_ONCE:
            found += map(compute_metrics, part)
            continue
        sums = [(histogram.log_loss, histogram.squared_error) for histogram in part]
        found += ManyRows([""] * len(part), compute_many_metrics(counts, *np.array(sums).T), Metrics).rows()
    return dict(zip(histograms, found, strict=True))


def in_columns(metrics: Mapping[str, Metrics]) -> ManyRows[Metrics]:
    """The same metrics, kept in columns."""
    each = list(metrics.values())
    columns: dict[str, Column] = {
        field.name: np.array([getattr(one, field.name) for one in each], int if field.type is int else float)
        for field in fields(Metrics)
    }
    return ManyRows(list(metrics), columns, Metrics)


def join_columns(parts: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    """The columns of hospitals that were computed in parts."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compute_many_metrics(
    counts: NDArray[np.int64],
    log_losses: NDArray[np.float64],
    squared_errors: NDArray[np.float64],
    threshold: float = USUAL_THRESHOLD,
) -> dict[str, Column]:
    """`compute_metrics` of many hospitals, from counts of healthy and of ill patients (num_hospitals, 2, NUM_BINS).

    Returns
    -------
    Field of `Metrics` -> values (num_hospitals,), in the order of the fields; NaN where one is undefined.
    """
    negatives, positives = counts[:, 0], counts[:, 1]
    place = find_edge(threshold)
    ill, healthy = positives.sum(axis=1), negatives.sum(axis=1)
    total, pairs = ill + healthy, ill * healthy
    true_positives, true_negatives = positives[:, place:].sum(axis=1), negatives[:, :place].sum(axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    half_shared = (positives * negatives).sum(axis=1) / 2
    gaps = np.add.reduceat((positives + negatives) * BIN_RISKS - positives, TENTHS, axis=1)
    return {
        "num_examples": total,
        "num_ill": ill,
        "loss": _ratios(log_losses, total),
        "auroc": _ratios((positives * below).sum(axis=1) + half_shared, pairs),
        "auroc_bound": _ratios(half_shared, pairs),
        "accuracy": _ratios(true_positives + true_negatives, total),
        "sensitivity": _ratios(true_positives, ill),
        "specificity": _ratios(true_negatives, healthy),
        "brier": _ratios(squared_errors, total),
        "ece": _ratios(np.abs(gaps).sum(axis=1), total),
    }


def _ratios(parts: NDArray[np.floating] | NDArray[np.integer], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each part by its whole; NaN where the whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wholes > 0, parts / wholes, np.nan)
