"""The trainers of a process, made once for each model; hospitals of one process may share them."""

from typing import TYPE_CHECKING, Any, Protocol

from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import encoded_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedhealth.models.dp_sgd import DpSgdTrainer
    from fedhealth.models.local_training import Examples, LocalObjective, Weights

KEPT_TRAINERS = 16
"""How many trainers of each kind are kept."""


class Trainer(Protocol):
    """What trains one model: `models.training.Trainer` (Keras), or another with the same methods."""

    weight_names: list[str]

    def initial_weights(self) -> "Weights":
        """The seeded weights."""
        ...

    def warm_up(self) -> None:
        """Make the first round cost what every round costs."""
        ...

    def train(
        self,
        weights: "Weights",
        examples: "Examples",
        orders: "NDArray[np.int32]",
        objective: "LocalObjective | None" = None,
    ) -> "tuple[Weights, float]":
        """New weights and the mean loss on the way."""
        ...

    def predict(self, weights: "Weights", inputs: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Risks (num_patients,)."""
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
    """Trainers by the settings that they depend on: federations that differ in other settings share what was compiled.

    `factory` makes the trainers; without one they are Keras', and TensorFlow is imported when the first is needed.
    """

    def __init__(self, factory: TrainerFactory | None = None) -> None:
        self._factory = factory
        self._trainers = BoundedCache[tuple[tuple[str, Any], ...], Trainer](KEPT_TRAINERS)
        self._dp_trainers = BoundedCache[Any, "DpSgdTrainer"](KEPT_TRAINERS)

    def load(self) -> TrainerFactory:
        """Import what the trainers need, if that has not been done yet; returns the factory."""
        if self._factory is None:
            from fedhealth.models.training import Trainer as KerasTrainer

            self._factory = KerasTrainer
        return self._factory

    def trainer(self, settings: FederationSettings) -> Trainer:
        """The trainer of this federation's model."""
        choices: dict[str, Any] = {
            "model_name": settings.model,
            "num_inputs": count_inputs(settings),
            "learning_rate": settings.local_learning_rate,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            "hidden": settings.hidden,
            "weight_decay": settings.weight_decay,
        }
        return self._trainers.get(tuple(choices.items()), lambda: self.load()(**choices))

    def dp_trainer(self, settings: FederationSettings) -> "DpSgdTrainer":
        """The same model with the noisy steps of differential privacy; Keras only."""
        trainer: Any = self.trainer(settings)
        return self._dp_trainers.get(trainer, lambda: _make_dp_trainer(trainer))


def count_inputs(settings: FederationSettings) -> int:
    """How many inputs the model has."""
    return len(encoded_names(settings.missing_indicators))


def _make_dp_trainer(trainer: Any) -> "DpSgdTrainer":
    from fedhealth.models.dp_sgd import DpSgdTrainer

    return DpSgdTrainer(trainer)
