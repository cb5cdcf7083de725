"""Permutation importance from the first layer's sums is that of the predicted risks."""

from functools import partial

import pytest

from fedhealth.client.local_model import LocalModel
from fedhealth.client.trainers import Trainers
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import ModelName
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.data.sources.synthetic import sample_one
from fedhealth.metrics.permutation_importance import measure_importance
from fedhealth.models.local_training import Weights
from fedhealth.models.numpy_training import NumpyTrainer

SEED = [3, 14]


class OpaqueTrainer(NumpyTrainer):
    is_dense = False


def make_local(model: ModelName, trainer: type[NumpyTrainer] = NumpyTrainer) -> LocalModel:
    return LocalModel(HEART, FederationSettings(model=model, hidden=6), Trainers(trainer))


def make_case(local: LocalModel, num_patients: int) -> tuple[Weights, Patients, preprocessing.Standardisation]:
    """A trained model and its patients; every third one is a copy of the one before, so that risks are tied."""
    _, features, labels = sample_one(1, num_patients, seed=5)
    features[2::3], labels[2::3] = features[1:-1:3], 1 - labels[1:-1:3]
    patients = Patients(features, labels)
    standardisation = preprocessing.local_standardisation(HEART, features)
    return local.train_further(local.trainer.initial_weights(), patients, standardisation, 5), patients, standardisation


@pytest.mark.parametrize("model", ["logistic", "mlp"])
@pytest.mark.parametrize("num_patients", [21, 192, 900])
def test_the_drops_of_dense_layers_are_those_of_the_predicted_risks(model: ModelName, num_patients: int) -> None:
    local = make_local(model)
    weights, patients, scale = make_case(local, num_patients)
    predict = partial(local.predict_rows, weights, standardisation=scale)
    expected = measure_importance(predict, patients.features, patients.labels, SEED)
    assert local.importance(weights, patients, scale, SEED) == expected
    assert max(expected) > 0.01


def test_another_model_is_asked_for_its_risks() -> None:
    dense, opaque = make_local("mlp"), make_local("mlp", OpaqueTrainer)
    weights, patients, scale = make_case(dense, 90)
    assert opaque.importance(weights, patients, scale, SEED) == dense.importance(weights, patients, scale, SEED)


def test_an_untrained_model_ranks_nobody_so_nothing_is_lost() -> None:
    local = make_local("mlp")
    _, patients, scale = make_case(local, 90)
    found = local.importance(local.trainer.initial_weights(), patients, scale, SEED)
    assert found == [0.0] * len(FEATURE_NAMES)


def test_weights_that_predict_no_number_are_refused() -> None:
    local = make_local("logistic")
    weights, patients, scale = make_case(local, 90)
    weights[0][::2], weights[0][1::2] = 3e38, -3e38
    with pytest.raises(RunError, match="the risks they predict are not numbers"):
        local.importance(weights, patients, scale, SEED)
