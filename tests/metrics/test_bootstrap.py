"""A bootstrap over bins: all draws at once as each by itself, as wide as one over patients."""

import numpy as np
import pytest

from fedhealth.metrics.bootstrap import bootstrap_intervals, resampled_metrics
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import ScoreHistogram, compute_metrics, score_histogram
from tests.support.cohorts import make_cohort


def all_metrics(histogram: ScoreHistogram) -> dict[str, float | None]:
    return {**vars(compute_metrics(histogram)), **flat_metrics(compute_clinical_metrics(histogram))}


@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_of_many_draws_at_once_are_those_of_each_by_itself(seed: int) -> None:
    histograms = [score_histogram(*make_cohort(size, seed=seed)) for size in (40, 90, 400)]
    ill, healthy = (np.stack([getattr(each, name) for each in histograms]) for name in ("positives", "negatives"))
    at_once = resampled_metrics(ill, healthy)
    by_middles = {"brier": 0.0051, "loss": 0.0051, "calibration_slope": 0.02, "calibration_intercept": 0.02}
    for place, histogram in enumerate(histograms):
        alone = all_metrics(histogram)
        for name in at_once:
            assert at_once[name][place] == pytest.approx(alone[name], abs=by_middles.get(name, 1e-9)), name


def test_separated_classes_have_no_calibration_line_in_any_draw() -> None:
    histogram = score_histogram([0.1] * 20 + [0.9] * 20, [0] * 20 + [1] * 20)
    intervals = bootstrap_intervals(histogram, all_metrics(histogram), num_draws=50)
    assert intervals["calibration_slope"] is intervals["calibration_intercept"] is None


def test_an_interval_is_about_the_given_value_where_the_bins_give_another() -> None:
    histogram = score_histogram(*make_cohort(600))
    values = all_metrics(histogram)
    intervals = bootstrap_intervals(histogram, values, num_draws=100)
    moved = bootstrap_intervals(histogram, {**values, "brier": 0.5}, num_draws=100)["brier"]
    interval, brier = intervals["brier"], values["brier"]
    assert interval and moved and brier
    assert interval[0] < brier < interval[1]
    assert moved == pytest.approx((interval[0] + 0.5 - brier, interval[1] + 0.5 - brier))


def test_intervals_are_repeatable_and_other_with_another_seed() -> None:
    histogram = score_histogram(*make_cohort(300))
    values = all_metrics(histogram)
    first, again, other = (bootstrap_intervals(histogram, values, num_draws=60, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_bootstrap_over_bins_is_as_wide_as_one_over_patients() -> None:
    """Stratified by label, the Brier score is the weighted mean of two means."""
    risks, labels = make_cohort(300)
    histogram = score_histogram(risks, labels)
    interval = bootstrap_intervals(histogram, all_metrics(histogram), num_draws=400)["brier"]
    errors = (risks - labels) ** 2
    spread = np.sqrt(sum(errors[labels == label].var() * (labels == label).sum() for label in (0, 1))) / 300
    assert interval is not None
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * spread, rel=0.15)
