"""Recalibration: its known optima, and that corrected weights give the corrected model."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fedhealth.metrics.bins import BIN_LOG_ODDS, NUM_BINS
from fedhealth.metrics.histogram import score_histogram
from fedhealth.models.recalibration import (
    class_weights,
    fit_intercept,
    fit_prevalence,
    fit_temperature,
    shift_log_odds,
    temperature_scale,
    undo_class_weights,
)


def make_patients(num_patients: int = 4000, shift: float = 0.0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted log odds, and labels whose true log odds are `shift + scale * predicted`."""
    generator = np.random.default_rng(0)
    log_odds = generator.normal(scale=1.5, size=num_patients)
    risks = 1 / (1 + np.exp(-(shift + scale * log_odds)))
    return log_odds, (generator.random(num_patients) < risks).astype(float)


def risks_of(log_odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
def test_the_intercept_makes_the_mean_risk_the_prevalence(shift: float) -> None:
    log_odds, labels = make_patients(shift=shift)
    found = fit_intercept(log_odds, labels, prior=0.0)
    assert risks_of(log_odds + found).mean() == pytest.approx(labels.mean(), abs=1e-6)
    assert found == pytest.approx(shift, abs=0.15)


def test_a_hospital_whose_patients_are_all_ill_gets_a_finite_intercept() -> None:
    found = fit_intercept(np.zeros(30), np.ones(30))
    # Where 30 * (1 - risk) = 0.3 * intercept: the gradient of the likelihood equals that of the prior.
    assert 30 * (1 - risks_of(np.array(found))) == pytest.approx(0.3 * found)
    assert 0 < fit_intercept(np.zeros(3), np.ones(3)) < found


def test_the_temperature_undoes_overconfidence() -> None:
    log_odds, labels = make_patients()
    histogram = score_histogram(risks_of(2 * log_odds), labels)
    found = fit_temperature(histogram.positives, histogram.negatives, BIN_LOG_ODDS)
    theirs = LogisticRegression(C=np.inf, fit_intercept=False).fit((2 * log_odds)[:, None], labels)
    assert found == pytest.approx(1 / theirs.coef_[0, 0], rel=0.05)
    assert fit_temperature(np.zeros(NUM_BINS, int), np.zeros(NUM_BINS, int), BIN_LOG_ODDS) == 1.0


def test_class_weights_balance_the_classes_with_mean_weight_1() -> None:
    healthy, ill = class_weights(30, 90)
    assert 30 * healthy == pytest.approx(90 * ill)
    assert (30 * healthy + 90 * ill) / 120 == pytest.approx(1)
    assert class_weights(0, 5) == class_weights(5, 0) == (1.0, 1.0)


def test_undoing_class_weights_gives_the_model_trained_without_them() -> None:
    log_odds, labels = make_patients(shift=1.0)
    healthy, ill = class_weights(int((labels == 0).sum()), int(labels.sum()))
    model = LogisticRegression(C=np.inf).fit(
        log_odds[:, None], labels, sample_weight=np.where(labels > 0, ill, healthy)
    )
    plain = LogisticRegression(C=np.inf).fit(log_odds[:, None], labels)
    weights = [model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)]
    undone = undo_class_weights(weights, (healthy, ill))
    assert undone[1] == pytest.approx(plain.intercept_, abs=0.1)
    np.testing.assert_array_equal(undone[0], weights[0])


def test_corrected_weights_are_the_corrected_model() -> None:
    hidden = np.array([[1.0, -2.0]], np.float32)
    weights = [
        hidden,
        np.array([0.5, 0.5], np.float32),
        np.array([[2.0], [3.0]], np.float32),
        np.array([1.0], np.float32),
    ]

    def log_odds(model: list[np.ndarray]) -> float:
        return float((np.maximum(0.7 * model[0] + model[1], 0) @ model[2] + model[3])[0, 0])

    assert log_odds(shift_log_odds(weights, by=0.25)) == pytest.approx(log_odds(weights) + 0.25)
    assert log_odds(temperature_scale(weights, temperature=2.0)) == pytest.approx(log_odds(weights) / 2)


def two_classes(num_patients: int, prevalence: float) -> np.ndarray:
    """Log odds of a model trained at prevalence 0.5: ill patients around +1, healthy around -1, deviation sqrt(2)."""
    generator = np.random.default_rng(1)
    ill = generator.random(num_patients) < prevalence
    return np.where(ill, 1.0, -1.0) + generator.normal(scale=np.sqrt(2), size=num_patients)


@pytest.mark.parametrize("true", [0.1, 0.36, 0.5, 0.94])
def test_the_prevalence_of_new_patients_is_estimated_without_labels(true: float) -> None:
    found, move = fit_prevalence(two_classes(20_000, true), trained=0.5, prior=1.0)
    assert found == pytest.approx(true, abs=0.02)
    assert move == pytest.approx(np.log(found / (1 - found)), abs=1e-9)


def test_few_patients_shift_the_prior_slightly_and_no_patients_do_not() -> None:
    everybody_ill = np.full(5, 8.0)
    assert fit_prevalence(everybody_ill, trained=0.4)[0] == pytest.approx((5 + 40) / 105, abs=1e-3)
    assert fit_prevalence(np.array([]), trained=0.4) == (pytest.approx(0.4), pytest.approx(0.0))


def test_risks_of_patients_like_the_training_patients_are_not_changed() -> None:
    log_odds = two_classes(50_000, 0.5)
    assert abs(fit_prevalence(log_odds, trained=0.5)[1]) < 0.05
