"""The model of one federation at one hospital: requests to weights, patients to inputs, inputs to risks."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import ArrayLike, NDArray

from fedhealth.client.trainers import Trainer, Trainers
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.models.local_training import Examples, LocalObjective, Weights, shuffled_orders
from fedhealth.transport.protocol import fields
from fedhealth.transport.protocol.fields import NO_MEANS, Scale
from fedhealth.transport.protocol.training import TrainRequest

if TYPE_CHECKING:
    from fedhealth.models.dp_sgd import DpSgdTrainer

T = TypeVar("T")
KEPT_EXAMPLES = 8
"""Patients to train, choose and test on, by the federation's standardisation and by the hospital's own, and two more."""


class LocalModel:
    """A model, its trainer, and the patients' inputs that were prepared for it last."""

    def __init__(self, settings: FederationSettings, trainers: Trainers) -> None:
        self.settings = settings
        self._trainers = trainers
        self._prepared = BoundedCache[tuple[Patients, Standardisation], Examples](KEPT_EXAMPLES)

    def with_settings(self, settings: FederationSettings) -> "LocalModel":
        """The model of other settings, by the same trainers."""
        return LocalModel(settings, self._trainers)

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer, made when it is first needed."""
        return self._trainers.trainer(self.settings)

    @cached_property
    def dp_trainer(self) -> "DpSgdTrainer":
        """The trainer with noisy steps."""
        return self._trainers.dp_trainer(self.settings)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in order."""
        weights = self.trainer.initial_weights()
        return {name: weight.shape for name, weight in zip(self.trainer.weight_names, weights, strict=True)}

    def prepare(self, patients: Patients, standardisation: Standardisation) -> Examples:
        """The patients as the model takes them."""
        return self._prepared.get((patients, standardisation), lambda: self._encode(patients, standardisation))

    def _encode(self, patients: Patients, standardisation: Standardisation) -> Examples:
        encoded = preprocessing.encode(patients.features, self.settings.missing_indicators)
        return Examples(preprocessing.standardise(encoded, standardisation), patients.labels)

    def predict(self, weights: Weights, patients: Patients, standardisation: Standardisation) -> NDArray[np.float32]:
        """Risks (num_patients,) by a model with these weights."""
        return self.trainer.predict(weights, self.prepare(patients, standardisation).inputs)

    def predict_rows(
        self, weights: Weights, features: NDArray[np.float64], standardisation: Standardisation
    ) -> NDArray[np.float32]:
        """Risks (num_rows,) of `features` (num_rows, 13) that are no hospital's, such as shuffled ones; nothing is kept."""
        encoded = preprocessing.encode(features, self.settings.missing_indicators)
        return require_risks(self.trainer.predict(weights, preprocessing.standardise(encoded, standardisation)))

    def train_further(
        self, weights: Weights, patients: Patients, standardisation: Standardisation, epochs: int
    ) -> Weights:
        """Weights after some more epochs on these patients."""
        orders = shuffled_orders(num_patients=len(patients), num_epochs=epochs, seed=[self.settings.seed])
        return self.trainer.train(weights, self.prepare(patients, standardisation), orders)[0]

    def order_weights(self, named: fields.Weights) -> Weights:
        """The weights of a request in the model's order; a `RunError` if they are not this model's."""
        if set(named) != set(self.shapes):
            raise RunError("the server's weights make no sense: they are not those of this model")
        if any(named[name].dtype != np.float32 or named[name].shape != shape for name, shape in self.shapes.items()):
            raise RunError("the server's weights make no sense: their types or shapes are not those of this model")
        return [named[name] for name in self.shapes]

    def name_weights(self, weights: Weights) -> fields.Weights:
        """The weights as a message holds them."""
        return dict(zip(self.trainer.weight_names, weights, strict=True))

    def standardisation(self, scale: Scale | None, train: Patients) -> Standardisation:
        """The standardisation of a request, or (scaling local) that of the hospital's training patients."""
        if self.settings.scaling == "local":
            return preprocessing.local_standardisation(train.features)
        if scale is None:
            raise RunError(NO_MEANS)
        return Standardisation(**vars(scale))

    def objective(self, request: TrainRequest) -> LocalObjective | None:
        """What the strategy asks for beside plain descent, if anything."""
        proximal_mu = request.proximal_mu
        correction = None if request.correction is None else self.order_weights(request.correction)
        if request.class_weights:
            return LocalObjective(proximal_mu, correction, request.class_weights)
        return LocalObjective(proximal_mu, correction) if proximal_mu or correction else None


def read_request(decode: Callable[[RecordDict], T], content: RecordDict) -> T:
    """The decoded request; a `RunError` with the decoder's text, which the server may read, if it makes no sense."""
    try:
        return decode(content)
    except ValueError as error:
        raise RunError(str(error)) from None


def require_finite(*trained: ArrayLike) -> None:
    """Raise a `RunError` if training gave weights or a loss that are not finite."""
    if not all(np.all(np.isfinite(each)) for each in trained):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")


def require_risks(risks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The risks, if they are numbers: finite weights may be too large to give any."""
    if not np.all(np.isfinite(risks)):
        raise RunError("the server's weights make no sense: they give risks that are no numbers")
    return risks
