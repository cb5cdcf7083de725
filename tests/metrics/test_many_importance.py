"""Importance and subgroups of many hospitals at once are those of each alone."""

from functools import partial

import numpy as np
import pytest

from fedhealth.common.seeding import seeded_generators
from fedhealth.data.sources.heart import HEART
from fedhealth.data.sources.synthetic import sample_many
from fedhealth.metrics.layer_importance import measure_layer_importance
from fedhealth.metrics.many_importance import can_measure_many, measure_many_importance
from fedhealth.metrics.many_subgroups import count_many_subgroups, disclosed_rows
from fedhealth.metrics.permutation_importance import SHUFFLE_STREAM
from fedhealth.metrics.subgroups import count_subgroups
from fedhealth.models.local_training import Weights, finish_layers

HOSPITALS, FEATURES = 90, 5


@pytest.mark.parametrize(("num_ill", "num_healthy"), [(1, 1), (6, 7), (30, 45)])
@pytest.mark.parametrize("hidden", [0, 32])
def test_the_drops_of_each_hospital_are_those_of_it_alone(num_ill: int, num_healthy: int, hidden: int) -> None:
    generator = np.random.default_rng(0)
    patients, units = num_ill + num_healthy, hidden or 1
    parts = list(generator.normal(size=(FEATURES, HOSPITALS, patients, units)).round(1).astype(np.float32))
    bias = generator.normal(size=units).astype(np.float32)
    weights: Weights = [np.zeros((FEATURES, units), np.float32), bias]
    if hidden:
        weights += [generator.normal(size=(hidden, 1)).astype(np.float32), np.float32([0.1])]
    labels = generator.permuted(np.tile(np.repeat(np.float32([0, 1]), [num_healthy, num_ill]), (HOSPITALS, 1)), axis=1)
    rank, seeds = partial(finish_layers, weights), np.arange(HOSPITALS) * 1000
    generators = seeded_generators([SHUFFLE_STREAM, 4], seeds)
    found = measure_many_importance(parts, bias, rank, labels, generators)
    for place, seed in enumerate(seeds.tolist()):
        alone = measure_layer_importance([part[place] for part in parts], bias, rank, labels[place], [4, seed])
        assert found[place].tolist() == alone
    assert can_measure_many(num_ill, num_healthy, FEATURES)


def test_large_hospitals_are_measured_one_by_one() -> None:
    assert not can_measure_many(1000, 1000, 13)
    assert not can_measure_many(3, 300, 13)


def test_the_subgroups_of_each_hospital_are_those_of_it_alone() -> None:
    names, features, labels = sample_many(list(range(0, 4 * HOSPITALS, 4)), 40, seed=1)
    risks = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    for least in (1, 5, 12):
        found = disclosed_rows(names, count_many_subgroups(HEART, features, labels, risks, least))
        expected = {
            name: count_subgroups(HEART, features[place], labels[place], risks[place], least)
            for place, name in enumerate(names)
        }
        assert found == expected
        assert (least > 1) == any(len(each) < 5 for each in expected.values())
