"""Permutation importance in many hospitals of one size at once, as `measure_layer_importance` of each."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.layer_importance import ROWS, Floats
from fedhealth.metrics.permutation_importance import MOST_ROWS, NUM_SHUFFLES, round_drop

MOST_PAIRS = 2048
"""Of an ill and a healthy patient in a hospital; with more, to sort is faster than to compare each pair."""
VALUES_AT_ONCE = 2**18
"""So that the shuffled values stay in the processor's cache."""
Rank = Callable[[Floats], Floats]
"""Sums of the first layer (..., num_patients, num_units) -> numbers (..., num_patients); changes the sums."""


def can_measure_many(num_ill: int, num_healthy: int, num_features: int) -> bool:
    """Whether hospitals of this size are measured faster together, and with the shuffles of each alone."""
    patients = num_ill + num_healthy
    return (
        num_ill * num_healthy <= MOST_PAIRS and patients <= ROWS and patients * num_features * NUM_SHUFFLES <= MOST_ROWS
    )


def measure_many_importance(
    parts: Sequence[Floats],
    bias: Floats,
    rank: Rank,
    labels: NDArray[np.float32],
    generators: Iterable[np.random.Generator],
) -> NDArray[np.float64]:
    """The AUROC drops (num_hospitals, num_features), rounded.

    `parts` are the features' (num_hospitals, num_patients, num_units), `labels` (num_hospitals, num_patients) with as many
    ill ones in each hospital, of both classes; a hospital's shuffles come from its generator.
    """
    hospitals, patients = labels.shape
    order, at_once = iter(generators), max(1, VALUES_AT_ONCE // (patients * NUM_SHUFFLES * len(bias)))
    places = np.tile(np.arange(patients), (NUM_SHUFFLES, 1))
    drops = np.empty((hospitals, NUM_SHUFFLES, len(parts)))
    for first in range(0, hospitals, at_once):
        rows = slice(first, min(first + at_once, hospitals))
        here = [part[rows] for part in parts]
        shuffles = np.empty((len(parts), rows.stop - first, NUM_SHUFFLES, patients), dtype=np.intp)
        for place in range(rows.stop - first):
            generator = next(order)
            for feature in range(len(parts)):
                shuffles[feature, place] = generator.permuted(places, axis=1)
        drops[rows] = _measure(here, bias, rank, labels[rows] > 0.5, shuffles)
    return np.array([[round_drop(drop) for drop in each] for each in drops.mean(axis=1)])


def _measure(
    parts: Sequence[Floats], bias: Floats, rank: Rank, ill: NDArray[np.bool_], shuffles: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The drops (num_hospitals, NUM_SHUFFLES, num_features) under these shuffles."""
    each = np.arange(len(ill))[:, np.newaxis, np.newaxis]
    classes = np.nonzero(ill)[1].reshape(len(ill), 1, -1), np.nonzero(~ill)[1].reshape(len(ill), 1, -1)
    drops = np.empty((len(ill), NUM_SHUFFLES, len(parts)))
    for feature, part in enumerate(parts):
        others = _add_up(bias, [other for other in parts if other is not part])[:, np.newaxis]
        if feature == 0:
            whole = _aurocs(rank(part[:, np.newaxis] + others), *classes)
        drops[..., feature] = whole - _aurocs(rank(part[each, shuffles[feature]] + others), *classes)
    return drops


def _add_up(bias: Floats, parts: Sequence[Floats]) -> Floats:
    total = np.zeros_like(parts[0]) + bias if parts else bias
    for part in parts:
        total += part
    return total


def _aurocs(scores: Floats, ill: NDArray[np.intp], healthy: NDArray[np.intp]) -> NDArray[np.float64]:
    """Shares (num_hospitals, num_shuffles) of (ill, healthy) pairs that are in order, ties counting half."""
    # Patients first, so that the comparisons are added up whole arrays at a time.
    of_ill, of_healthy = (
        np.ascontiguousarray(np.moveaxis(np.take_along_axis(scores, places, axis=-1), -1, 0))
        for places in (ill, healthy)
    )
    above = np.zeros(scores.shape[:-1], dtype=np.int32)
    for one in of_ill:
        above += np.sum(one > of_healthy, axis=0, dtype=np.int32) + np.sum(one >= of_healthy, axis=0, dtype=np.int32)
    shares: NDArray[np.float64] = above / 2 / (len(of_ill) * len(of_healthy))
    return shares
