"""Sums of weights over hospitals: exact, and the same in any order and division."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.models.weighted_sums import add_sums, find_too_large, sum_weights

EXAMPLES = 75


def draw(hospitals: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(np.float32) for shape in ((hospitals, 4, 1), (hospitals, 1))]


def test_two_hospitals_by_hand() -> None:
    one = sum_weights([np.array([[1.0], [2.0]], np.float32)], examples=3)
    other = sum_weights([np.array([[-0.5]], np.float32)], examples=2)
    total = add_sums([one, other])
    assert total is not None
    assert total.examples == 8
    np.testing.assert_array_equal(total.mean()[0], np.array([(3 + 6 - 1) / 8], np.float32))


@given(cuts=st.lists(st.integers(1, 39), max_size=6), backwards=st.booleans())
def test_any_division_into_parts_in_any_order_gives_the_same_bits(cuts: list[int], backwards: bool) -> None:
    weights = draw(40)
    edges = [0, *sorted(set(cuts)), 40]
    parts = [sum_weights([weight[start:end] for weight in weights], EXAMPLES) for start, end in pairwise(edges)]
    found, expected = add_sums(parts[::-1] if backwards else parts), sum_weights(weights, EXAMPLES)
    assert found is not None
    assert found.examples == expected.examples
    for one, other in zip(found.mean(), expected.mean(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_mean_is_that_of_float64_rounded() -> None:
    weights = draw(1000)
    for found, weight in zip(sum_weights(weights, EXAMPLES).mean(), weights, strict=True):
        np.testing.assert_allclose(found, weight.astype(np.float64).mean(axis=0), rtol=0, atol=2**-27)


def test_more_patients_than_64_bits_have_room_for_are_added_in_parts() -> None:
    large = sum_weights([np.full((1, 2), -127.99, np.float32)], examples=2**24 - 1)
    total = add_sums([large] * 1000)
    assert total is not None
    np.testing.assert_array_equal(total.mean()[0], np.full(2, -127.99, np.float32))


def test_nobody_has_no_sum() -> None:
    assert add_sums([]) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 128.0, -128.0])
def test_a_hospital_with_a_weight_that_has_no_room_is_found(value: float) -> None:
    weights = draw(3)
    weights[0][1, 2, 0] = value
    assert find_too_large(weights).tolist() == [False, True, False]
