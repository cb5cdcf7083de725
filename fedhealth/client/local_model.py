"""The model of one federation at one hospital: converts requests to weights, patients to inputs, and inputs to risks."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import ArrayLike, NDArray

from fedhealth.client.trainers import Trainer, Trainers
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.errors import PatientsError, RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.metrics.layer_importance import measure_layer_importance
from fedhealth.metrics.permutation_importance import measure_importance
from fedhealth.models.local_training import (
    Examples,
    LocalObjective,
    Weights,
    finish_layers,
    shuffled_orders,
    split_first_layer,
)
from fedhealth.models.newton_sums import with_ones
from fedhealth.transport.protocol import fields
from fedhealth.transport.protocol.fields import NO_MEANS, Scale
from fedhealth.transport.protocol.training import TrainRequest

if TYPE_CHECKING:
    from fedhealth.models.dp_sgd import DpSgdTrainer

T = TypeVar("T")
KEPT_EXAMPLES = 8
"""Training, validation and test patients under two standardisations (the federation's, the hospital's), and two more."""


class LocalModel:
    """A model, its trainer, and a cache of prepared inputs."""

    def __init__(self, schema: Schema, settings: FederationSettings, trainers: Trainers) -> None:
        self.schema = schema
        self.settings = settings
        self._trainers = trainers
        self._prepared = BoundedCache[tuple[Patients, Standardisation], Examples](KEPT_EXAMPLES)
        self._exact = BoundedCache[tuple[Patients, Standardisation], NDArray[np.float64]](1)

    def with_settings(self, settings: FederationSettings) -> "LocalModel":
        """The model with other settings and the same trainers."""
        return LocalModel(self.schema, settings, self._trainers)

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer, created when first needed."""
        return self._trainers.trainer(self.schema, self.settings)

    @cached_property
    def dp_trainer(self) -> "DpSgdTrainer":
        """The DP-SGD trainer."""
        return self._trainers.dp_trainer(self.schema, self.settings)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in order."""
        weights = self.trainer.initial_weights()
        return {name: weight.shape for name, weight in zip(self.trainer.weight_names, weights, strict=True)}

    def prepare(self, patients: Patients, standardisation: Standardisation) -> Examples:
        """The patients' standardised inputs and labels."""
        return self._prepared.get((patients, standardisation), lambda: self._encode(patients, standardisation))

    def _encode(self, patients: Patients, standardisation: Standardisation) -> Examples:
        encoded = preprocessing.encode(self.schema, patients.features, self.settings.missing_indicators)
        return Examples(preprocessing.standardise(encoded, standardisation), patients.labels)

    def prepare_exact(self, patients: Patients, standardisation: Standardisation) -> NDArray[np.float64]:
        """The patients' standardised inputs in float64, with a last column of ones."""
        return self._exact.get((patients, standardisation), lambda: self._encode_exact(patients, standardisation))

    def _encode_exact(self, patients: Patients, standardisation: Standardisation) -> NDArray[np.float64]:
        encoded = preprocessing.encode(self.schema, patients.features, self.settings.missing_indicators, np.float64)
        return with_ones(preprocessing.standardise(encoded, standardisation))

    def predict(self, weights: Weights, patients: Patients, standardisation: Standardisation) -> NDArray[np.float32]:
        """Predicted risks (num_patients,) under these weights."""
        return self.trainer.predict(weights, self.prepare(patients, standardisation).inputs)

    def importance(
        self, weights: Weights, test: Patients, standardisation: Standardisation, seed: Sequence[int]
    ) -> list[float]:
        """Permutation importance of each feature on these test patients, of whom some are ill and some healthy."""
        require_risks(self.predict(weights, test, standardisation))
        if not self.trainer.is_dense:
            predict = partial(self.predict_rows, weights, standardisation=standardisation)
            return measure_importance(predict, test.features, test.labels, seed=seed)
        places = preprocessing.input_places(self.schema, self.settings.missing_indicators)
        parts = split_first_layer(weights, self.prepare(test, standardisation).inputs, places)
        return measure_layer_importance(parts, weights[1], partial(finish_layers, weights), test.labels, seed)

    def predict_rows(
        self, weights: Weights, features: NDArray[np.float64], standardisation: Standardisation
    ) -> NDArray[np.float32]:
        """Predicted risks (num_rows,) of `features` (num_rows, num_features), such as shuffled ones; not cached."""
        encoded = preprocessing.encode(self.schema, features, self.settings.missing_indicators)
        return require_risks(self.trainer.predict(weights, preprocessing.standardise(encoded, standardisation)))

    def train_further(
        self, weights: Weights, patients: Patients, standardisation: Standardisation, epochs: int
    ) -> Weights:
        """Weights after `epochs` more epochs on these patients."""
        orders = shuffled_orders(num_patients=len(patients), num_epochs=epochs, seed=[self.settings.seed])
        return self.trainer.train(weights, self.prepare(patients, standardisation), orders)[0]

    def order_weights(self, named: fields.Weights) -> Weights:
        """The weights of a request in the model's order; raises a `RunError` if they do not fit this model."""
        if set(named) != set(self.shapes):
            raise RunError("the server's weights are invalid: they are not those of this model")
        if any(named[name].dtype != np.float32 or named[name].shape != shape for name, shape in self.shapes.items()):
            raise RunError("the server's weights are invalid: their types or shapes are not those of this model")
        return [named[name] for name in self.shapes]

    def name_weights(self, weights: Weights) -> fields.Weights:
        """The weights by name, as in a message."""
        return dict(zip(self.trainer.weight_names, weights, strict=True))

    def standardisation(self, scale: Scale | None, train: Patients) -> Standardisation:
        """The standardisation of a request, or with `--scaling local` that of the hospital's training patients."""
        if self.settings.scaling == "local":
            return preprocessing.local_standardisation(self.schema, train.features)
        if scale is None:
            raise RunError(NO_MEANS)
        if len(scale.means) != len(self.schema.numbers):
            raise RunError(f"the server's means are invalid: {len(self.schema.numbers)} numbers are needed")
        return Standardisation(**vars(scale))

    def objective(self, request: TrainRequest) -> LocalObjective | None:
        """The changes to the local objective that the strategy requests; None for plain gradient descent."""
        proximal_mu = request.proximal_mu
        correction = None if request.correction is None else self.order_weights(request.correction)
        if request.class_weights:
            return LocalObjective(proximal_mu, correction, request.class_weights)
        return LocalObjective(proximal_mu, correction) if proximal_mu or correction else None


def read_request(decode: Callable[[RecordDict], T], content: RecordDict) -> T:
    """The decoded request; raises a `RunError` with the decoder's text if it is invalid."""
    try:
        return decode(content)
    except ValueError as error:
        raise RunError(str(error)) from None


def require_finite(*trained: ArrayLike) -> None:
    """Raise a `PatientsError` if weights or loss are not finite after training."""
    if not all(np.all(np.isfinite(each)) for each in trained):
        raise PatientsError("training diverged: the weights are not finite; lower --learning-rate at the server")


def require_risks(risks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The risks; raises a `PatientsError` if one is NaN, as very large finite weights can cause."""
    if not np.all(np.isfinite(risks)):
        raise PatientsError("the server's weights are invalid: the risks they predict are not numbers")
    return risks
