"""Sums of weights over hospitals as whole numbers, which are the same in any order and in any division into parts."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.fixed_point import LIMIT, SCALE
from fedhealth.models.local_training import Weights

CARRY = 24
"""Bits of a sum's lower part, so that the upper parts of 2^39 sums can be added."""


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """Weights times patients, summed: upper and lower parts of whole numbers of 2^-32, and the number of patients."""

    upper: list[NDArray[np.int64]]
    lower: list[NDArray[np.int64]]
    examples: int

    def mean(self) -> Weights:
        """The mean weights of the patients."""
        parts = zip(self.upper, self.lower, strict=True)
        return [
            ((high * 2.0**CARRY + low) / self.examples / SCALE).astype(np.float32)
            for high, low in ((high + (low >> CARRY), low & (2**CARRY - 1)) for high, low in parts)
        ]


def find_too_large(weights: Weights) -> NDArray[np.bool_]:
    """Whether each hospital (num_hospitals,) has a weight that is no number or beyond `LIMIT`: (num_hospitals, ...)."""
    large = [~(np.abs(weight) < LIMIT).reshape(len(weight), -1).all(axis=1) for weight in weights]
    found: NDArray[np.bool_] = np.any(large, axis=0)
    return found


def sum_weights(weights: Weights, examples: int) -> WeightedSum:
    """The sum over hospitals of `weights` (num_hospitals, ...), each hospital with that many patients.

    All of them together must have fewer than `fixed_point.MOST_EXAMPLES`.
    """
    sums = [np.rint(weight.astype(np.float64) * SCALE).astype(np.int64).sum(axis=0) * examples for weight in weights]
    return WeightedSum(
        upper=[each >> CARRY for each in sums],
        lower=[each & (2**CARRY - 1) for each in sums],
        examples=examples * len(weights[0]),
    )


def add_sums(sums: Iterable[WeightedSum]) -> WeightedSum | None:
    """The sum over all their hospitals; None if there are none."""
    each = list(sums)
    if not each:
        return None
    return WeightedSum(
        upper=[np.sum(parts, axis=0) for parts in zip(*(one.upper for one in each), strict=True)],
        lower=[np.sum(parts, axis=0) for parts in zip(*(one.lower for one in each), strict=True)],
        examples=sum(one.examples for one in each),
    )
