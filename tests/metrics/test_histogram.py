"""Metrics from summed histograms against scikit-learn's on the pooled scores, which no server ever sees."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, recall_score, roc_auc_score

from fedhealth.common.risk import SMALLEST_RISK
from fedhealth.metrics.bins import BIN_EDGES, NUM_BINS
from fedhealth.metrics.histogram import (
    Metrics,
    ScoreHistogram,
    add_histograms,
    check_histogram,
    compute_metrics,
    score_histogram,
)

Patient = tuple[float, int, int]  # risk, label, hospital
repeatable = settings(derandomize=True, deadline=None)
WIDE_BINS = np.flatnonzero(np.diff(BIN_EDGES) > 1e-4).tolist()
"""A risk well within one of them stays there in float32."""
CORNERS = (0.0, 0.5, 1.0, float(np.nextafter(np.float32(0.5), np.float32(0))), 1e-7, 0.005, 0.995)

risks = st.one_of(st.sampled_from(CORNERS), st.floats(0, 1, width=32))
patients_of_hospitals = st.lists(st.tuples(risks, st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=60)


def pool(patients: list[Patient]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Risks and labels of all patients, as float32 like a model's."""
    return np.array([p[0] for p in patients], np.float32), np.array([p[1] for p in patients], np.float32)


def federate(patients: list[Patient]) -> Metrics:
    """The same patients, seen only as the sum of their hospitals' histograms."""
    scores, labels = pool(patients)
    hospital = np.array([p[2] for p in patients])
    return compute_metrics(
        add_histograms(score_histogram(scores[hospital == h], labels[hospital == h]) for h in range(4))
    )


def same_counts(one: ScoreHistogram, other: ScoreHistogram) -> bool:
    return np.array_equal(one.positives, other.positives) and np.array_equal(one.negatives, other.negatives)


# --- the union of all test patients ----------------------------------------------------------------------------------


@repeatable
@given(patients_of_hospitals.filter(lambda patients: len({label for _, label, _ in patients}) == 2))
def test_auroc_of_all_together_is_within_its_own_bound_of_the_pooled_one(patients: list[Patient]) -> None:
    scores, labels = pool(patients)
    metrics = federate(patients)
    assert metrics.auroc is not None and metrics.auroc_bound is not None
    assert 0 <= metrics.auroc_bound <= 0.5
    assert abs(metrics.auroc - roc_auc_score(labels, scores)) <= metrics.auroc_bound + 1e-12


@repeatable
@given(st.permutations(WIDE_BINS), st.integers(1, 20), st.integers(1, 20), st.data())
def test_auroc_is_exact_when_no_ill_and_healthy_patient_share_a_bin(
    bins: list[int], num_ill: int, num_healthy: int, data: st.DataObject
) -> None:
    ill_bins, healthy_bins = bins[:num_ill], bins[num_ill : num_ill + num_healthy]
    within = data.draw(st.lists(st.integers(1, 15), min_size=num_ill + num_healthy, max_size=num_ill + num_healthy))
    patients = [
        (BIN_EDGES[place] + (BIN_EDGES[place + 1] - BIN_EDGES[place]) * part / 16, label, part % 4)
        for place, part, label in zip(ill_bins + healthy_bins, within, [1] * num_ill + [0] * num_healthy, strict=True)
    ]
    scores, labels = pool(patients)
    metrics = federate(patients)
    assert metrics.auroc_bound == 0
    assert metrics.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auroc_of_two_ill_and_two_healthy_by_hand() -> None:
    # Pairs: 0.9 beats both healthy; 0.3 beats 0.1 and loses to 0.6: 3 of 4.
    metrics = compute_metrics(score_histogram([0.9, 0.3, 0.1, 0.6], [1, 1, 0, 0]))
    assert (metrics.auroc, metrics.auroc_bound) == (0.75, 0.0)


def test_an_ill_and_a_healthy_patient_in_one_bin_count_half_and_the_bound_says_so() -> None:
    metrics = compute_metrics(score_histogram([0.701, 0.704], [1, 0]))
    assert (metrics.auroc, metrics.auroc_bound) == (0.5, 0.5)


@repeatable
@given(patients_of_hospitals)
def test_accuracy_sensitivity_specificity_brier_and_loss_equal_the_pooled_ones(patients: list[Patient]) -> None:
    scores, labels = pool(patients)
    pooled = np.asarray(scores, np.float64)
    positive = pooled >= 0.5
    metrics = federate(patients)
    clipped = np.clip(pooled, SMALLEST_RISK, 1 - SMALLEST_RISK)
    assert metrics.num_examples == len(labels)
    assert metrics.num_ill == labels.sum()
    assert metrics.accuracy == pytest.approx(accuracy_score(labels, positive), abs=1e-9)
    assert metrics.brier == pytest.approx(brier_score_loss(labels, pooled, pos_label=1), abs=1e-9)
    assert metrics.loss == pytest.approx(log_loss(labels, clipped, labels=[0, 1]), abs=1e-9)
    for share, label in ((metrics.sensitivity, 1), (metrics.specificity, 0)):
        if label in labels:
            recall = recall_score(labels, positive, pos_label=label, zero_division=np.nan)
            assert share == pytest.approx(recall, abs=1e-9)
        else:
            assert share is None


