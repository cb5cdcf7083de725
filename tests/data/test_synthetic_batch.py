"""Invented hospitals by number: the same patients as the slow recipe's, and very many of them."""

import numpy as np
import pytest

from fedhealth.data import schema
from fedhealth.data.sources.synthetic import load_statistics, sample_hospital
from fedhealth.data.sources.synthetic_batch import sample_one, sample_patients_of


@pytest.mark.parametrize("hospital", schema.HOSPITALS)
@pytest.mark.parametrize("num_patients", [2, 50, 303])
def test_the_patients_are_bit_for_bit_those_of_the_synthetic_cohort(hospital: str, num_patients: int) -> None:
    table = sample_hospital(load_statistics(), hospital, num_patients, np.random.default_rng([3, 1]))
    features, labels = sample_patients_of(hospital, num_patients, np.random.default_rng([3, 1]))
    np.testing.assert_array_equal(features, table[list(schema.FEATURE_NAMES)].to_numpy())
    np.testing.assert_array_equal(labels, table[schema.TARGET].to_numpy())


def test_a_hospital_depends_on_its_number_and_the_seed_only() -> None:
    name, features, labels = sample_one(5, 100, seed=1)
    assert (name, features.shape, labels.shape) == ("synthetic-hungary-000006", (100, 13), (100,))
    np.testing.assert_array_equal(features, sample_one(5, 100, seed=1)[1])
    assert not np.array_equal(features, sample_one(9, 100, seed=1)[1], equal_nan=True)
    assert not np.array_equal(features, sample_one(5, 100, seed=2)[1], equal_nan=True)
