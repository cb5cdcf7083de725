"""Intervals of all metrics: their width without an error among the patients, their coverage, and where there is none."""

import numpy as np
import pytest
from scipy.special import ndtri

from fedhealth.metrics.histogram import score_histogram
from fedhealth.metrics.intervals import auroc_interval, confidence_intervals, wilson_interval
from tests.support.cohorts import make_cohort

SHARES = ("auroc", "pr_auc", "accuracy", "sensitivity", "specificity", "sensitivity_at_90")


def test_a_wilson_interval_is_the_textbooks() -> None:
    assert wilson_interval(5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson_interval(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)


def test_47_patients_in_perfect_order_do_not_prove_that_all_others_are() -> None:
    """20 ill and 27 healthy patients, and as many that are in the wrong order without exception."""
    risks = np.concatenate([np.linspace(0.05, 0.45, 27), np.linspace(0.55, 0.95, 20)])
    labels = np.repeat([0, 1], [27, 20])
    right, wrong = (confidence_intervals(score_histogram(risks, each), num_draws=50) for each in (labels, 1 - labels))
    assert right["auroc"] == (pytest.approx(0.9198, abs=1e-4), 1.0)
    assert wrong["auroc"] == (0.0, pytest.approx(0.0802, abs=1e-4))
    for name in SHARES:
        interval = right[name]
        assert interval is not None and 0.8 < interval[0] < 0.98 and interval[1] <= 1.0, name


def test_the_auroc_of_five_ill_and_five_healthy_patients_in_order_by_hand() -> None:
    """Newcombe's variance is that of 25 / (1 + 4 / 2) = 8.33 patients; Wilson's lower limit of all of n is n / (n + z^2)."""
    interval = auroc_interval(score_histogram([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99], [0] * 5 + [1] * 5))
    assert interval == (pytest.approx(8.3333 / (8.3333 + 3.8415), abs=1e-4), 1.0)


def test_the_auroc_of_scattered_ill_patients_has_delongs_variance() -> None:
    """Three ill patients below and seven above all but a few healthy ones; pair by pair."""
    ill = np.array([0.011, 0.022, 0.033, 0.761, 0.772, 0.783, 0.794, 0.811, 0.822, 0.833])
    healthy = np.concatenate([np.linspace(0.3, 0.7, 39), [0.803]])
    won = (ill[:, None] > healthy).astype(float)
    auroc = won.mean()
    parts = [(rows.var() * len(rows) / (len(rows) - 3), len(rows)) for rows in (won.mean(axis=1), won.mean(axis=0))]
    size = auroc * (1 - auroc) / sum(variance / patients for variance, patients in parts)
    histogram = score_histogram(np.concatenate([ill, healthy]), [1] * 10 + [0] * 40)
    assert auroc_interval(histogram) == pytest.approx(wilson_interval(auroc * size, size))
    assert size < 10, "Newcombe's variance is that of 24 patients"


@pytest.mark.parametrize(("ill", "healthy"), [(5, 5), (25, 25), (10, 40), (40, 10)])
@pytest.mark.parametrize("auroc", [0.8, 0.9, 0.99])
def test_intervals_of_the_auroc_hold_the_true_one_in_93_of_100_samples(auroc: float, ill: int, healthy: int) -> None:
    """Normal log odds of equal spread. A percentile bootstrap holds 0.99 in 16 of 100 samples of five and five."""
    generator = np.random.default_rng(ill)
    labels = np.repeat([1, 0], [ill, healthy])
    held = 0
    for log_odds in generator.normal(labels * np.sqrt(2) * ndtri(auroc), size=(300, ill + healthy)):
        interval = auroc_interval(score_histogram(1 / (1 + np.exp(1 - log_odds)), labels))
        assert interval is not None
        held += interval[0] <= auroc <= interval[1]
    assert held >= 0.93 * 300


def test_with_thirty_times_the_patients_an_interval_is_a_fifth_as_wide() -> None:
    few, many = (auroc_interval(score_histogram(*make_cohort(size))) for size in (100, 3000))
    assert few is not None and many is not None
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(np.sqrt(30), rel=0.2)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_what_needs_both_classes_has_no_interval_with_one(labels: list[int]) -> None:
    intervals = confidence_intervals(score_histogram([0.2, 0.5, 0.7][: len(labels)], labels), num_draws=20)
    undefined = ("auroc", "pr_auc", "sensitivity_at_90", "calibration_slope", "calibration_intercept")
    assert all(intervals[name] is None for name in undefined)
    assert (intervals["accuracy"] is None) == (not labels)
    assert (intervals["brier"] is None) == (not labels)


def test_a_bootstrap_whose_draws_are_all_alike_gives_no_interval() -> None:
    intervals = confidence_intervals(score_histogram([0.1] * 20 + [0.9] * 20, [0] * 20 + [1] * 20), num_draws=20)
    assert intervals["brier"] is intervals["loss"] is intervals["calibration_slope"] is None