@pytest.mark.parametrize(("risk", "positive"), [(0.5, True), (CORNERS[3], False), (1.0, True), (0.0, False)])
def test_a_risk_of_exactly_one_half_is_predicted_positive_and_one_just_below_is_not(
    risk: float, positive: bool
) -> None:
    assert compute_metrics(score_histogram(np.array([risk], np.float32), [1])).sensitivity == float(positive)
    assert compute_metrics(score_histogram(np.array([risk], np.float32), [0])).specificity == float(not positive)


def test_a_certain_and_wrong_prediction_costs_a_finite_loss() -> None:
    assert compute_metrics(score_histogram([0.0], [1])).loss == pytest.approx(-math.log(1e-7))
    assert compute_metrics(score_histogram([1.0], [0])).loss == pytest.approx(-math.log(1e-7))
    assert compute_metrics(score_histogram([1.0, 0.0], [1, 0])).loss == pytest.approx(1e-7)


@repeatable
@given(patients_of_hospitals, st.permutations(range(4)))
def test_histograms_may_be_added_in_any_order(patients: list[Patient], order: list[int]) -> None:
    scores, labels = pool(patients)
    hospital = np.array([p[2] for p in patients])
    each = [score_histogram(scores[hospital == h], labels[hospital == h]) for h in range(4)]
    straight, shuffled = add_histograms(each), add_histograms(each[place] for place in order)
    together = score_histogram(scores, labels)
    assert same_counts(straight, shuffled) and same_counts(straight, together)
    assert shuffled.log_loss == pytest.approx(straight.log_loss, rel=1e-12)
    assert shuffled.squared_error == pytest.approx(straight.squared_error, rel=1e-12, abs=1e-15)


# --- where a metric is undefined --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
def test_auroc_of_one_class_only_is_undefined_while_the_rest_is_not(label: int) -> None:
    metrics = compute_metrics(score_histogram([0.2, 0.8], [label, label]))
    assert (metrics.auroc, metrics.auroc_bound) == (None, None)
    assert (metrics.sensitivity, metrics.specificity) == ((None, 0.5) if label == 0 else (0.5, None))
    assert metrics.accuracy == 0.5


def test_metrics_of_nobody_are_all_undefined() -> None:
    for nobody in (add_histograms([]), score_histogram([], [])):
        values = vars(compute_metrics(nobody))
        assert (values.pop("num_examples"), values.pop("num_ill")) == (0, 0)
        assert len(values) == 8
        assert all(value is None for value in values.values())


@pytest.mark.parametrize("risk", [-0.001, 1.001, math.nan, math.inf])
def test_a_risk_that_is_no_probability_is_refused(risk: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        score_histogram([0.5, risk], [1, 0])


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    # Two patients at 0.9025 (the middle of a fine bin) of whom one is ill: 2 * |0.9025 - 0.5| = 0.805; two healthy ones
    # at 0.1025: 2 * 0.1025 = 0.205; over 4 patients 0.2525.
    metrics = compute_metrics(score_histogram([0.9025, 0.9025, 0.1025, 0.1025], [1, 0, 0, 0]))
    assert metrics.ece == pytest.approx(0.2525)


@repeatable
@given(patients_of_hospitals)
def test_calibration_error_is_within_a_four_hundredth_of_the_one_from_exact_risks(patients: list[Patient]) -> None:
    scores, labels = pool(patients)
    exact_risks = np.asarray(scores, np.float64)
    place = np.minimum((exact_risks * 10).astype(int), 9)
    gaps = [abs((exact_risks - labels)[place == each].sum()) for each in range(10)]
    ece = federate(patients).ece
    assert ece is not None
    assert abs(ece - sum(gaps) / len(patients)) <= 0.0025 + 1e-9


# --- as it was sent, or as it stands in a file ------------------------------------------------------------------------


def numbers_of(histogram: ScoreHistogram) -> dict[str, Any]:
    return {
        **vars(histogram),
        "num_examples": histogram.num_examples,
        "positives": histogram.positives.tolist(),
        "negatives": histogram.negatives.tolist(),
    }


@repeatable
@given(patients_of_hospitals)
def test_its_numbers_bring_back_the_same_histogram(patients: list[Patient]) -> None:
    histogram = score_histogram(*pool(patients))
    back = check_histogram(**numbers_of(histogram))
    assert same_counts(back, histogram)
    assert (back.log_loss, back.squared_error) == (histogram.log_loss, histogram.squared_error)


def change(**entries: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(entries)


def cancel_out(record: dict[str, Any]) -> None:
    """Negative counts that keep the total."""
    record["positives"][0], record["positives"][1] = -1, record["positives"][1] + 1


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(cancel_out, id="a negative count"),
        pytest.param(change(positives=[1] * (NUM_BINS - 1)), id="a bin too few"),
        pytest.param(change(negatives=[0] * (NUM_BINS + 1)), id="a bin too many"),
        pytest.param(change(positives=[]), id="no bins"),
        pytest.param(change(num_examples=3), id="counts do not add up"),
        pytest.param(change(log_loss=math.nan), id="loss is NaN"),
        pytest.param(change(log_loss=math.inf), id="loss is infinite"),
        pytest.param(change(squared_error=math.nan), id="squared error is NaN"),
        pytest.param(change(squared_error=-0.1), id="squared error is negative"),
        pytest.param(change(squared_error=2.1), id="squared error is more than one per patient"),
    ],
)
def test_broken_numbers_are_refused(break_it: Callable[[dict[str, Any]], None]) -> None:
    numbers = numbers_of(score_histogram([0.2, 0.7], [0, 1]))
    check_histogram(**numbers)
    break_it(numbers)
    with pytest.raises(ValueError, match=r"bin|sum"):
        check_histogram(**numbers)
