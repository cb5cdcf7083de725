"""Permutation importance of each feature for the final model, measured inside each hospital.

A feature's values are shuffled among the hospital's test patients; its importance is the drop in AUROC (Breiman 2001, "Random
forests", section 10; Fisher, Rudin & Dominici 2019, "All models are wrong, but many are useful", section 3, as a difference).
Only these drops leave the hospital, one per feature, each the mean of many shuffles.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedhealth.metrics.many_rows import ManyRows
from fedhealth.metrics.ranking import row_aurocs

NUM_SHUFFLES = 20
DIGITS = 3
"""Decimals of a drop that is sent: other shuffles change it by more than a thousandth, and more digits show few patients."""
MOST_ROWS = 50_000
"""Rows that are predicted at once: a limit on the memory that a large hospital needs."""
SHUFFLE_STREAM = 0x5F0FF

Predict = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""Features (num_patients, num_features) -> risks (num_patients,)."""


class Importance(Struct, frozen=True, rename={"missing": "not_told"}):
    """Feature -> AUROC drop, of all hospitals together and of each that sent it; of the others the reason."""

    together: Mapping[str, float]
    hospitals: Mapping[str, Mapping[str, float]]
    missing: Mapping[str, str]


def measure_importance(
    predict: Predict, features: NDArray[np.float64], labels: NDArray[np.float32], seed: Sequence[int]
) -> list[float]:
    """The AUROC drop of each feature, rounded; both classes are needed.

    A missing value is shuffled like any other, because the model may use the fact that it is missing.
    """
    generator = np.random.default_rng([SHUFFLE_STREAM, *seed])
    (whole,) = row_aurocs(predict(features)[np.newaxis], labels)
    size = max(1, MOST_ROWS // features.size)
    drops = []
    for start in range(0, NUM_SHUFFLES, size):
        rows = shuffle_each(features, min(size, NUM_SHUFFLES - start), generator)
        drops.append(whole - row_aurocs(predict(rows).reshape(-1, len(labels)), labels))
    means = np.concatenate(drops).reshape(NUM_SHUFFLES, -1).mean(axis=0)
    return [round_drop(drop) for drop in means]


def shuffle_each(features: NDArray[np.float64], times: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """All patients `times` x num_features times as rows, each time with the next feature shuffled.

    `features` are (num_patients, num_features).
    """
    copies = np.tile(features, (times, features.shape[1], 1, 1))
    for place in range(features.shape[1]):
        copies[:, place, :, place] = generator.permuted(copies[:, place, :, place], axis=1)
    return copies.reshape(-1, features.shape[1])


def combine_importance(
    features: Sequence[str], drops: Mapping[str, Sequence[float]], pairs: Mapping[str, int], missing: Mapping[str, str]
) -> Importance:
    """The hospitals' drops and their mean, weighted by each one's `pairs` of an ill and a healthy test patient.

    An AUROC is a share of such pairs. So the mean is the drop in the share of all pairs within a hospital that are in order,
    as for pooled test patients that are shuffled within their hospitals.
    """
    names = sorted(drops)
    each = np.array([drops[name] for name in names], dtype=np.float64)
    found = combine_many_importance(features, names, each, [pairs[name] for name in names], missing)
    return Importance(found.together, dict(found.hospitals), missing)


def combine_many_importance(
    features: Sequence[str],
    names: Sequence[str],
    drops: NDArray[np.float64],
    pairs: Sequence[int],
    missing: Mapping[str, str],
) -> Importance:
    """As `combine_importance`, of the hospitals with these names (in order): `drops` are (num_hospitals, num_features)."""
    if not names:
        return Importance({}, {}, missing)
    together = np.average(drops, axis=0, weights=pairs)
    columns = dict(zip(features, drops.T, strict=True))
    return Importance(
        dict(zip(features, map(round_drop, together), strict=True)), ManyRows(names, columns, dict), missing
    )


def rank_features(drops: Mapping[str, float]) -> list[tuple[str, float]]:
    """Features with their drops, the largest first."""
    return sorted(drops.items(), key=lambda entry: -entry[1])


def round_drop(drop: float) -> float:
    """To `DIGITS` decimals; adding 0.0 turns -0.0 into 0.0."""
    return round(float(drop), DIGITS) + 0.0
