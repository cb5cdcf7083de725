"""Histograms of many hospitals at once have the counts, sums and metrics of single ones, bit for bit."""

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import ScoreHistogram, add_histograms, compute_metrics, score_histogram
from fedhealth.metrics.many_clinical import compute_many_clinical
from fedhealth.metrics.many_histograms import ManyHistograms, Scores, join_scores, metrics_by_hospital, score_many
from fedhealth.metrics.many_rows import ManyRows
from fedhealth.server.model_selection import measure_rates, sum_losses

SIZES = (25, 13, 1, 60)
EACH = 40


def draw(generator: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Risks, among them the edges 0, 0.5 and 1, and labels of `EACH` hospitals; the first one's patients are all healthy."""
    risks = (generator.random((EACH, size)) ** 3).astype(np.float32)
    risks[1], risks[2], risks[3] = 0, 0.5, 1
    labels = (generator.random((EACH, size)) < 0.4).astype(np.float32)
    labels[0] = 0
    return risks, labels


def make_pair() -> tuple[ManyHistograms, dict[str, ScoreHistogram]]:
    """The same hospitals in mixed order, as one object and one by one."""
    generator = np.random.default_rng(0)
    drawn = [draw(generator, size) for size in SIZES]
    places = generator.permutation(EACH * len(SIZES))
    names = [f"hospital {place:04}" for place in range(len(places))]
    single = [score_histogram(*pair) for risks, labels in drawn for pair in zip(risks, labels, strict=True)]
    many = ManyHistograms(names, join_scores([score_many(*pair) for pair in drawn], places))
    return many, {names[place]: single[row] for row, place in enumerate(places)}


def require_equal(found: ScoreHistogram, expected: ScoreHistogram) -> None:
    np.testing.assert_array_equal(found.positives, expected.positives)
    np.testing.assert_array_equal(found.negatives, expected.negatives)
    assert (found.log_loss, found.squared_error) == (expected.log_loss, expected.squared_error)


def test_each_histogram_and_its_metrics_are_those_of_the_hospital_alone() -> None:
    many, single = make_pair()
    metrics = many.metrics()
    assert list(many) == sorted(single)
    for name, expected in single.items():
        require_equal(many[name], expected)
        assert metrics[name] == compute_metrics(expected)


def test_the_metrics_of_single_histograms_are_those_of_each_alone() -> None:
    _, single = make_pair()
    single["all of a country"] = ScoreHistogram(np.full(NUM_BINS, 10**7), np.full(NUM_BINS, 3 * 10**7), 1e9, 1e9)
    found = metrics_by_hospital(single)
    assert list(found) == list(single)
    assert found == {name: compute_metrics(histogram) for name, histogram in single.items()}
    assert metrics_by_hospital({}) == {}


def test_losses_and_rates_at_another_threshold_are_those_of_each_alone() -> None:
    many, single = make_pair()
    assert many.losses() == {name: single[name].log_loss for name in sorted(single)}
    assert many.metrics(0.3) == {name: compute_metrics(histogram, 0.3) for name, histogram in single.items()}
    assert many.metrics(0.3) != many.metrics()
    assert sum_losses(many) == sum_losses(single)
    assert measure_rates(many, 0.3) == measure_rates(dict(sorted(single.items())), 0.3)


def test_the_pooled_histogram_is_the_sum() -> None:
    many, single = make_pair()
    require_equal(many.pooled(), add_histograms(single[name] for name in sorted(single)))


def test_two_patients_by_hand() -> None:
    scores = score_many(np.array([[0.5, 1]], np.float32), np.array([[1, 0]], np.float32))
    assert isinstance(scores, Scores)
    (found,) = ManyHistograms(["one"], scores).metrics().values()
    assert (found.num_examples, found.num_ill, found.auroc, found.accuracy) == (2, 1, 0, 0.5)
    assert found.brier == (0.25 + 1) / 2


def test_the_clinical_metrics_of_each_hospital_are_those_of_its_histogram_bit_for_bit() -> None:
    many, single = make_pair()
    found = many.clinical()
    expected = [flat_metrics(compute_clinical_metrics(histogram)) for _, histogram in sorted(single.items())]
    assert list(found) == list(expected[0])
    for name, values in found.items():
        np.testing.assert_array_equal(values, [np.nan if each[name] is None else each[name] for each in expected])
        assert 0 < np.isnan(values).sum() < len(values)


def test_clinical_metrics_of_hospitals_with_few_or_separated_or_extreme_risks_are_those_of_each_alone() -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random((300, 13)) < 0.5).astype(np.float32)
    log_odds = generator.normal(
        labels * generator.integers(-2, 9, size=(300, 1)), generator.integers(1, 9, size=(300, 1))
    )
    risks = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
    found = ManyHistograms([f"{number}" for number in range(300)], score_many(risks, labels)).clinical()
    for place in range(300):
        expected = flat_metrics(compute_clinical_metrics(score_histogram(risks[place], labels[place])))
        assert {name: None if np.isnan(each[place]) else each[place] for name, each in found.items()} == expected


def test_no_hospital_has_no_clinical_metrics() -> None:
    assert all(
        len(values) == 0 for values in compute_many_clinical(np.zeros((0, 2, NUM_BINS), int), np.zeros(0)).values()
    )


def test_rows_of_columns_are_those_of_a_dictionary() -> None:
    columns = {"loss": np.array([0.5, np.nan]), "patients": np.array([3, 4])}
    rows = ManyRows(["b", "a"], columns, dict)
    assert rows == {"b": {"loss": 0.5, "patients": 3}, "a": {"loss": None, "patients": 4}}
    assert list(rows.items()) == [(name, rows[name]) for name in ("b", "a")]
    assert (len(rows), "a" in rows, rows.get("c")) == (2, True, None)
