"""Values inside the valid range that may be codes of a missing value."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.data.sources.heart import HEART
from fedhealth.data.suspect_values import find_suspect_values, find_suspects, is_far

RATES = np.arange(110.0, 190.0, 2)
"""40 heart rates with mean 149 and deviation 23."""


def with_code(code: float, count: int) -> np.ndarray:
    return np.concatenate([RATES[count:], np.full(count, code)])


def test_a_usual_code_that_many_share_is_suspect() -> None:
    assert find_suspects(with_code(99.0, 6)) == [(99.0, 6)]
    assert find_suspects(with_code(77.0, 3)) == [(77.0, 3)]


def test_any_other_value_must_be_farther_away() -> None:
    assert find_suspects(with_code(96.0, 6)) == []
    assert find_suspects(with_code(40.0, 6)) == [(40.0, 6)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_value_that_few_share_is_not(count: int) -> None:
    assert find_suspects(with_code(99.0, count)) == []


def test_a_small_share_is_not() -> None:
    assert find_suspects(np.concatenate([np.tile(RATES, 3), np.full(3, 99.0)])) == []


def test_a_common_value_near_the_others_is_not() -> None:
    assert find_suspects(np.concatenate([RATES, np.full(30, 150.0)])) == []


def test_no_depression_is_a_measurement_and_missing_values_do_not_count() -> None:
    assert find_suspects(np.concatenate([np.full(30, 0.0), [3.0, 3.1, 3.2]])) == []
    assert find_suspects(np.concatenate([with_code(99.0, 6), np.full(100, np.nan)])) == [(99.0, 6)]


@pytest.mark.parametrize("column", [[], [5.0], [99.0] * 40, [99.0, 99.0, 99.0, 120.0, 120.0, 120.0]])
def test_a_column_with_too_little_to_compare_with_is_not_judged(column: list[float]) -> None:
    assert find_suspects(np.array(column)) == []


@given(st.lists(st.sampled_from([-0.0, 0.0, 9.0, 99.0, 120.5, 121.0, 130.0, float("nan")]), max_size=60))
def test_suspects_are_those_that_counting_each_value_finds(cells: list[float]) -> None:
    known = np.array([value for value in cells if not np.isnan(value)])
    least = max(3, 0.05 * len(known))
    expected = [
        (value, cells.count(value))
        for value in sorted(set(known.tolist()))
        if cells.count(value) >= least and is_far(value, known[known != value])
    ]
    assert find_suspects(np.array(cells, dtype=np.float64)) == expected


def test_the_value_is_printed_only_if_five_patients_or_more_have_it() -> None:
    table = pd.DataFrame({"thalach": with_code(99.0, 5), "age": with_code(99.0, 4)})
    thalach, age = sorted(find_suspect_values(HEART, table), reverse=True)
    assert thalach.startswith("thalach: 99 stands in 5 of 40 rows, far from all others; if it means")
    assert age.startswith("age: one value stands in 4 of 40 rows, far from all others; if it means")
    assert "99" not in age


def test_codes_are_not_checked() -> None:
    values = pd.DataFrame({"ca": np.concatenate([np.tile([0.0, 1.0], 20), np.full(6, 3.0)])})
    assert find_suspect_values(HEART, values) == []
