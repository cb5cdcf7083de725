"""Names of columns in our layout and in others."""

import pytest

from fedhealth.data.layouts import (
    any_column,
    count_known,
    describe_foreign_header,
    describe_missing_header,
    fewest_known,
    find_columns,
    looks_like_values,
    own_column,
)
from fedhealth.data.schema import plain_name
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, HEART
from tests.support.layout_files import IMPUTED_NAMES, RENAMED, STATLOG_NAMES, UNION_NAMES


@pytest.mark.parametrize("names", [RENAMED, STATLOG_NAMES, UNION_NAMES, IMPUTED_NAMES])
def test_the_names_of_the_published_layouts_are_known(names: dict[str, str]) -> None:
    assert {name: any_column(HEART, text) for name, text in names.items()} == {name: name for name in names}


def test_no_name_stands_for_two_columns() -> None:
    names = [*HEART.hospital_other_names, *(name for column in HEART.columns.values() for name in column.other_names)]
    assert len(set(names)) == len(names)
    assert not set(names) & set(COLUMN_NAMES)
    assert all(plain_name(plain) == plain for plain in HEART.column_of)


def test_our_own_names_are_known_in_any_letters_and_others_are_not_ours() -> None:
    assert (own_column(HEART, "Age"), own_column(HEART, "THAL"), own_column(HEART, "thalch")) == ("age", "thal", "")
    assert (any_column(HEART, "ThalCh"), any_column(HEART, "Max HR"), any_column(HEART, "height")) == (
        "thalach",
        "thalach",
        "",
    )


def test_where_two_names_fit_ours_wins() -> None:
    assert find_columns(HEART, ["Cholesterol", "chol", "bmi"]) == {"chol": 1}
    assert find_columns(HEART, ["chol", "Cholesterol"]) == {"chol": 0}
    assert count_known(HEART, ["chol", "Cholesterol", "bmi"]) == 2


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        (["63", "1", "145"], True),
        (["63", "male", "typical angina", "1,5"], True),
        (["?", ".7", "-9", "x"], True),
        (["age", "sex", "1"], False),
        (["", "", ""], False),
        ([], False),
    ],
)
def test_a_row_of_values_is_distinguished_from_a_row_of_names(fields: list[str], values: bool) -> None:
    assert looks_like_values(fields) is values


def test_a_missing_header_is_given_only_for_ucis_number_of_columns() -> None:
    assert ",".join([*FEATURE_NAMES, "num"]) in describe_missing_header(HEART, ["1"] * 14)
    assert describe_missing_header(HEART, ["1"] * 13).endswith("add a first line with the names of its 13 columns")


def test_another_data_set_is_described_by_our_columns_only() -> None:
    assert "only age, sex: another data set" in describe_foreign_header(HEART, ["sex", "age", "Mrs. Miller"])
    assert "it has none: another data set" in describe_foreign_header(HEART, ["Mrs. Miller", "x"])
    assert fewest_known(HEART) == 7
