"""The sums of Newton's method, against differences of the loss and against whole fits."""

import numpy as np
import pytest

from fedhealth.models.newton_sums import (
    eliminate_intercept,
    fit_own_intercept,
    pack_hessian,
    sum_newton,
    unpack_hessian,
    with_ones,
)

GENERATOR = np.random.default_rng(0)
INPUTS = with_ones(GENERATOR.normal(size=(40, 3)))
LABELS = (GENERATOR.random(40) < 0.4).astype(float)
WEIGHTS = np.where(LABELS == 1, 1.5, 0.75)
POINT = np.array([0.3, -0.2, 0.1, 0.4])
STEP = 1e-6


def central_differences(loss_at: object, point: np.ndarray) -> np.ndarray:
    moves = STEP * np.eye(len(point))
    return np.array([(loss_at(point + move) - loss_at(point - move)) / (2 * STEP) for move in moves])  # type: ignore[operator]


@pytest.mark.parametrize("precision", [None, 0.25, 5.0])
def test_gradient_and_hessian_are_the_derivatives_of_the_loss(precision: float | None) -> None:
    def sums(point: np.ndarray) -> object:
        if precision is None:
            return sum_newton(INPUTS @ point, INPUTS, LABELS, WEIGHTS)
        return eliminate_intercept(INPUTS @ point, INPUTS, LABELS, WEIGHTS, precision)

    here = sums(POINT)
    numeric = central_differences(lambda point: sums(point).loss, POINT)  # type: ignore[attr-defined]
    np.testing.assert_allclose(here.gradient, numeric, atol=1e-7)  # type: ignore[attr-defined]
    numeric = central_differences(lambda point: sums(point).gradient, POINT)  # type: ignore[attr-defined]
    np.testing.assert_allclose(here.hessian, numeric, atol=1e-7)  # type: ignore[attr-defined]


@pytest.mark.parametrize("labels", [np.ones(40), np.zeros(40), LABELS], ids=["all ill", "all healthy", "both"])
@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0])
def test_an_intercept_with_a_prior_is_where_the_slope_is_0(labels: np.ndarray, shift: float) -> None:
    log_odds = INPUTS @ POINT + shift
    own = fit_own_intercept(log_odds, labels, WEIGHTS, 0.25)
    risks = 1 / (1 + np.exp(-np.clip(log_odds + own, -700, 700)))
    assert (risks - labels) @ WEIGHTS + 0.25 * own == pytest.approx(0.0, abs=1e-9)


def test_without_a_prior_a_hospital_of_only_ill_patients_adds_nothing() -> None:
    sums = eliminate_intercept(INPUTS @ POINT, INPUTS, np.ones(40), WEIGHTS, 0.0)
    np.testing.assert_allclose(sums.gradient, 0, atol=1e-9)
    np.testing.assert_allclose(sums.hessian, 0, atol=1e-9)


def test_the_packed_triangle_gives_the_matrix_again() -> None:
    matrix = np.array([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    assert pack_hessian(matrix).tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(unpack_hessian(pack_hessian(matrix), 3), matrix)


def test_log_odds_of_any_size_give_finite_sums() -> None:
    sums = sum_newton(np.array([1e4, -1e4]), np.ones((2, 1)), np.array([0.0, 1.0]), np.ones(2))
    assert (sums.loss, sums.gradient.tolist(), sums.hessian.tolist()) == (2e4, [0.0], [[0.0]])
