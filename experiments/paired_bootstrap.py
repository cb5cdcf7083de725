"""Intervals of the difference between two methods: a paired bootstrap over patients.

Every draw resamples the patients of each hospital (Efron 1979), the same ones for both methods and in all repetitions; the
difference of a draw is the mean over repetitions. The interval reflects the sampling of patients of these hospitals, not the
variation between hospitals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.scoring import MEAN, POOLED, Tested, join
from fedhealth.metrics.ranking import weighted_auroc

NUM_DRAWS = 500
LEVEL = 0.95
BOOTSTRAP_STREAM = 0xB005
COMPARED = ("accuracy", "auroc", "brier")

Repetition = Mapping[str, Tested]
"""Hospital -> its test patients in one repetition."""


@dataclass(frozen=True)
class Difference:
    """A method's metric minus that of its reference, with a 95 % interval."""

    hospital: str
    metric: str
    difference: float
    low: float
    high: float


def compare(method: Sequence[Repetition], reference: Sequence[Repetition]) -> list[Difference]:
    """All differences between two methods with the same test patients in the same repetitions."""
    weights = draw_weights(method)
    names = [*method[0], *([MEAN, POOLED] if len(method[0]) > 1 else [])]
    found = []
    for name in names:
        for metric in COMPARED:
            pairs = [
                measure(ours, name, metric, weights) - measure(theirs, name, metric, weights)
                for ours, theirs in (both_ranked(*pair, name, metric) for pair in zip(method, reference, strict=True))
                if ours and name in (MEAN, POOLED, *ours)
            ]
            draws = mean_of_known(np.stack(pairs)) if pairs else np.array([np.nan])
            if not np.isnan(draws[0]):
                low, high = np.nanquantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
                found.append(Difference(name, metric, float(draws[0]), float(low), float(high)))
    return found


def both_ranked(ours: Repetition, theirs: Repetition, name: str, metric: str) -> tuple[Repetition, Repetition]:
    """The hospitals in which both have this metric: all, except where a model of patients of one class has no AUROC."""
    if metric != "auroc" or name == POOLED:
        return ours, theirs
    both = [each for each in ours if not (ours[each].trained_on_only or theirs[each].trained_on_only)]
    return {each: ours[each] for each in both}, {each: theirs[each] for each in both}


def draw_weights(repetitions: Sequence[Repetition]) -> dict[str, NDArray[np.float64]]:
    """Hospital -> how often each of its patients is drawn (1 + NUM_DRAWS, num_patients); draw 0 has every patient once."""
    generator = np.random.default_rng(BOOTSTRAP_STREAM)
    weights = {}
    for name in repetitions[0]:
        size = 1 + max(int(repetition[name].places.max()) for repetition in repetitions)
        draws = generator.multinomial(size, np.full(size, 1 / size), size=NUM_DRAWS)
        weights[name] = np.concatenate([np.ones((1, size)), draws.astype(np.float64)])
    return weights


def measure(
    repetition: Repetition, hospital: str, metric: str, weights: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The metric in every draw (1 + NUM_DRAWS,)."""
    if hospital == MEAN:
        return mean_of_known(np.stack([measure(repetition, name, metric, weights) for name in repetition]))
    names = list(repetition) if hospital == POOLED else [hospital]
    tested = join([repetition[name] for name in names])
    drawn = np.concatenate([weights[name][:, repetition[name].places] for name in names], axis=1)
    if metric == "auroc":
        return weighted_auroc(tested.risks, tested.labels, drawn)
    right = (tested.risks >= 0.5) == (tested.labels > 0.5)
    losses = right if metric == "accuracy" else (tested.risks - tested.labels) ** 2
    mean: NDArray[np.float64] = (drawn * losses).sum(axis=1) / np.maximum(drawn.sum(axis=1), 1)
    return mean


def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the first axis of the values that are not NaN; NaN, without a warning, where all are."""
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.nansum(values, axis=0) / (~np.isnan(values)).sum(axis=0)
    return mean
