"""Permutation importance of a model whose first layer adds up one part from each feature: the same statistic, much faster.

To shuffle a feature among the patients is to shuffle its part of the sums. Nothing is encoded or predicted anew, and the
AUROC follows from the sorted numbers of the healthy and of the ill.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.permutation_importance import MOST_ROWS, NUM_SHUFFLES, SHUFFLE_STREAM, round_drop

ROWS = 2048
"""Patients at once, so that their sums stay in the processor's cache."""
Floats = NDArray[np.float32]
Rank = Callable[[Floats], Floats]
"""Sums of the first layer (num_patients, num_units) -> numbers (num_patients,) that rise with the risk; changes the sums."""


def measure_layer_importance(
    parts: Sequence[Floats], bias: Floats, rank: Rank, labels: NDArray[np.float32], seed: Sequence[int]
) -> list[float]:
    """The AUROC drop of each feature, rounded, with the shuffles of `measure_importance`; both classes are needed.

    `parts` are the features' (num_patients, num_units), `bias` is (num_units,). Patients with equal values have equal sums,
    whatever their values were before, since the shuffled part is added last.
    """
    generator, ill = np.random.default_rng([SHUFFLE_STREAM, *seed]), labels > 0.5
    others = [_add_up(bias, [part for part in parts if part is not left]) for left in parts]
    whole = _find_auroc(_rank_shuffled(rank, parts[0], others[0], np.arange(len(labels))), ill)
    size, drops = max(1, MOST_ROWS // (len(labels) * len(parts))), np.zeros((NUM_SHUFFLES, len(parts)))
    for start in range(0, NUM_SHUFFLES, size):
        places = np.tile(np.arange(len(labels)), (min(size, NUM_SHUFFLES - start), 1))
        for feature, part in enumerate(parts):
            for row, order in enumerate(generator.permuted(places, axis=1), start=start):
                drops[row, feature] = whole - _find_auroc(_rank_shuffled(rank, part, others[feature], order), ill)
    return [round_drop(drop) for drop in drops.mean(axis=0)]


def _rank_shuffled(rank: Rank, part: Floats, others: Floats, order: NDArray[np.int64]) -> Floats:
    """The numbers of all patients if each has the part of the one in `order`."""
    scores = np.empty(len(order), dtype=np.float32)
    block = np.empty_like(part[:ROWS])
    for start in range(0, len(order), ROWS):
        rows = slice(start, start + ROWS)
        sums = np.take(part, order[rows], axis=0, out=block[: len(order) - start], mode="clip")
        sums += others[rows]
        scores[rows] = rank(sums)
    return scores


def _add_up(bias: Floats, parts: Sequence[Floats]) -> Floats:
    total = np.zeros_like(parts[0]) + bias if parts else bias
    for part in parts:
        total += part
    return total


def _find_auroc(scores: Floats, ill: NDArray[np.bool_]) -> float:
    """Share of (ill, healthy) pairs that are in order, ties counting half."""
    of_ill, of_healthy = np.sort(scores[ill]), np.sort(scores[~ill])
    below = (
        np.searchsorted(of_healthy, of_ill, side="left").sum() + np.searchsorted(of_healthy, of_ill, side="right").sum()
    )
    return float(below / 2 / (len(of_ill) * len(of_healthy)))
