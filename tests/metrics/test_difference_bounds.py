"""Differences between two models on the same patients, bounded from their histograms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.metrics.difference_bounds import Difference, bound_differences
from fedhealth.metrics.histogram import score_histogram
from fedhealth.metrics.intervals import confidence_intervals, wilson_interval
from fedhealth.metrics.paired_comparison import compare_paired


def found(one: list[float], other: list[float], labels: list[int]) -> dict[str, Difference]:
    differences = bound_differences(score_histogram(one, labels), score_histogram(other, labels))
    return {difference.metric: difference for difference in differences}


def test_differences_of_four_patients_are_those_computed_by_hand() -> None:
    one, other = [0.9, 0.6, 0.4, 0.1], [0.9, 0.2, 0.4, 0.1]  # two ill patients, then two healthy ones
    differences = found(one, other, [1, 1, 0, 0])
    assert differences["accuracy"].difference == pytest.approx(4 / 4 - 3 / 4)
    assert differences["auroc"].difference == pytest.approx(4 / 4 - 3 / 4)
    assert differences["brier"].difference == pytest.approx((0.4**2 - 0.8**2) / 4)


def test_limits_are_one_lower_limit_minus_the_others_upper_limit_and_the_reverse() -> None:
    differences = found([0.9, 0.6, 0.4, 0.1], [0.9, 0.2, 0.4, 0.1], [1, 1, 0, 0])
    (low, high), (other_low, other_high) = wilson_interval(4, 4), wilson_interval(3, 4)
    assert differences["accuracy"].at_most == pytest.approx((low - other_high, high - other_low))


def test_limits_of_the_auroc_allow_for_pairs_that_share_a_bin() -> None:
    risks, apart = [0.501, 0.502, 0.9, 0.1], [0.6, 0.4, 0.9, 0.1]
    labels = [1, 0, 1, 0]
    histograms = [score_histogram(each, labels) for each in (risks, apart)]
    (low, high), (other_low, other_high) = (confidence_intervals(each)["auroc"] or (0, 0) for each in histograms)
    shared = 1 / 2 / 4  # one of four pairs shares a bin and counts half
    assert found(risks, apart, labels)["auroc"].at_most == pytest.approx(
        (low - other_high - shared, high - other_low + shared)
    )


def test_the_order_of_the_runs_only_changes_the_sign() -> None:
    one, other, labels = [0.9, 0.6, 0.4, 0.1, 0.7], [0.9, 0.2, 0.4, 0.1, 0.3], [1, 1, 0, 0, 1]
    ahead, back = found(one, other, labels), found(other, one, labels)
    for metric, difference in ahead.items():
        limits, mirrored = difference.at_most, back[metric].at_most
        assert difference.difference == pytest.approx(-(back[metric].difference or 0))
        assert limits and mirrored and limits == pytest.approx((-mirrored[1], -mirrored[0]))


def test_without_healthy_patients_there_is_no_difference_in_auroc() -> None:
    assert found([0.9, 0.4], [0.8, 0.6], [1, 1])["auroc"] == Difference("auroc", None, None)


@pytest.mark.parametrize("pairing", ["the same order", "the opposite order", "any order"])
def test_the_paired_bootstrap_is_within_the_limits_whatever_the_pairing(pairing: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], 60)
    one, other = (1 / (1 + np.exp(-rng.normal(skill * (2 * labels - 1), 1.0))) for skill in (1.0, 0.7))
    for label in (0, 1):  # pairs the patients of a class anew, which changes neither histogram
        rows = np.flatnonzero(labels == label)
        one[rows] = np.sort(one[rows])
        ordered = np.sort(other[rows])
        other[rows] = {"the same order": ordered, "the opposite order": ordered[::-1]}.get(
            pairing, rng.permutation(ordered)
        )
    differences = found(list(one), list(other), list(labels))
    for metric in ("auroc", "brier"):
        paired, limits = compare_paired(one, other, labels, metric), differences[metric].at_most
        assert limits and limits[0] < paired.low < paired.high < limits[1]


risks = st.floats(0, 1)


@given(st.lists(st.tuples(risks, risks, st.booleans()), min_size=1, max_size=30))
def test_a_difference_is_always_within_its_limits(patients: list[tuple[float, float, bool]]) -> None:
    one, other, labels = (list(values) for values in zip(*patients, strict=True))
    for difference in bound_differences(score_histogram(one, labels), score_histogram(other, labels)):
        if difference.difference is not None and difference.at_most and difference.metric != "brier":
            low, high = difference.at_most
            assert low - 1e-12 <= difference.difference <= high + 1e-12
