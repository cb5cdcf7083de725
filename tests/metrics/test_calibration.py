"""Calibration slope and intercept from bins against those from the risks themselves, and their bounds."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fedhealth.common.risk import log_odds
from fedhealth.metrics.bins import BIN_EDGES, BIN_RISKS, find_bins
from fedhealth.metrics.calibration import compute_calibration
from fedhealth.metrics.histogram import ScoreHistogram, score_histogram
from fedhealth.metrics.intervals import confidence_intervals
from tests.support.cohorts import RARE_AND_OVERCONFIDENT, Cohort, make_cohort


def fit_exactly(risks: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept from the risks themselves, by scikit-learn."""
    fitted = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(log_odds(risks)[:, None], labels)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.8), (1.6, -0.5)])
def test_calibration_finds_the_line_that_the_labels_were_drawn_from_as_sklearn_does(
    slope: float, intercept: float
) -> None:
    risks, labels = make_cohort(slope=slope, intercept=intercept)
    found = compute_calibration(score_histogram(risks, labels))
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx(fit_exactly(risks, labels), abs=0.001)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), abs=0.15)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("shape", RARE_AND_OVERCONFIDENT)
def test_the_bins_change_slope_and_intercept_by_less_than_a_hundredth_and_than_their_bounds(
    shape: Cohort, precision: type
) -> None:
    """Bins of 0.005 gave 0.30 for 0.25 and 1.26 for 1.00; the middles alone give an intercept 0.025 off in the rare case."""
    risks, labels = shape.draw(seed=4)
    risks = risks.astype(precision)
    found, (slope, intercept) = compute_calibration(score_histogram(risks, labels)), fit_exactly(risks, labels)
    assert found is not None
    assert abs(found.slope - slope) <= min(found.slope_bound, 0.01)
    assert abs(found.intercept - intercept) <= min(found.intercept_bound, 0.01)


@pytest.mark.parametrize("shape", RARE_AND_OVERCONFIDENT)
def test_an_interval_of_the_slope_holds_the_value_on_the_risks_themselves(shape: Cohort) -> None:
    risks, labels = shape.draw()
    interval = confidence_intervals(score_histogram(risks, labels), num_draws=50)["calibration_slope"]
    assert interval is not None
    assert interval[0] < fit_exactly(risks, labels)[0] < interval[1]


@pytest.mark.parametrize("worst", [1, -1])
@pytest.mark.parametrize("shape", RARE_AND_OVERCONFIDENT)
def test_the_bounds_hold_where_every_risk_is_at_the_worse_edge_of_its_bin(shape: Cohort, worst: int) -> None:
    """High risks go up within their bins and low ones down, or the other way: a steeper or a flatter line."""
    risks, labels = shape.draw()
    bins = find_bins(risks)
    upwards = (risks > np.median(risks)) == (worst > 0)
    moved = np.where(upwards, np.nextafter(BIN_EDGES[bins + 1], 0), BIN_EDGES[bins])
    found, (slope, intercept) = compute_calibration(score_histogram(moved, labels)), fit_exactly(moved, labels)
    assert found is not None
    assert 0 < abs(found.slope - slope) <= 1.05 * found.slope_bound
    assert abs(found.intercept - intercept) <= 1.05 * found.intercept_bound


def test_calibration_in_the_large_is_the_shift_that_makes_mean_risk_the_prevalence() -> None:
    risks, labels = make_cohort(intercept=0.8)
    found = compute_calibration(score_histogram(risks, labels))
    assert found is not None
    shifted = 1 / (1 + np.exp(-(log_odds(risks) + found.in_the_large)))
    assert shifted.mean() == pytest.approx(labels.mean(), abs=0.0005)
    assert 0 < found.in_the_large_bound < 0.03


def test_risks_in_the_middle_of_their_bins_need_no_correction() -> None:
    """The log loss of the middles is then the exact one."""
    risks, labels = make_cohort(300)
    middles = BIN_RISKS[find_bins(risks)]
    found = compute_calibration(score_histogram(middles, labels))
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx(fit_exactly(middles, labels), abs=1e-3)


def test_a_log_loss_that_no_risks_in_the_bins_have_changes_no_more_than_one_that_they_have() -> None:
    risks, labels = make_cohort(300)
    exact = score_histogram(risks, labels)
    true = compute_calibration(exact)
    lied = compute_calibration(ScoreHistogram(exact.positives, exact.negatives, 1e6, exact.squared_error))
    assert true is not None and lied is not None
    assert abs(lied.slope - true.slope) < 0.1


def test_a_slope_below_one_means_overconfident() -> None:
    risks, labels = make_cohort()
    bolder = 1 / (1 + np.exp(-2 * np.log(risks / (1 - risks))))
    found = compute_calibration(score_histogram(bolder, labels))
    assert found is not None and found.slope == pytest.approx(0.5, abs=0.07)


def test_risks_that_separate_the_classes_have_no_finite_calibration_line() -> None:
    assert compute_calibration(score_histogram([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])) is None


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_class_alone_has_no_calibration_line(labels: list[int]) -> None:
    assert compute_calibration(score_histogram([0.2, 0.7][: len(labels)], labels)) is None
