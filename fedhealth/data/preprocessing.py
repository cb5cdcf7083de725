"""From a patient's row to the model's input: encoding, and a standardisation that needs no pooled rows.

Numbers stand first, in their units, NaN where missing; then one 0/1 column per code of each category; then, with missing
indicators, one 0/1 column per value that can be missing. Standardising gives numbers mean 0 and deviation 1; a missing
number becomes 0, the federation's mean. A 0/1 column becomes -1/+1, on the scale of the numbers, without any count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.data.schema import Column, Schema

Float = TypeVar("Float", np.float32, np.float64)
CODE_MEAN, CODE_STD = 0.5, 0.5
"""Standardise a 0/1 column to -1 and +1, for any patients."""
STANDARDISED_ZERO, STANDARDISED_ONE = (0 - CODE_MEAN) / CODE_STD, (1 - CODE_MEAN) / CODE_STD
ROWS = 256
"""Rows that are worked on at a time, so that they stay in the processor's cache."""
SMALLEST_STD = 1e-6
"""In the number's unit. A smaller deviation is the rounding error of a mean, so the number does not vary."""


@dataclass(frozen=True)
class Standardisation:
    """Means and standard deviations of the numbers, in the order of `Schema.numbers` and their units; hashable."""

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


def encoding_plan(schema: Schema, missing_indicators: bool) -> EncodingPlan:
    """The plan that `encode` and every exported model follow."""
    pairs = [(schema.places[column.name], code) for column in schema.categories for code in _codes(column)]
    return EncodingPlan(
        numbers=tuple(schema.number_places),
        code_places=tuple(place for place, _ in pairs),
        codes=tuple(code for _, code in pairs),
        missing=tuple(schema.missable_places if missing_indicators else ()),
    )


def encoded_names(schema: Schema, missing_indicators: bool) -> list[str]:
    """Names of the model's inputs, in order."""
    plan, names = encoding_plan(schema, missing_indicators), schema.feature_names
    numbers = [names[place] for place in plan.numbers]
    codes = [f"{names[place]}={code}" for place, code in zip(plan.code_places, plan.codes, strict=True)]
    return numbers + codes + [f"{names[place]}=missing" for place in plan.missing]


def input_places(schema: Schema, missing_indicators: bool) -> list[int]:
    """The position of the feature from which each of the model's inputs comes."""
    plan = encoding_plan(schema, missing_indicators)
    return [*plan.numbers, *plan.code_places, *plan.missing]


def encode(
    schema: Schema,
    features: NDArray[np.float64],
    missing_indicators: bool,
    precision: type[Float] = np.float32,  # type: ignore[assignment]  # mypy knows no default of a type variable
) -> NDArray[Float]:
    """`features` (num_patients, num_features) -> (num_patients, len(encoded_names)); missing numbers stay NaN."""
    plan = encoding_plan(schema, missing_indicators)
    numbers, codes, size = len(plan.numbers), len(plan.codes), len(plan.missing)
    number_places, code_places, missing = (
        np.array(places, dtype=np.intp) for places in (plan.numbers, plan.code_places, plan.missing)
    )
    expected = np.array(plan.codes, dtype=np.float64)
    encoded = np.empty((len(features), numbers + codes + size), dtype=precision)
    for start in range(0, len(features), ROWS):
        block, rows = features[start : start + ROWS], encoded[start : start + ROWS]
        rows[:, :numbers] = block.take(number_places, axis=1)
        rows[:, numbers : numbers + codes] = block.take(code_places, axis=1) == expected
        rows[:, numbers + codes :] = np.isnan(block.take(missing, axis=1))
    return encoded


def _codes(column: Column) -> list[int]:
    """Codes that get a column of their own: all, or the second of two (the first is then its absence)."""
    codes = list(column.codes)
    return codes[1:] if len(codes) == 2 else codes


