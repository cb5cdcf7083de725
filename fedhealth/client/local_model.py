"""What trains and predicts for a participant; hospitals of one process share what was traced.

TensorFlow is imported by whoever first needs it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from numpy.typing import NDArray

from fedhealth.client.participant import KEPT_HOSPITALS, Participant
from fedhealth.client.server_messages import read_class_weights, read_correction, read_proximal_mu, read_standardisation
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation

if TYPE_CHECKING:
    from fedhealth.models.dp_sgd import DpSgdTrainer
    from fedhealth.models.local_training import Examples, LocalObjective, Weights
    from fedhealth.models.training import Trainer


def find_trainer(settings: FederationSettings) -> "Trainer":
    """The model of this federation, ready to train; hospitals of one process share it."""
    return _make_trainer(
        num_inputs=count_inputs(settings),
        model_name=settings.model,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=settings.seed,
        hidden=settings.hidden,
        weight_decay=settings.weight_decay,
    )


@lru_cache(maxsize=16)
def _make_trainer(**choices: Any) -> "Trainer":
    """Kept by what it depends on: runs that differ in anything else share what was traced."""
    from fedhealth.models.training import Trainer

    return Trainer(**choices)


def find_dp_trainer(settings: FederationSettings) -> "DpSgdTrainer":
    """The same model with noisy steps."""
    return _make_private_trainer(find_trainer(settings))


@lru_cache(maxsize=16)
def _make_private_trainer(trainer: "Trainer") -> "DpSgdTrainer":
    from fedhealth.models.dp_sgd import DpSgdTrainer

    return DpSgdTrainer(trainer)


@lru_cache(maxsize=2 * KEPT_HOSPITALS)
def prepare(patients: Patients, missing_indicators: bool, standardisation: Standardisation) -> "Examples":
    """The patients as the model takes them."""
    from fedhealth.models.local_training import Examples

    encoded = preprocessing.encode(patients.features, missing_indicators)
    return Examples(preprocessing.standardise(encoded, standardisation), patients.labels)


def find_standardisation(part: Participant, message: Message) -> Standardisation:
    """The standardisation that came with the message, or (scaling local) the hospital's own."""
    if part.settings.scaling == "local":
        return preprocessing.local_standardisation(part.train.features)
    return read_standardisation(message)


def read_objective(message: Message, trainer: "Trainer") -> "LocalObjective | None":
    """What the strategy asks for beside plain descent, if anything."""
    from fedhealth.models.local_training import LocalObjective

    proximal_mu, correction = read_proximal_mu(message), read_correction(message, shapes_of(trainer))
    if class_weights := read_class_weights(message):
        return LocalObjective(proximal_mu, correction, class_weights)
    return LocalObjective(proximal_mu, correction) if proximal_mu or correction else None


def shapes_of(trainer: "Trainer") -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's weights, in order."""
    return {
        name: tuple(weight.shape) for name, weight in zip(trainer.weight_names, trainer.initial_weights(), strict=True)
    }


def to_arrays(weights: "Weights", trainer: "Trainer") -> ArrayRecord:
    """Weights as they travel."""
    return ArrayRecord({name: Array(weight) for name, weight in zip(trainer.weight_names, weights, strict=True)})


def count_inputs(settings: FederationSettings) -> int:
    """How many inputs the model has."""
    return len(preprocessing.encoded_names(settings.missing_indicators))


def predict_risks(
    weights: "Weights", patients: Patients, standardisation: Standardisation, settings: FederationSettings
) -> NDArray[np.float32]:
    """Risks (num_patients,) by a model with these weights."""
    inputs = prepare(patients, settings.missing_indicators, standardisation).inputs
    return find_trainer(settings).predict(weights, inputs)


def predict_rows(
    weights: "Weights", features: NDArray[np.float64], standardisation: Standardisation, settings: FederationSettings
) -> NDArray[np.float32]:
    """Risks (num_rows,) of `features` (num_rows, 13) that no hospital keeps, such as shuffled ones; nothing is remembered."""
    encoded = preprocessing.encode(features, settings.missing_indicators)
    return require_risks(find_trainer(settings).predict(weights, preprocessing.standardise(encoded, standardisation)))


def require_risks(risks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The risks, if they are numbers: finite weights may be too large to give any."""
    if not np.all(np.isfinite(risks)):
        raise RunError("the server's weights make no sense: they give risks that are no numbers")
    return risks


def train_further(
    weights: "Weights", patients: Patients, standardisation: Standardisation, settings: FederationSettings, epochs: int
) -> "Weights":
    """Weights after some epochs more on these patients."""
    from fedhealth.models.local_training import shuffled_orders

    examples = prepare(patients, settings.missing_indicators, standardisation)
    orders = shuffled_orders(num_patients=len(patients), num_epochs=epochs, seed=[settings.seed])
    return find_trainer(settings).train(weights, examples, orders)[0]
