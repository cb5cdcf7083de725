"""The forest plot draws any estimate: of a column with a very small or a very large unit as well."""

import math
import re

import pytest

from fedhealth.metrics.odds_ratios import QUANTILE, OddsRatio, OddsRatios
from fedhealth.reporting.html.forest import draw_forest


def row(log_odds: float, error: float | None, deviation: float) -> OddsRatio:
    def exp(value: float) -> float | None:
        return math.exp(value) if value < 700 else None

    return OddsRatio(
        feature="texture",
        contrast="per unit",
        log_odds=log_odds,
        standard_error=error,
        odds_ratio=exp(log_odds),
        low=exp(log_odds - QUANTILE * error) if error else None,
        high=exp(log_odds + QUANTILE * error) if error else None,
        per_deviation=exp(log_odds * deviation),
    )


def hint(drawn: OddsRatio) -> str:
    chart = draw_forest(OddsRatios(rows=(drawn,)))
    assert chart is not None
    (found,) = re.findall(r"<title>(texture[^<]*)</title>", chart)
    return found


@pytest.mark.parametrize("log_odds", [600.0, -600.0, 800.0, -800.0])
def test_an_interval_that_is_no_float_per_unit_is_drawn_per_deviation(log_odds: float) -> None:
    low, value, high = (math.exp(0.001 * each) for each in (log_odds - 400, log_odds, log_odds + 400))
    expected = f"texture, per deviation: {value:.3g} ({low:.3g} to {high:.3g})"
    assert hint(row(log_odds, 400 / QUANTILE, 0.001)) == expected


def test_an_interval_that_is_no_float_per_deviation_ends_at_the_edge_of_the_plot() -> None:
    assert hint(row(1.0, 1.0, 500.0)).startswith("texture, per deviation: 1.4e+217 (")


def test_an_estimate_without_a_standard_error_has_no_interval() -> None:
    assert hint(row(1.0, None, 1.0)) == "texture, per deviation: 2.72"
