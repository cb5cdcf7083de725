"""From a patient's row to the model's input: encoding, and a standardisation that needs no pooled rows.

Numbers stand first, in their units, NaN where missing; then one 0/1 column per code of each category; then, with missing
indicators, one 0/1 column per value that can be missing. Standardising gives numbers mean 0 and deviation 1; a missing
number becomes 0, the federation's mean. A 0/1 column becomes -1/+1, on the scale of the numbers, without any count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.schema import CATEGORIES, FEATURE_NAMES, FEATURES, NUMBERS

_NUMBER_PLACES = [FEATURE_NAMES.index(column.name) for column in NUMBERS]
_MISSABLE_PLACES = [place for place, column in enumerate(FEATURES) if column.can_be_missing]
NUM_NUMBERS = len(NUMBERS)
CODE_MEAN, CODE_STD = 0.5, 0.5
"""Standardise a 0/1 column to -1 and +1, for any patients."""
STANDARDISED_ZERO, STANDARDISED_ONE = (0 - CODE_MEAN) / CODE_STD, (1 - CODE_MEAN) / CODE_STD
SMALLEST_STD = 1e-6
"""In the number's unit. A smaller deviation is the rounding error of a mean, so the number does not vary."""


@dataclass(frozen=True)
class Standardisation:
    """Means and standard deviations of the numbers, in `schema.NUMBERS` order and their units; hashable."""

    means: tuple[float, ...]
    stds: tuple[float, ...]


@dataclass(frozen=True)
class Moments:
    """Per number: how many patients have it, and a sum (of values; in the second pass, of squared distances)."""

    counts: tuple[int, ...]
    sums: tuple[float, ...]


@dataclass(frozen=True)
class EncodingPlan:
    """Which feature each of the model's inputs is made of; places are positions among the features.

    The inputs are, in order: the numbers; 1 where a feature has a code, else 0; 1 where a feature is missing, else 0.
    """

    numbers: tuple[int, ...]
    code_places: tuple[int, ...]
    codes: tuple[int, ...]
    """The code at each of `code_places`; a missing or unknown code equals none of them."""
    missing: tuple[int, ...]


def encoding_plan(missing_indicators: bool) -> EncodingPlan:
    """The plan that `encode` and every exported model follow."""
    pairs = [(FEATURE_NAMES.index(column.name), code) for column in CATEGORIES for code in _codes(column.codes)]
    return EncodingPlan(
        numbers=tuple(_NUMBER_PLACES),
        code_places=tuple(place for place, _ in pairs),
        codes=tuple(code for _, code in pairs),
        missing=tuple(_MISSABLE_PLACES if missing_indicators else ()),
    )


def encoded_names(missing_indicators: bool) -> list[str]:
    """Names of the model's inputs, in order."""
    plan = encoding_plan(missing_indicators)
    numbers = [FEATURE_NAMES[place] for place in plan.numbers]
    codes = [f"{FEATURE_NAMES[place]}={code}" for place, code in zip(plan.code_places, plan.codes, strict=True)]
    return numbers + codes + [f"{FEATURE_NAMES[place]}=missing" for place in plan.missing]


def encode(features: NDArray[np.float64], missing_indicators: bool) -> NDArray[np.float32]:
    """`features` (num_patients, 13) -> (num_patients, len(encoded_names)); missing numbers stay NaN."""
    plan = encoding_plan(missing_indicators)
    codes = features[:, plan.code_places] == np.array(plan.codes)
    missing = np.isnan(features[:, plan.missing])
    return np.concatenate([features[:, plan.numbers], codes, missing], axis=1).astype(np.float32)


def _codes(codes: dict[int, str]) -> list[int]:
    """Codes that get a column of their own: all, or the second of two (the first is then its absence)."""
    return list(codes)[1:] if len(codes) == 2 else list(codes)


def standardise(encoded: NDArray[np.float32], standardisation: Standardisation) -> NDArray[np.float32]:
    """Model input of `encode`'s output, same shape: standardised numbers, 0 where missing, and -1/+1 for 0/1."""
    ready = encoded.copy()
    means = np.asarray(standardisation.means, dtype=np.float32)
    stds = np.asarray(standardisation.stds, dtype=np.float32)
    ready[:, :NUM_NUMBERS] = np.nan_to_num((encoded[:, :NUM_NUMBERS] - means) / stds, nan=0.0)
    ready[:, NUM_NUMBERS:] = (encoded[:, NUM_NUMBERS:] - CODE_MEAN) / CODE_STD
    return ready


def first_moments(features: NDArray[np.float64], min_count: int = 1) -> Moments:
    """Counts and sums of one hospital's numbers: the first pass. `features` is (num_patients, 13).

    A number that fewer than `min_count` patients have is reported as if nobody had it: count 0, sum 0.
    """
    return _moments(features[:, _NUMBER_PLACES], min_count)


def second_moments(features: NDArray[np.float64], means: Sequence[float], min_count: int = 1) -> Moments:
    """Counts and sums of squared distances from the federation's `means`: the second pass, of the same numbers."""
    return _moments((features[:, _NUMBER_PLACES] - np.asarray(means)) ** 2, min_count)


def _moments(values: NDArray[np.float64], min_count: int) -> Moments:
    counts = np.sum(~np.isnan(values), axis=0)
    enough = counts >= min_count
    sums = np.where(enough, np.nansum(values, axis=0), 0.0)
    return Moments(tuple(np.where(enough, counts, 0).tolist()), tuple(sums.tolist()))


def combine_means(moments: Sequence[Moments]) -> tuple[float, ...]:
    """Means over all hospitals; 0 where no patient has the value.

    Two passes (means, then squares about them) lose no digits to cancellation: Chan, Golub & LeVeque 1983, "Algorithms
    for computing the sample variance", section 1.
    """
    counts = np.sum([each.counts for each in moments], axis=0)
    sums = np.sum([each.sums for each in moments], axis=0)
    return tuple(np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0).tolist())


def combine_standardisation(means: Sequence[float], squares: Sequence[Moments]) -> Standardisation:
    """The federation's standardisation (population variance); a number that does not vary keeps a deviation of 1."""
    stds = np.sqrt(combine_means(squares))
    return Standardisation(tuple(means), tuple(np.where(stds >= SMALLEST_STD, stds, 1.0).tolist()))


def reference_standardisation() -> Standardisation:
    """The fixed clinical constants of `schema.py`."""
    return Standardisation(
        tuple(float(column.reference_mean) for column in NUMBERS),
        tuple(float(column.reference_std) for column in NUMBERS),
    )


def local_standardisation(features: NDArray[np.float64]) -> Standardisation:
    """One hospital's own, as if it were a federation of one."""
    means = combine_means([first_moments(features)])
    return combine_standardisation(means, [second_moments(features, means)])
