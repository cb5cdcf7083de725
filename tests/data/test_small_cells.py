"""Small cells of cross-tables are found by column."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.data.patients import Patients
from fedhealth.data.schema import Column, Schema
from fedhealth.data.small_cells import find_small_cells

SCHEMA = Schema(
    title="test",
    source="test",
    features=(
        Column("age", "age", "number"),
        Column("sex", "sex", "category", codes={0: "female", 1: "male"}),
        Column("grade", "grade", "category", codes={1: "low", 2: "middle", 3: "high"}),
    ),
    outcomes=(Column("ill", "ill", "category", codes={0: "no", 1: "yes"}),),
    hospital="hospital",
)


def patients(rows: list[list[float]]) -> Patients:
    table = np.array(rows, dtype=float)
    return Patients(table[:, :-1], table[:, -1].astype(np.float32))


def test_no_cell_is_small_where_all_patients_are_alike() -> None:
    assert find_small_cells(SCHEMA, patients([[50, 1, 1, 1]] * 3), 3) == []


def test_a_code_of_few_patients_names_its_column_alone() -> None:
    rows = [[50, 1, 1, 1]] * 3 + [[50, 1, 2, 1]] * 2
    assert find_small_cells(SCHEMA, patients(rows), 3) == [("grade",)]


def test_a_pair_of_codes_names_both_columns() -> None:
    rows = [[50, 1, 1, 1]] * 3 + [[50, 0, 1, 1]] * 2 + [[50, 0, 2, 1]] * 3
    assert find_small_cells(SCHEMA, patients(rows), 3) == [("sex", "grade")]


def test_few_missing_and_few_known_numbers_are_small() -> None:
    rows = [[50, 1, 1, 1]] * 3 + [[np.nan, 1, 1, 1]]
    assert find_small_cells(SCHEMA, patients(rows), 3) == [("age",)]
    rows = [[np.nan, 1, 1, 1]] * 3 + [[50, 1, 1, 1]]
    assert find_small_cells(SCHEMA, patients(rows), 3) == [("age",)]


def test_without_indicators_few_missing_numbers_are_in_no_sum_but_few_missing_codes_are() -> None:
    rows = [[50, 1, 1, 1]] * 3 + [[np.nan, 1, 1, 1]]
    assert find_small_cells(SCHEMA, patients(rows), 3, missing_indicators=False) == []
    rows = [[50, 1, 1, 1]] * 3 + [[50, 1, np.nan, 1]]
    assert find_small_cells(SCHEMA, patients(rows), 3, missing_indicators=False) == [("grade",)]
    rows = [[np.nan, 1, 1, 1]] * 3 + [[np.nan, 1, 2, 1]] * 3 + [[50, 1, 1, 1]] * 3 + [[50, 1, 2, 1]] * 2
    assert find_small_cells(SCHEMA, patients(rows), 3, missing_indicators=False) == [("age", "grade")]


def test_the_ill_of_a_code_are_a_cell_because_the_gradient_counts_them() -> None:
    rows = [[50, 1, 1, 1]] * 3 + [[50, 1, 1, 0]] * 3 + [[50, 0, 1, 1]] * 4 + [[50, 0, 1, 0]]
    assert find_small_cells(SCHEMA, patients(rows), 3) == [("sex", "ill")]


@given(st.lists(st.tuples(st.sampled_from([50.0, np.nan]), *[st.sampled_from([0.0, 1.0, np.nan])] * 2), min_size=1))
def test_nothing_is_small_to_a_hospital_that_allows_1(rows: list[tuple[float, float, float]]) -> None:
    assert find_small_cells(SCHEMA, patients([[*row, 1.0] for row in rows]), 1) == []
