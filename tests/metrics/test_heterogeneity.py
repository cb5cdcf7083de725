"""The score test of hospital x feature, by hand and against the whole regression with interactions."""

import numpy as np
import pytest
from scipy.stats import chi2

from fedhealth.metrics.heterogeneity import chi_squared_tail, score_test

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.mark.parametrize("degrees", range(1, 25))
@pytest.mark.parametrize("statistic", [1e-6, 0.3, 4.0, 40.0, 900.0])
def test_the_tail_of_chi_squared_is_that_of_scipy(statistic: float, degrees: int) -> None:
    assert chi_squared_tail(statistic, degrees) == pytest.approx(chi2.sf(statistic, degrees), rel=1e-10, abs=1e-300)


def test_of_one_coefficient_it_is_the_difference_over_its_variance() -> None:
    """Two hospitals: estimates 1 + 0.5 and 1 - 1, one step from the optimum 1, with variances 1/4 and 1/2."""
    gradients, hessians = np.array([[-2.0], [2.0]]), np.array([[[4.0]], [[2.0]]])
    statistic, degrees = score_test(gradients, hessians, [0])
    assert (statistic, degrees) == (pytest.approx(1.5**2 / (1 / 4 + 1 / 2)), 1)


def test_hospitals_that_agree_have_a_statistic_of_0() -> None:
    hessians = np.stack([np.diag([1.0, 2.0]), np.diag([3.0, 1.0])])
    assert score_test(np.zeros((2, 2)), hessians, [1]) == (0.0, 1)


def test_a_hospital_in_which_the_column_is_constant_adds_no_degree_of_freedom() -> None:
    gradients, hessians = np.array([[-2.0], [2.0], [0.0]]), np.array([[[4.0]], [[2.0]], [[1e-15]]])
    statistic, degrees = score_test(gradients, hessians, [0])
    assert (statistic, degrees) == (pytest.approx(3.0), 1)


def linear_sums(seed: int) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]:
    """Sums of least squares in three hospitals at the common optimum, and inputs, outcome, hospital."""
    generator = np.random.default_rng(seed)
    inputs, outcome = generator.normal(size=(90, 3)), generator.normal(size=90)
    hospital = np.arange(90) % 3
    errors = inputs @ np.linalg.lstsq(inputs, outcome, rcond=None)[0] - outcome
    parts = [inputs[hospital == number] for number in range(3)]
    gradients = np.array([part.T @ errors[hospital == number] for number, part in enumerate(parts)])
    return (gradients, np.array([part.T @ part for part in parts])), inputs, outcome, hospital


def test_in_least_squares_it_is_the_likelihood_ratio_with_interactions() -> None:
    """The log likelihood is quadratic there, so that both tests are the same number."""
    sums, inputs, outcome, hospital = linear_sums(0)
    statistic, degrees = score_test(*sums, [0, 2])
    extra = np.hstack([inputs[:, [0, 2]] * (hospital == number)[:, np.newaxis] for number in (1, 2)])

    def lost(columns: np.ndarray) -> float:
        return float(((outcome - columns @ np.linalg.lstsq(columns, outcome, rcond=None)[0]) ** 2).sum())

    assert (statistic, degrees) == (pytest.approx(lost(inputs) - lost(np.hstack([inputs, extra]))), 4)


def test_collinear_columns_that_are_not_tested_change_nothing() -> None:
    (gradients, hessians), *_ = linear_sums(1)
    doubled = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]])
    with_copy = gradients @ doubled.T, doubled @ hessians @ doubled.T
    assert score_test(*with_copy, [0]) == (pytest.approx(score_test(gradients, hessians, [0])[0]), 2)
