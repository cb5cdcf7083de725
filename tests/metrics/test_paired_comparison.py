"""Paired comparison of two models: the numbers by hand and by a plain loop, and the conclusions from them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedhealth.metrics import paired_comparison as verdict_room
from fedhealth.metrics.paired_comparison import (
    METRIC_NAMES,
    NUM_DRAWS,
    PairedComparison,
    choose_metric,
    compare_paired,
    comparison_sentence,
)
from tests.support.pairs import pairwise_auroc

LABELS = np.array([0, 1] * 40, np.float32)


def make_risks(skill: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(LABELS))
    return np.asarray(1 / (1 + np.exp(-(skill * (2 * LABELS - 1) + noise))), np.float32)


def test_a_model_that_is_clearly_better_is_found_better_by_either_metric() -> None:
    good, poor = make_risks(2.0, 0), make_risks(0.1, 1)
    by_order, by_error = compare_paired(good, poor, LABELS, "auroc"), compare_paired(good, poor, LABELS, "brier")
    assert by_order.value == round(roc_auc_score(LABELS, good), 2)
    assert by_order.alone == round(roc_auc_score(LABELS, poor), 2)
    assert by_error.value == round(float(np.mean((good - LABELS) ** 2)), 3)
    assert by_order.difference > 0 > by_error.difference
    assert by_order.words == by_error.words == "better than the local model"
    for metric in METRIC_NAMES:
        assert compare_paired(poor, good, LABELS, metric).words == "local model is better"


def test_the_interval_is_that_of_a_plain_loop_over_the_same_patients_drawn_for_both_models() -> None:
    one, other, rng = make_risks(1.0, 0), make_risks(0.6, 1), np.random.default_rng(5)
    differences = []
    for _ in range(600):
        drawn = rng.integers(0, len(LABELS), len(LABELS))
        ours, theirs = (pairwise_auroc(LABELS[drawn], risks[drawn]) for risks in (one, other))
        differences.append(ours - theirs)
    found = compare_paired(one, other, LABELS, "auroc")
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.025)


def test_one_model_against_itself_differs_by_nothing() -> None:
    risks = make_risks(1.0, 0)
    found = compare_paired(risks, risks, LABELS, "auroc")
    assert (found.difference, found.low, found.high, found.words) == (0.0, 0.0, 0.0, "no clear difference")


def test_draws_do_not_depend_on_how_many_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make_risks(1.0, 0), make_risks(0.6, 1)
    at_once = compare_paired(one, other, LABELS, "brier")
    monkeypatch.setattr(verdict_room, "MOST_VALUES", len(LABELS) * 300)
    assert NUM_DRAWS % 300, "the last piece is a smaller one"
    assert compare_paired(one, other, LABELS, "brier") == at_once


def test_a_draw_without_a_healthy_patient_is_left_out() -> None:
    labels = np.array([1] * 20 + [0], np.float32)
    risks, other = np.linspace(0.9, 0.5, 21), np.linspace(0.5, 0.9, 21)
    found = compare_paired(risks, other, labels, "auroc")
    assert (found.value, found.alone, found.low) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("ill", "healthy", "fewest", "same_order", "metric"),
    [
        (5, 5, 5, False, "auroc"),
        (4, 90, 5, False, "brier"),
        (90, 4, 5, False, "brier"),
        (0, 9, 0, False, "brier"),
        (9, 9, 5, True, "brier"),
    ],
)
def test_auroc_counts_if_it_rests_on_enough_ill_and_healthy_patients(
    ill: int, healthy: int, fewest: int, same_order: bool, metric: str
) -> None:
    assert choose_metric(np.repeat([1.0, 0.0], [ill, healthy]), fewest, same_order) == metric


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (
            PairedComparison("auroc", 0.74, 0.67, 0.07, 0.01, 0.12),
            "global model: AUROC 0.74, local model 0.67, difference +0.07 [0.01, 0.12]: better than the local model",
        ),
        (
            PairedComparison("auroc", 0.7, 0.67, 0.03, 0.0, 0.06),
            "global model: AUROC 0.70, local model 0.67, difference +0.03 [0.00, 0.06]: no clear difference",
        ),
        (
            PairedComparison("auroc", 0.6, 0.67, -0.07, -0.12, -0.01),
            "global model: AUROC 0.60, local model 0.67, difference -0.07 [-0.12, -0.01]: local model is better",
        ),
        (
            PairedComparison("brier", 0.1, 0.12, -0.02, -0.03, -0.01),
            "global model: Brier score 0.100, local model 0.120, difference -0.020 [-0.030, -0.010]: better than the local "
            "model",
        ),
        (
            PairedComparison("brier", 0.12, 0.1, 0.02, 0.01, 0.03),
            "global model: Brier score 0.120, local model 0.100, difference +0.020 [0.010, 0.030]: local model is better",
        ),
    ],
)
def test_the_sentence_says_what_the_interval_says(comparison: PairedComparison, sentence: str) -> None:
    assert comparison_sentence("global", comparison) == sentence


def test_an_auroc_of_ill_patients_only_is_refused() -> None:
    with pytest.raises(ValueError, match="needs ill and healthy"):
        compare_paired(np.array([0.5, 0.6]), np.array([0.5, 0.6]), np.ones(2), "auroc")
