"""Odds ratios by hand: units, reference codes, missing values, and contrasts that cannot be estimated."""

import math

import numpy as np
import pytest

from fedhealth.data.schema import Column, Schema
from fedhealth.metrics.odds_ratios import ExactFit, OddsRatio, list_contrasts, make_odds_ratios

SCHEMA = Schema(
    title="test",
    source="test",
    features=(
        Column("age", "age", "number", unit="years", can_be_missing=False),
        Column("sex", "sex", "category", codes={0: "female", 1: "male"}, can_be_missing=False),
        Column("grade", "grade", "category", codes={1: "low", 2: "middle", 3: "high"}),
    ),
    outcomes=(Column("ill", "ill", "category", codes={0: "no", 1: "yes"}),),
    hospital="hospital",
)
# age, sex=1, grade=1, grade=2, grade=3, grade=missing, the intercept
COEFFICIENTS = np.array([0.5, 0.25, -0.1, 0.2, 0.3, 0.4, 9.0])
COVARIANCE = np.diag([0.01, 0.04, 0.09, 0.16, 0.25, 0.36, 1.0])


def rows(**changes: object) -> dict[tuple[str, str], OddsRatio]:
    fit = ExactFit(COEFFICIENTS, COVARIANCE, **changes)  # type: ignore[arg-type]
    table = make_odds_ratios(list_contrasts(SCHEMA, True, [10.0]), fit)
    return {(row.feature, row.contrast): row for row in table.rows}


def test_a_number_is_reported_by_unit_and_by_standard_deviation() -> None:
    age = rows()["age", "+1 years"]
    assert (age.log_odds, age.standard_error) == pytest.approx((0.05, 0.01))
    assert age.per_deviation == pytest.approx(math.exp(0.5))
    assert (age.low, age.high) == pytest.approx((math.exp(0.05 - 0.0196), math.exp(0.05 + 0.0196)), rel=1e-5)
    assert age.p_value == pytest.approx(5.733e-7, rel=1e-3)


def test_a_code_is_compared_with_the_first_and_a_step_from_minus_1_to_1_counts_twice() -> None:
    table = rows()
    assert list(table)[1:] == [
        ("sex", "male vs female"),
        ("grade", "middle vs low"),
        ("grade", "high vs low"),
        ("grade", "missing vs low"),
    ]
    assert table["sex", "male vs female"].log_odds == pytest.approx(0.5)
    assert table["sex", "male vs female"].standard_error == pytest.approx(0.4)
    assert table["grade", "high vs low"].log_odds == pytest.approx(2 * (0.3 + 0.1))
    assert table["grade", "high vs low"].standard_error == pytest.approx(2 * math.sqrt(0.25 + 0.09))
    assert table["grade", "missing vs low"].log_odds == pytest.approx(1.0)


def test_a_contrast_with_a_separated_column_has_its_direction_only() -> None:
    table = rows(separated={3})
    assert table["grade", "middle vs low"].note.endswith("the odds ratio runs to infinity")
    assert table["grade", "middle vs low"].log_odds is None
    assert not table["grade", "high vs low"].note


def test_a_code_of_nobody_and_a_reference_code_of_nobody_are_told_apart() -> None:
    table = rows(constant={4})
    assert table["grade", "high vs low"].note == "the same for every patient, so without effect"
    assert not table["grade", "middle vs low"].note
    assert rows(constant={2})["grade", "middle vs low"].note == "no patient has the reference code"


def test_no_optimum_no_interval() -> None:
    age = rows(settled=False)["age", "+1 years"]
    assert (age.odds_ratio, age.low, age.p_value) == (pytest.approx(math.exp(0.05)), None, None)
