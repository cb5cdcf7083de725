"""Clinical metrics from bins: against scikit-learn on binned scores, against sums by hand, and where they are undefined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from fedhealth.metrics.bins import BIN_RISKS, NUM_BINS
from fedhealth.metrics.clinical import (
    OperatingPoint,
    compute_clinical_metrics,
    compute_decision_curve,
    compute_pr_auc,
    sensitivity_at_specificity,
    youden_threshold,
)
from fedhealth.metrics.histogram import add_histograms, compute_auroc, score_histogram
from tests.support.cohorts import RARE_AND_OVERCONFIDENT, Cohort, make_cohort
from tests.support.examples import examples

repeatable = settings(derandomize=True, deadline=None, max_examples=examples(60))


@st.composite
def patients(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Risks in the middle of bins, and labels with both classes."""
    bins = draw(st.lists(st.integers(0, NUM_BINS - 1), min_size=2, max_size=60))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(bins), max_size=len(bins)))
    labels[0], labels[1] = 0, 1
    return BIN_RISKS[bins], np.array(labels)


@repeatable
@given(patients())
def test_pr_auc_equals_sklearns_average_precision_on_binned_risks(cohort: tuple[NDArray, NDArray]) -> None:
    risks, labels = cohort
    assert compute_pr_auc(score_histogram(risks, labels))[0] == pytest.approx(average_precision_score(labels, risks))


def test_pr_auc_by_hand() -> None:
    # From the top: ill (precision 1), healthy, ill (2 of 3): (1 + 2/3) / 2.
    # No bin holds two patients, so that the bins change nothing.
    assert compute_pr_auc(score_histogram([0.9, 0.7, 0.5, 0.1], [1, 0, 1, 0])) == pytest.approx(((1 + 2 / 3) / 2, 0.0))


@pytest.mark.parametrize(
    ("ill", "healthy", "value", "bound"),
    [
        # An ill and a healthy patient in one bin: 1/2, but 1 if the ill one has the higher risk.
        ([0.701], [0.702], 0.5, 0.5),
        # Below a healthy patient, two ill ones: 2/3 each, but 1/2 and 2/3 one by one; 1/2 + 1/3 is at most log(3.5 / 1.5).
        ([0.701, 0.702], [0.9], 2 / 3, 2 / 3 - (2 - np.log(3.5 / 1.5)) / 2),
    ],
)
def test_the_bound_of_pr_auc_by_hand(ill: list[float], healthy: list[float], value: float, bound: float) -> None:
    labels = [1] * len(ill) + [0] * len(healthy)
    assert compute_pr_auc(score_histogram(ill + healthy, labels)) == pytest.approx((value, bound))


@repeatable
@given(patients(), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_sensitivity_at_a_specificity_is_the_best_on_sklearns_roc_curve(
    cohort: tuple[NDArray, NDArray], wanted: float
) -> None:
    risks, labels = cohort
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, risks, drop_intermediate=False)
    found = sensitivity_at_specificity(score_histogram(risks, labels), wanted)
    assert found is not None
    assert found.sensitivity == pytest.approx(true_positive_rate[1 - false_positive_rate >= wanted - 1e-9].max())
    assert np.mean(risks[labels == 0] < found.threshold) >= wanted - 1e-9


def test_sensitivity_at_a_specificity_and_its_bound_by_hand() -> None:
    """Nine of ten healthy patients have 0.101, as one of four ill has: their bin ends at 0.105."""
    histogram = score_histogram([0.101] * 9 + [0.9] + [0.102, 0.2, 0.3, 0.05], [0] * 10 + [1] * 4)
    assert sensitivity_at_specificity(histogram) == OperatingPoint(0.5, 0.105, 0.25)


@pytest.mark.parametrize("shape", RARE_AND_OVERCONFIDENT)
def test_the_bins_change_no_figure_by_more_than_its_bound(shape: Cohort) -> None:
    risks, labels = shape.draw()
    histogram = score_histogram(risks, labels)
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, risks, drop_intermediate=False)
    auroc, auroc_bound = compute_auroc(histogram)
    pr_auc, pr_auc_bound = compute_pr_auc(histogram)
    point = sensitivity_at_specificity(histogram)
    assert auroc is not None and auroc_bound is not None and pr_auc is not None and pr_auc_bound is not None and point
    assert abs(auroc - roc_auc_score(labels, risks)) <= min(auroc_bound, 0.005)
    assert abs(pr_auc - average_precision_score(labels, risks)) <= min(pr_auc_bound, 0.01)
    assert 0 <= true_positive_rate[false_positive_rate <= 0.1 + 1e-9].max() - point.sensitivity <= point.bound + 1e-9


@repeatable
@given(patients())
def test_youdens_threshold_is_the_best_of_sklearns_roc_curve(cohort: tuple[NDArray, NDArray]) -> None:
    risks, labels = cohort
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, risks, drop_intermediate=False)
    threshold = youden_threshold(score_histogram(risks, labels))
    assert threshold is not None
    positive = risks >= threshold
    found = np.mean(positive[labels == 1]) - np.mean(positive[labels == 0])
    assert found == pytest.approx((true_positive_rate - false_positive_rate).max(), abs=1e-9)


@pytest.mark.parametrize(
    ("risks", "threshold"), [([0.2, 0.9], 0.5), ([0.1, 0.301], 0.3), ([0.701, 0.9], 0.705), ([0.9, 0.2], 0.2)]
)
def test_of_equally_good_thresholds_the_one_nearest_to_one_half_is_taken(risks: list[float], threshold: float) -> None:
    """A healthy patient and an ill one: any edge between them is best; if the ill one has the lower risk, any that is not."""
    assert youden_threshold(score_histogram(risks, [0, 1])) == threshold


def test_no_threshold_is_best_without_an_ill_and_a_healthy_patient() -> None:
    assert youden_threshold(score_histogram([0.2, 0.9], [1, 1])) is None
    assert youden_threshold(score_histogram([], [])) is None


def test_net_benefit_by_hand() -> None:
    # At 0.2 three are acted on, two of them ill: (2 - 1 * 0.25) / 5; acting on all: (2 - 3 * 0.25) / 5.
    histogram = score_histogram([0.9, 0.6, 0.3, 0.1, 0.05], [1, 0, 1, 0, 0])
    (point,) = compute_decision_curve(histogram, [0.2])
    assert (point.threshold, point.model, point.everybody) == pytest.approx((0.2, 1.75 / 5, 1.25 / 5))


def test_at_the_prevalence_acting_on_everybody_is_worth_nothing() -> None:
    risks, labels = make_cohort(200)
    labels[:] = np.arange(200) % 2
    (point,) = compute_decision_curve(score_histogram(risks, labels), [0.5])
    assert point.everybody == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_with_one_class_or_nobody_all_that_needs_both_is_undefined(labels: list[int]) -> None:
    histogram = score_histogram([0.2, 0.5, 0.7][: len(labels)], labels)
    found = compute_clinical_metrics(histogram)
    assert (found.pr_auc, found.pr_auc_bound, found.calibration, found.at_90) == (None,) * 4
    assert bool(found.decision_curve) == bool(labels)


def test_clinical_metrics_of_hospitals_together_are_those_of_the_pooled_patients() -> None:
    risks, labels = make_cohort(400)
    parts = [score_histogram(risks[part], labels[part]) for part in np.array_split(np.arange(400), 3)]
    assert compute_clinical_metrics(add_histograms(parts)) == compute_clinical_metrics(score_histogram(risks, labels))
