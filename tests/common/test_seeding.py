"""Generators for many seeds draw what NumPy's own draw."""

import numpy as np
import pytest

from fedhealth.common.seeding import seeded_generators
from fedhealth.models.local_training import many_orders, shuffled_orders

ENDS = [0, 1, 7, 2**31, 2**32 - 1, 123456789]


@pytest.mark.parametrize(
    "start", [[], [0], [5, 0], [0xC403D, 2**31 - 1], [1, 2, 3], [2**32 - 1, 0, 2**32 - 1]], ids=str
)
def test_each_generator_is_numpys_with_the_same_seed(start: list[int]) -> None:
    for last, generator in zip(ENDS, seeded_generators(start, ENDS), strict=True):
        expected = np.random.default_rng([*start, last])
        assert generator.bit_generator.state == expected.bit_generator.state
        np.testing.assert_array_equal(generator.standard_normal(5), expected.standard_normal(5))
        np.testing.assert_array_equal(generator.permutation(75), expected.permutation(75))


def test_a_generator_begins_anew_whatever_was_drawn_before() -> None:
    """An odd number of 32-bit draws leaves half a word behind, which the next generator must not use."""
    for last, generator in zip(ENDS, seeded_generators([3], ENDS), strict=True):
        found = generator.integers(0, 2**32, size=3, dtype=np.uint32)
        expected = np.random.default_rng([3, last]).integers(0, 2**32, size=3, dtype=np.uint32)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("num_patients", "num_epochs"), [(1, 1), (2, 3), (75, 1), (301, 2)])
def test_many_orders_are_each_hospitals_shuffled_orders(num_patients: int, num_epochs: int) -> None:
    found = many_orders(num_patients, num_epochs, [9, 4], ENDS)
    expected = [shuffled_orders(num_patients, num_epochs, [9, 4, last]) for last in ENDS]
    assert found.dtype == expected[0].dtype
    np.testing.assert_array_equal(found, expected)
