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
    add_shifted,
    join_reals,
    shift_back,
    split_reals,
    weigh,
    weighted_mean,
)

BELOW_LIMIT = float(np.nextafter(np.float32(LIMIT), np.float32(0)))
LARGEST_WEIGHT = float(np.nextafter(LIMIT, 0))
TYPES = (np.float16, np.float32, np.float64)
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


def weigh_plainly(values: np.ndarray, num_examples: int) -> np.ndarray:
    """`rint(values * SCALE) * num_examples`, as it is defined."""
    return np.rint(values.astype(np.float64) * SCALE).astype(np.int64) * num_examples


def all_magnitudes(dtype: type) -> np.ndarray:
    """Weights of any bits, zeros and subnormal ones among them, and the largest and smallest of each exponent."""
    width = np.dtype(dtype).itemsize
    drawn = np.random.default_rng(0).integers(0, 256, (200_000, width), np.uint8).view(dtype).ravel()
    powers = np.ldexp(dtype(1.0), np.arange(np.finfo(dtype).minexp - 60, 7)).astype(dtype)
    magnitudes = np.concatenate([powers, np.nextafter(powers, dtype(0)), np.nextafter(powers, dtype(LIMIT))])
    values = np.concatenate([drawn, magnitudes, -magnitudes, np.nextafter([LIMIT, -LIMIT], 0, dtype=dtype)])
    return values[np.abs(values) < LIMIT]


def halves() -> np.ndarray:
    """Weights just between two whole numbers of steps, and next to them: near 0, near the limit, and between."""
    steps = np.concatenate(
        [np.arange(1000), 2**39 - np.arange(1, 1000), np.random.default_rng(0).integers(2**39, size=9999)]
    )
    between = (steps + 0.5) / SCALE
    values = np.concatenate([between, np.nextafter(between, 0), np.nextafter(between, LIMIT)])
    return np.concatenate([values, -values])


WEIGHTS = {**{dtype.__name__: all_magnitudes(dtype) for dtype in TYPES}, "halves": halves()}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("patients", [1, 150, MOST_EXAMPLES - 1])
def test_a_weight_of_any_size_and_type_is_weighed_as_defined(kind: str, patients: int) -> None:
    np.testing.assert_array_equal(weigh(WEIGHTS[kind], patients), weigh_plainly(WEIGHTS[kind], patients))


@given(
    weights=st.lists(st.floats(-LARGEST_WEIGHT, LARGEST_WEIGHT), min_size=1, max_size=20),
    patients=st.lists(st.integers(1, (MOST_EXAMPLES - 1) // 4), min_size=1, max_size=4),
)
def test_shifted_sums_are_those_of_the_definition(weights: list[float], patients: list[int]) -> None:
    values, sums = np.array(weights), np.zeros(len(weights), np.int64)
    for count in patients:
        add_shifted(sums, values, count)
    np.testing.assert_array_equal(shift_back(sums, sum(patients)), weigh_plainly(values, sum(patients)))


@given(
    sums=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    patients=st.integers(1, MOST_EXAMPLES - 1),
)
def test_the_mean_is_the_whole_part_and_the_rest(sums: list[int], patients: int) -> None:
    expected = [(total // patients + total % patients / patients) / SCALE for total in sums]
    assert weighted_mean(np.array(sums), patients).tolist() == expected


@pytest.mark.parametrize("weight", [BELOW_LIMIT, -BELOW_LIMIT])
def test_the_largest_weight_of_the_most_patients_has_room(weight: float) -> None:
    total = weigh(np.array([weight]), MOST_EXAMPLES - 1)
    assert total.tolist() == [int(weight * SCALE) * (MOST_EXAMPLES - 1)]
    assert weighted_mean(total, MOST_EXAMPLES - 1).tolist() == [weight]