def standardise(encoded: NDArray[Float], standardisation: Standardisation) -> NDArray[Float]:
    """Model input of `encode`'s output, same shape: standardised numbers, 0 where missing, and -1/+1 for 0/1."""
    ready = encoded.copy()
    means = np.asarray(standardisation.means, dtype=encoded.dtype)
    stds = np.asarray(standardisation.stds, dtype=encoded.dtype)
    numbers = len(means)
    ready[:, :numbers] = np.nan_to_num((encoded[:, :numbers] - means) / stds, nan=0.0)
    ready[:, numbers:] = (encoded[:, numbers:] - CODE_MEAN) / CODE_STD
    return ready


def first_moments(schema: Schema, features: NDArray[np.float64], min_count: int = 1) -> Moments:
    """Counts and sums of one hospital's numbers: the first pass. `features` is (num_patients, num_features).

    A number that fewer than `min_count` patients have is reported as if nobody had it: count 0, sum 0.
    """
    return _as_moments(*sum_moments(schema, features, min_count))


def second_moments(
    schema: Schema, features: NDArray[np.float64], means: Sequence[float], min_count: int = 1
) -> Moments:
    """Counts and sums of squared distances from the federation's `means`: the second pass, of the same numbers."""
    return _as_moments(*sum_moments(schema, features, min_count, means))


def sum_moments(
    schema: Schema, features: NDArray[np.float64], min_count: int, means: Sequence[float] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts and sums (..., num_numbers) of `features` (..., num_patients, num_features); with `means` the second pass."""
    # One number's values next to each other, whatever the memory's order was: the order of a sum decides its last bit.
    values = np.ascontiguousarray(np.swapaxes(features[..., schema.number_places], -1, -2))
    if means is not None:
        values = (values - np.asarray(means)[:, np.newaxis]) ** 2
    counts = np.sum(~np.isnan(values), axis=-1)
    enough = counts >= min_count
    return np.where(enough, counts, 0), np.where(enough, np.nansum(values, axis=-1), 0.0)


def _as_moments(counts: NDArray[np.int64], sums: NDArray[np.float64]) -> Moments:
    return Moments(tuple(counts.tolist()), tuple(sums.tolist()))


def combine_means(moments: Sequence[Moments]) -> tuple[float, ...]:
    """Means over all hospitals; 0 where no patient has the value.

    Two passes (means, then squares about them) lose no digits to cancellation: Chan, Golub & LeVeque 1983, "Algorithms
    for computing the sample variance", section 1.
    """
    counts = np.sum([each.counts for each in moments], axis=0)
    # Exact, so that neither the order of the hospitals nor a sum under masks changes a bit.
    sums = np.array([math.fsum(sums) for sums in zip(*(each.sums for each in moments), strict=True)])
    return tuple(np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0).tolist())


def combine_standardisation(means: Sequence[float], squares: Sequence[Moments]) -> Standardisation:
    """The federation's standardisation (population variance); a number that does not vary keeps a deviation of 1."""
    stds = np.sqrt(combine_means(squares))
    return Standardisation(tuple(means), tuple(np.where(stds >= SMALLEST_STD, stds, 1.0).tolist()))


def reference_standardisation(schema: Schema) -> Standardisation:
    """The fixed constants of the schema.

    Raises
    ------
    UsageError
        A number of the schema has none.
    """
    constants = [(column.reference_mean, column.reference_std) for column in schema.numbers]
    known = [(mean, std) for mean, std in constants if mean is not None and std is not None]
    if len(known) < len(constants):
        lacking = next(column.name for column in schema.numbers if column.reference_mean is None)
        raise UsageError(
            f"--scaling reference: the schema has no reference-mean and reference-deviation of {lacking}; add them there"
        )
    return Standardisation(tuple(mean for mean, _ in known), tuple(std for _, std in known))


def local_standardisation(schema: Schema, features: NDArray[np.float64]) -> Standardisation:
    """One hospital's own, as if it were a federation of one."""
    means = combine_means([first_moments(schema, features)])
    return combine_standardisation(means, [second_moments(schema, features, means)])
