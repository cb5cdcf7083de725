"""What a model goes by: on patients whose answer is known beforehand, and summed up over hospitals."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fedhealth.data.sources.heart import FEATURE_NAMES
from fedhealth.metrics.permutation_importance import (
    MOST_ROWS,
    NUM_SHUFFLES,
    combine_importance,
    measure_importance,
    shuffle_each,
)
from fedhealth.metrics.ranking import exact_auroc
from tests.support.pairs import pairwise_auroc
from tests.support.run_folders import make_features

AGE, SEX, CHOL = (FEATURE_NAMES.index(name) for name in ("age", "sex", "chol"))


def by_column(place: int) -> "np.ufunc | object":
    """A model whose risk is one column, and 0 where that is missing."""
    return lambda features: np.nan_to_num(features[:, place], nan=0.0).astype(np.float32)


def patients(num: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """The ill are older, all of them."""
    features, labels = make_features(num), (np.arange(num) % 2).astype(np.float32)
    features[:, AGE] = np.arange(num) + 1000 * labels
    return features, labels


def test_the_feature_that_a_model_goes_by_costs_half_the_auroc_and_all_others_nothing() -> None:
    drops = dict(zip(FEATURE_NAMES, measure_importance(by_column(AGE), *patients(), [0]), strict=True))  # type: ignore[arg-type]
    assert drops.pop("age") == pytest.approx(0.5, abs=0.02)
    assert set(drops.values()) == {0.0}


def test_a_model_that_is_wrong_the_wrong_way_round_gains_what_it_loses_its_feature_for() -> None:
    features, labels = patients()
    drops = measure_importance(by_column(AGE), features, 1 - labels, [0])  # type: ignore[arg-type]
    assert drops[AGE] == pytest.approx(-0.5, abs=0.02)


def test_that_a_value_is_missing_is_shuffled_with_it() -> None:
    features, labels = patients()
    features[:, CHOL] = np.where(labels > 0, np.nan, 200.0)

    def by_missing(rows: np.ndarray) -> np.ndarray:
        return np.isnan(rows[:, CHOL]).astype(np.float32)

    assert measure_importance(by_missing, features, labels, [0])[CHOL] == pytest.approx(0.5, abs=0.02)


def test_shuffling_moves_one_column_at_a_time_and_keeps_its_values() -> None:
    features, _ = patients(30)
    blocks = shuffle_each(features, 2, np.random.default_rng(0)).reshape(2, len(FEATURE_NAMES), 30, len(FEATURE_NAMES))
    for block in blocks:
        for place, rows in enumerate(block):
            np.testing.assert_array_equal(np.delete(rows, place, axis=1), np.delete(features, place, axis=1))
            np.testing.assert_array_equal(np.sort(rows[:, place]), np.sort(features[:, place]))
    assert not np.array_equal(blocks[0, AGE, :, AGE], blocks[1, AGE, :, AGE])
    assert not np.array_equal(blocks[0, AGE, :, AGE], features[:, AGE])


def test_the_drops_are_those_of_a_plain_loop_over_pairwise_aurocs() -> None:
    features, labels = make_features(120), (np.arange(120) % 2).astype(np.float32)
    labels[features[:, AGE] > 60] = 1
    known = np.nan_to_num(features)
    model = LogisticRegression(max_iter=5000).fit(known, labels)

    def predict(rows: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-np.nan_to_num(rows) @ model.coef_[0] - model.intercept_)), np.float32)

    whole, rng = pairwise_auroc(labels, predict(features)), np.random.default_rng(7)
    theirs = np.zeros(len(FEATURE_NAMES))
    for _ in range(60):
        for place in range(len(FEATURE_NAMES)):
            rows = features.copy()
            rows[:, place] = rng.permutation(rows[:, place])
            theirs[place] += (whole - pairwise_auroc(labels, predict(rows))) / 60
    np.testing.assert_allclose(measure_importance(predict, features, labels, [0]), theirs, atol=0.025)
    assert theirs.max() > 0.1


def test_the_same_seed_gives_the_same_drops_and_another_one_others() -> None:
    features, labels = make_features(60), (np.arange(60) % 2).astype(np.float32)
    one, same, other = (measure_importance(by_column(AGE), features, labels, seed) for seed in ([1], [1], [2]))  # type: ignore[arg-type]
    assert one == same != other
    assert all(drop == round(drop, 3) for drop in one)


def test_a_large_hospital_is_predicted_in_pieces_and_a_small_one_at_once() -> None:
    def pieces_of(num: int) -> list[int]:
        seen: list[int] = []

        def predict(rows: np.ndarray) -> np.ndarray:
            seen.append(len(rows))
            return rows[:, AGE].astype(np.float32)

        features, labels = patients(num)
        measure_importance(predict, features, labels, [0])
        return seen

    assert pieces_of(20) == [20, NUM_SHUFFLES * 13 * 20]
    large = pieces_of(1000)
    assert len(large) > 2 and sum(large) == 1000 + NUM_SHUFFLES * 13 * 1000
    assert max(large) <= MOST_ROWS


def test_all_together_is_the_drop_in_the_share_of_ordered_pairs_within_hospitals() -> None:
    generator, drops, pairs, ordered = np.random.default_rng(0), {}, {}, {"whole": 0.0, "shuffled": 0.0}
    for name, ill, healthy in (("a", 5, 9), ("b", 20, 8), ("c", 6, 6)):
        labels = np.repeat([1, 0], [ill, healthy])
        risks, shuffled = generator.random(ill + healthy), generator.random(ill + healthy)
        before, after = exact_auroc(risks, labels), exact_auroc(shuffled, labels)
        assert before is not None and after is not None
        drops[name], pairs[name] = [before - after] * 13, ill * healthy
        ordered["whole"] += sum(one > other for one in risks[:ill] for other in risks[ill:])
        ordered["shuffled"] += sum(one > other for one in shuffled[:ill] for other in shuffled[ill:])
    combined = combine_importance(FEATURE_NAMES, drops, pairs, {"d": "not here"})
    expected = (ordered["whole"] - ordered["shuffled"]) / sum(pairs.values())
    assert combined.together == pytest.approx(dict.fromkeys(FEATURE_NAMES, expected), abs=0.0005)
    assert combined.missing == {"d": "not here"}


def test_of_nobodys_answer_nothing_is_made() -> None:
    assert combine_importance(FEATURE_NAMES, {}, {"a": 6}, {"a": "not here"}).together == {}
