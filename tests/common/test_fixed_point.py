"""Real numbers as whole numbers: exact, in any order, up to the bounds and not beyond."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.common.fixed_point import (
    LIMIT,
    MOST_EXAMPLES,
    REAL_LIMIT,
    SCALE,
    join_reals,
    split_reals,
    weigh,
    weighted_mean,
)

BELOW_LIMIT = float(np.nextafter(np.float32(LIMIT), np.float32(0)))
LARGEST_REAL = float(np.nextafter(REAL_LIMIT, 0))
reals = st.one_of(
    st.floats(-LARGEST_REAL, LARGEST_REAL),
    st.floats(-1e-3, 1e-3),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, -(2.0**-60), 2.0**-64, LARGEST_REAL, -LARGEST_REAL, 1 - 2.0**-53]),
)


def as_steps(value: float) -> Fraction:
    """The number to the nearest 2^-64 (ties to even)."""
    return Fraction(round(Fraction(value) * 2**64), 2**64)


@given(values=st.lists(reals, min_size=1, max_size=256), seed=st.integers(0, 9))
def test_a_sum_of_reals_is_the_nearest_float_to_the_exact_sum_in_any_order(values: list[float], seed: int) -> None:
    words = split_reals(values)
    shuffled = np.random.default_rng(seed).permutation(words)
    assert join_reals(shuffled.sum(axis=0, dtype=np.uint64)[None]) == [float(sum(map(as_steps, values)))]


@given(value=reals)
def test_a_real_alone_is_itself_to_the_nearest_step(value: float) -> None:
    (joined,) = join_reals(split_reals([value]))
    assert joined == float(as_steps(value))
    if abs(value) >= 2.0**-11:
        assert joined == value


def test_256_reals_just_below_the_limit_have_room() -> None:
    for value in (LARGEST_REAL, -LARGEST_REAL):
        words = np.tile(split_reals([value]), (256, 1)).sum(axis=0, dtype=np.uint64)
        assert join_reals(words[None]) == [float(256 * Fraction(value))]


@pytest.mark.parametrize("value", [REAL_LIMIT, -REAL_LIMIT, np.inf, -np.inf, np.nan])
def test_a_real_beyond_the_limit_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^a sum is not between -3\.60288e\+16 and 3\.60288e\+16$"):
        split_reals([1.0, value])


@given(
    weights=st.lists(st.floats(-BELOW_LIMIT, BELOW_LIMIT, width=32), min_size=1, max_size=20),
    counts=st.data(),
)
def test_the_mean_of_weights_is_within_half_a_step_of_the_exact_one(
    weights: list[float], counts: st.DataObject
) -> None:
    most = (MOST_EXAMPLES - 1) // len(weights)
    patients = counts.draw(st.lists(st.integers(1, most), min_size=len(weights), max_size=len(weights)))
    each = [weigh(np.array([weight], np.float32), count) for weight, count in zip(weights, patients, strict=True)]
    exact = sum(Fraction(weight) * count for weight, count in zip(weights, patients, strict=True)) / sum(patients)
    (mean,) = weighted_mean(np.sum(each, axis=0), sum(patients))
    assert abs(Fraction(float(mean)) - exact) <= Fraction(1, 2**33) + abs(exact) / 2**52


@pytest.mark.parametrize("weight", [BELOW_LIMIT, -BELOW_LIMIT])
def test_the_largest_weight_of_the_most_patients_has_room(weight: float) -> None:
    total = weigh(np.array([weight]), MOST_EXAMPLES - 1)
    assert total.tolist() == [int(weight * SCALE) * (MOST_EXAMPLES - 1)]
    assert weighted_mean(total, MOST_EXAMPLES - 1).tolist() == [weight]
