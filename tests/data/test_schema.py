"""The 14 columns: their order, their codes and ranges, and the fingerprint that two programs compare."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.schema import Column
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, FEATURES, HEART, HOSPITALS, LABEL
from tests.support.processes import PATIENCE

UCI = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "num",
]


def test_the_columns_stand_in_uci_s_order_with_the_label_and_the_hospital_behind() -> None:
    assert list(COLUMN_NAMES) == [*UCI, "target", "hospital"]
    assert list(FEATURE_NAMES) == UCI[:13]


def test_every_feature_is_a_number_or_a_category() -> None:
    assert [column.name for column in HEART.numbers] == ["age", "trestbps", "chol", "thalach", "oldpeak", "ca"]
    assert [column.name for column in HEART.categories] == ["sex", "cp", "fbs", "restecg", "exang", "slope", "thal"]
    assert sorted(HEART.numbers + HEART.categories, key=lambda column: column.name) == sorted(
        FEATURES, key=lambda c: c.name
    )


def test_the_codes_are_uci_s() -> None:
    codes = {column.name: list(column.codes) for column in (*HEART.categories, LABEL)}
    assert codes == {
        "sex": [0, 1],
        "cp": [1, 2, 3, 4],
        "fbs": [0, 1],
        "restecg": [0, 1, 2],
        "exang": [0, 1],
        "slope": [1, 2, 3],
        "thal": [3, 6, 7],
        "num": [0, 1, 2, 3, 4],
    }


@pytest.mark.parametrize("column", [*FEATURES, LABEL], ids=lambda column: column.name)
def test_codes_have_distinct_meanings_and_no_missing_mark_is_a_code(column: Column) -> None:
    assert column.meaning
    assert len(set(column.codes.values())) == len(column.codes)
    assert all(column.codes.values())
    assert not set(column.missing_marks) & set(column.codes)


@pytest.mark.parametrize("column", HEART.numbers, ids=lambda column: column.name)
def test_ranges_are_finite_hold_their_reference_and_exclude_the_missing_marks(column: Column) -> None:
    assert float("-inf") < column.minimum < column.maximum < float("inf")
    assert column.minimum <= column.reference_mean - column.reference_std / 2
    assert column.reference_mean + column.reference_std <= column.maximum
    assert column.reference_std > 0
    assert column.unit
    assert not any(column.minimum <= mark <= column.maximum for mark in column.missing_marks)
    assert all(column.minimum <= code <= column.maximum for code in column.codes)


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("age", 28, 77),
        ("trestbps", 80, 200),
        ("chol", 85, 603),
        ("thalach", 60, 202),
        ("oldpeak", -2.6, 6.2),
        ("ca", 0, 3),
    ],
)
def test_the_ranges_hold_what_the_four_hospitals_measured(name: str, smallest: float, largest: float) -> None:
    (column,) = (column for column in HEART.numbers if column.name == name)
    assert column.minimum <= smallest
    assert largest <= column.maximum


def test_a_cholesterol_and_a_blood_pressure_of_0_count_as_missing_and_an_st_depression_of_0_does_not() -> None:
    marks = {column.name: column.missing_marks for column in HEART.numbers}
    assert 0 in marks["chol"]
    assert 0 in marks["trestbps"]
    assert 0 not in marks["oldpeak"]
    assert 0 not in marks["ca"]


def test_the_four_hospitals_stand_in_the_order_of_the_natural_split() -> None:
    assert list(HOSPITALS) == ["cleveland", "hungary", "switzerland", "va"]
    assert not any(name.startswith(SYNTHETIC_PREFIX) for name in HOSPITALS)


# --- the fingerprint --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(len(FEATURES)), ids=FEATURE_NAMES)
@pytest.mark.parametrize(
    "change",
    [{"maximum": 123456.0}, {"minimum": -123456.0}, {"codes": {1: "other"}}, {"unit": "furlong"}, {"name": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with_every_range_code_unit_and_name(place: int, change: dict[str, Any]) -> None:
    changed = (*FEATURES[:place], replace(FEATURES[place], **change), *FEATURES[place + 1 :])
    other = replace(HEART, features=changed)
    assert other.fingerprint != HEART.fingerprint
    different, more = HEART.differing_columns(list(other.fingerprints.values()))
    assert different == [FEATURES[place].name]
    assert more == 1


def test_the_fingerprint_changes_with_the_outcome_and_with_the_order() -> None:
    outcome = replace(HEART, outcomes=(replace(LABEL, codes={0: "healthy", 1: "ill"}), HEART.outcome))
    order = replace(HEART, features=(FEATURES[1], FEATURES[0], *FEATURES[2:]))
    assert len({HEART.fingerprint, outcome.fingerprint, order.fingerprint}) == 3


@pytest.mark.parametrize("change", [{"meaning": "x"}, {"other_names": ("x",)}, {"words": {"x": 1}}])
def test_what_only_helps_to_read_a_file_does_not_change_the_fingerprint(change: dict[str, Any]) -> None:
    other = replace(HEART, title="x", source="x", features=(replace(FEATURES[0], **change), *FEATURES[1:]))
    assert other.fingerprint == HEART.fingerprint


def test_the_fingerprint_is_the_same_in_another_process_and_short_enough_to_read_out() -> None:
    command = "from fedhealth.data.schema_file import heart_disease; print(heart_disease().fingerprint)"
    root = Path(__file__).parents[2]
    run = [sys.executable, "-c", command]
    done = subprocess.run(run, cwd=root, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == HEART.fingerprint
    assert len(HEART.fingerprint) == 12
    assert int(HEART.fingerprint, 16) >= 0
