"""The trainers of a process, one for each model; the hospitals of one process may share them."""

from typing import TYPE_CHECKING, Any, Protocol

from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import encoded_names
from fedhealth.data.schema import Schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedhealth.models.dp_sgd import DpSgdTrainer
    from fedhealth.models.local_training import Examples, LocalObjective, Weights

KEPT_TRAINERS = 16
"""Number of trainers of each kind that are kept."""


class Trainer(Protocol):
    """Interface of a model's trainer: `models.training.Trainer` (Keras), or another with the same methods."""

    weight_names: list[str]
    is_dense: bool
    """Whether the model is one of `ModelName`: dense layers with ReLU between them, and log odds last."""

    def initial_weights(self) -> "Weights":
        """The seeded weights."""
        ...

    def warm_up(self) -> None:
        """Run once, so that the first round takes no longer than later ones."""
        ...

    def train(
        self,
        weights: "Weights",
        examples: "Examples",
        orders: "NDArray[np.int32]",
        objective: "LocalObjective | None" = None,
    ) -> "tuple[Weights, float]":
        """New weights and the mean training loss."""
        ...

    def predict_and_train(
        self,
        weights: "Weights",
        tests: "Examples",
        examples: "Examples",
        orders: "NDArray[np.int32]",
        objective: "LocalObjective | None" = None,
    ) -> "tuple[NDArray[np.float32], Weights, float]":
        """The risks of the patients `tests` before the training, the new weights and the mean training loss."""
        ...

    def predict(self, weights: "Weights", inputs: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Predicted risks (num_patients,)."""
        ...


class TrainerFactory(Protocol):
    """Makes a trainer."""

    def __call__(
        self,
        *,
        model_name: Any,
        num_inputs: int,
        learning_rate: float,
        batch_size: int,
        seed: int,
        hidden: int,
        weight_decay: float,
    ) -> Trainer:
        """A trainer of this model."""
        ...


class Trainers:
    """Trainers by the settings they depend on: federations that differ only in other settings share a compiled trainer.

    `factory` makes the trainers; the default is Keras, and TensorFlow is imported when the first trainer is needed.
    """

    def __init__(self, factory: TrainerFactory | None = None) -> None:
        self._factory = factory
        self._trainers = BoundedCache[tuple[tuple[str, Any], ...], Trainer](KEPT_TRAINERS)
        self._dp_trainers = BoundedCache[Any, "DpSgdTrainer"](KEPT_TRAINERS)

    def load(self) -> TrainerFactory:
        """The factory; imports TensorFlow if that is needed and has not been done."""
        if self._factory is None:
            from fedhealth.models.training import Trainer as KerasTrainer

            self._factory = KerasTrainer
        return self._factory

    def trainer(self, schema: Schema, settings: FederationSettings) -> Trainer:
        """The trainer of this federation's model."""
        choices: dict[str, Any] = {
            "model_name": settings.model,
            "num_inputs": count_inputs(schema, settings),
            "learning_rate": settings.local_learning_rate,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            "hidden": settings.hidden,
            "weight_decay": settings.weight_decay,
        }
        return self._trainers.get(tuple(choices.items()), lambda: self.load()(**choices))

    def dp_trainer(self, schema: Schema, settings: FederationSettings) -> "DpSgdTrainer":
        """The DP-SGD trainer of the same model; Keras only."""
        trainer: Any = self.trainer(schema, settings)
        return self._dp_trainers.get(trainer, lambda: _make_dp_trainer(trainer))


def count_inputs(schema: Schema, settings: FederationSettings) -> int:
    """The model's number of inputs."""
    return len(encoded_names(schema, settings.missing_indicators))


def _make_dp_trainer(trainer: Any) -> "DpSgdTrainer":
    from fedhealth.models.dp_sgd import DpSgdTrainer

    return DpSgdTrainer(trainer)
