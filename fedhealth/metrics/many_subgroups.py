"""Outcomes by subgroup in many hospitals of one size at once: `count_subgroups` of each."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.schema import Schema
from fedhealth.metrics.many_rows import Column, ManyRows
from fedhealth.metrics.subgroups import (
    THRESHOLD,
    Disclosed,
    Outcomes,
    find_divisions,
    find_groups,
    suppress_small_cells,
)

SUPPRESSED = -1
"""Instead of the counts of a group that a hospital does not disclose."""


def count_many_subgroups(
    schema: Schema,
    features: NDArray[np.float64],
    labels: NDArray[np.floating],
    risks: NDArray[np.floating],
    least: int,
) -> dict[str, NDArray[np.int64]]:
    """Group -> the four counts of `Outcomes` of each hospital (num_hospitals, 4), `SUPPRESSED` if it does not disclose it.

    Of the tested patients come `features` (num_hospitals, num_patients, num_features), `labels` and `risks`, both
    (num_hospitals, num_patients).
    """
    found: dict[str, NDArray[np.int64]] = {}
    places, ill, positive = find_groups(schema, features), labels > 0.5, risks >= THRESHOLD
    outcomes = np.where(positive, np.where(ill, 0, 1), np.where(ill, 3, 2))
    for division, groups in find_divisions(schema).items():
        shape = len(labels), len(groups), 4
        codes = places[division] * 4 + outcomes + np.arange(len(labels))[:, np.newaxis] * (4 * len(groups))
        counts = np.bincount(codes.ravel(), minlength=int(np.prod(shape))).reshape(shape)
        sizes, which = np.unique(counts.sum(axis=2), axis=0, return_inverse=True)
        kept = np.array([suppress_small_cells(each, least) for each in sizes.tolist()])[which.ravel()]
        counts[~kept] = SUPPRESSED
        found |= {group: counts[:, place] for place, group in enumerate(groups)}
    return found


def disclosed_rows(names: Sequence[str], counts: Mapping[str, Column]) -> ManyRows[Disclosed]:
    """Hospital -> the outcomes that it discloses, from the counts of `count_many_subgroups`."""
    return ManyRows(names, counts, _disclosed)


def _disclosed(**counts: Sequence[int]) -> Disclosed:
    return {group: Outcomes(*each) for group, each in counts.items() if each[0] != SUPPRESSED}
