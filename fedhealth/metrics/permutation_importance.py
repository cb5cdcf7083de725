"""How much the final model goes by each feature: permutation importance, measured inside each hospital.

A feature's values are shuffled among the hospital's test patients, and the AUROC that this costs is its importance (Breiman
2001, "Random forests", section 10; Fisher, Rudin & Dominici 2019, "All models are wrong, but many are useful", section 3,
as a difference). Only these drops leave, one per feature, each the mean of many shuffles.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.schema import FEATURE_NAMES
from fedhealth.metrics.ranking import row_aurocs

NUM_SHUFFLES = 20
DIGITS = 3
"""A drop is told to a thousandth: shuffled anew, it would differ by more, and the rest could only tell of single patients."""
MOST_ROWS = 50_000
"""Rows that are predicted at once, so that a large hospital needs no more memory than it must."""
SHUFFLE_STREAM = 0x5F0FF

Predict = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""Features (num_patients, 13) -> risks (num_patients,)."""


@dataclass(frozen=True)
class Importance:
    """Feature -> AUROC drop, of all hospitals together and of each that told it; the others with the reason."""

    together: Mapping[str, float]
    hospitals: Mapping[str, Mapping[str, float]]
    not_told: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the names of the features; a `ValueError` if one is none."""
        if not {*self.together}.union(*self.hospitals.values()) <= {*FEATURE_NAMES}:
            raise ValueError("importance of something that is no feature")


def measure_importance(
    predict: Predict, features: NDArray[np.float64], labels: NDArray[np.float32], seed: Sequence[int]
) -> list[float]:
    """The AUROC drop of each of the 13 features, rounded; both classes must be there.

    A missing value is shuffled like any other: that it is missing goes with it, and the model may go by that.
    """
    generator = np.random.default_rng([SHUFFLE_STREAM, *seed])
    (whole,) = row_aurocs(predict(features)[np.newaxis], labels)
    size = max(1, MOST_ROWS // features.size)
    drops = []
    for start in range(0, NUM_SHUFFLES, size):
        rows = shuffle_each(features, min(size, NUM_SHUFFLES - start), generator)
        drops.append(whole - row_aurocs(predict(rows).reshape(-1, len(labels)), labels))
    means = np.concatenate(drops).reshape(NUM_SHUFFLES, -1).mean(axis=0)
    return [_told(drop) for drop in means]


def shuffle_each(features: NDArray[np.float64], times: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """All patients `times` x 13 times, one below the other, each time with the next feature shuffled."""
    copies = np.tile(features, (times, features.shape[1], 1, 1))
    for place in range(features.shape[1]):
        copies[:, place, :, place] = generator.permuted(copies[:, place, :, place], axis=1)
    return copies.reshape(-1, features.shape[1])


def combine_importance(
    drops: Mapping[str, Sequence[float]], pairs: Mapping[str, int], not_told: Mapping[str, str]
) -> Importance:
    """All hospitals together: the mean of their drops, weighted by `pairs` of an ill and a healthy test patient.

    An AUROC is a share of such pairs. So this mean is the drop in the share of all pairs within a hospital that are in order,
    as if all test patients lay in one place and were shuffled within their hospitals.
    """
    names = sorted(drops)
    if not names:
        return Importance({}, {}, not_told)
    weights = [pairs[name] for name in names]
    together = np.average([drops[name] for name in names], axis=0, weights=weights)
    by_feature = {name: dict(zip(FEATURE_NAMES, drops[name], strict=True)) for name in names}
    return Importance(dict(zip(FEATURE_NAMES, map(_told, together), strict=True)), by_feature, not_told)


def rank_features(drops: Mapping[str, float]) -> list[tuple[str, float]]:
    """Features with their drops, the largest first."""
    return sorted(drops.items(), key=lambda entry: -entry[1])


def _told(drop: float) -> float:
    """Rounded; never a minus before a zero."""
    return round(float(drop), DIGITS) + 0.0
