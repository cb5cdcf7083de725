"""A hospital's part in one federation: its patients as this federation splits and encodes them, and what trains on them.

All of it is kept by what it depends on, so a message costs what it asks for and nothing is read or traced twice.
TensorFlow is imported by whoever first needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from numpy.typing import NDArray

from fedhealth import preprocessing
from fedhealth.data import (
    FEWEST_TO_TEST,
    FEWEST_TO_TRAIN,
    Hospital,
    Patients,
    enough_patients,
    hold_validation,
    load_hospital,
    split_patients,
    split_patients_apart,
)
from fedhealth.errors import RunError, UsageError
from fedhealth.preprocessing import Standardisation
from fedhealth.privacy import Budget, Randomness, budget_path
from fedhealth.requests import read_class_weights, read_correction, read_proximal_mu, read_standardisation
from fedhealth.settings import FederationSettings

if TYPE_CHECKING:
    from fedhealth.private_training import PrivateTrainer
    from fedhealth.simulation.hospitals import Place
    from fedhealth.training import Examples, Steering, Trainer, Weights

KEPT_HOSPITALS = 1024
"""How many hospitals one process keeps prepared (a client has one; simulations have many)."""
LEAST_COUNT = 5
"""Sums over fewer patients stay here where the hospital gave no limit of its own (node config `min-count`)."""

_IN_MEMORY: "dict[str, tuple[Hospital, Patients, Patients, Sequence[int] | None]]" = {}
"""Hospitals without a file, by what stands for its path in their node config: see `hold_in_memory`."""


@dataclass(frozen=True, eq=False)
class Participant:
    """One hospital's part in one federation."""

    hospital: Hospital
    settings: FederationSettings
    train: Patients
    """Those who are really trained on."""
    test: Patients
    validation: Patients | None = None
    """Held out of those to train on, for choices during the run; none if nothing is chosen."""

    @property
    def fewest_of_a_class(self) -> int:
        """How many patients of the rarer kind are tested, ill or healthy."""
        ill = int(self.test.labels.sum())
        return min(ill, len(self.test) - ill)


def hold_in_memory(
    key: str, hospital: Hospital, train: Patients, test: Patients, noise_seed: Sequence[int] | None = None
) -> None:
    """Let the node config `data = key` mean these patients, split like this, instead of a CSV's path (for studies).

    `noise_seed` makes the noise of differential privacy repeatable, and so worth nothing but as a study.
    """
    _IN_MEMORY[key] = (hospital, train, test, noise_seed)


def forget_in_memory(key: str) -> None:
    """Undo `hold_in_memory`; a key must not be used again for other patients."""
    del _IN_MEMORY[key]


def find_participant(context: Context) -> Participant:
    """Who takes part here, by the node config and the run config; a `RunError` if its settings make no sense."""
    name = context.node_config.get("name")
    try:
        settings = FederationSettings.from_run_config(context.run_config)
    except UsageError as error:
        raise RunError(f"the server's settings make no sense: {error}") from None
    if "data" not in context.node_config:
        from fedhealth.simulation.hospitals import find_place

        return _take_virtual_part(find_place(context.node_config, context.run_config), settings)
    return _take_part(str(context.node_config["data"]), None if name is None else str(name), settings)


@lru_cache(maxsize=KEPT_HOSPITALS)
def read_hospital(path: str, name: str | None = None) -> Hospital:
    """The hospital of a CSV, read and checked once in a process: what was checked is what is trained on."""
    return load_hospital(Path(path), name)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _take_part(path: str, name: str | None, settings: FederationSettings) -> Participant:
    if path in _IN_MEMORY:
        return _take_parts(_IN_MEMORY[path][0], settings, *_IN_MEMORY[path][1:3])
    return _split(read_hospital(path, name), settings)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _take_virtual_part(place: "Place", settings: FederationSettings) -> Participant:
    """A hospital of a simulation."""
    from fedhealth.simulation.hospitals import load_virtual

    return _split(load_virtual(place), settings)


def _split(hospital: Hospital, settings: FederationSettings) -> Participant:
    if settings.private:  # noise stands for every patient, so no number of them is too small
        return Participant(
            hospital, settings, *split_patients_apart(hospital.patients, settings.test_share, settings.seed)
        )
    train, test = split_patients(hospital.patients, test_share=settings.test_share, seed=settings.seed)
    if not enough_patients(train, test):
        raise RunError(
            f"too few patients for --test-share {settings.test_share:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to test on, and sums and counts would tell of each of them"
        )
    return _take_parts(hospital, settings, train, test)


def _take_parts(hospital: Hospital, settings: FederationSettings, train: Patients, test: Patients) -> Participant:
    """What the split has left, and if something is to be chosen, the validation patients out of those to train on."""
    if not settings.validation_share:
        return Participant(hospital, settings, train, test)
    kept, validation = hold_validation(train, settings.validation_share, settings.seed)
    if not enough_patients(kept, validation):
        raise RunError(
            f"too few patients for --validation {settings.validation:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to choose on, and sums and counts would tell of each of them"
        )
    return Participant(hospital, settings, kept, test, validation)


def find_min_count(context: Context) -> int:
    """The larger of what the server asks for and the hospital's own limit, which no server can lower."""
    own = context.node_config.get("min-count", LEAST_COUNT)
    if type(own) is not int or own < 1:
        raise UsageError(f"min-count is {own} in the node config; give 1 or more")
    return max(own, FederationSettings.from_run_config(context.run_config).min_count)


def find_budget(context: Context, limit: float | None) -> Budget:
    """What has been told of these patients: the ledger beside their CSV; without a CSV it dies with the process."""
    path = context.node_config.get("data")
    return Budget(None if path is None or path in _IN_MEMORY else budget_path(Path(str(path))), limit)


def find_randomness(context: Context) -> Randomness:
    """Noise that nobody can foresee; repeatable only for the patients of a study, who are public or invented."""
    path = context.node_config.get("data")
    if path is not None:
        return Randomness(_IN_MEMORY[str(path)][3] if path in _IN_MEMORY else None)
    from fedhealth.simulation.hospitals import find_place

    place = find_place(context.node_config, context.run_config)
    return Randomness(None if place.engine.data else [place.seed, place.number])


def find_share_verdict(context: Context) -> bool:
    """Whether this hospital wants the server to hear what the run was worth to it (node config `share-verdict`)."""
    share = context.node_config.get("share-verdict", False)
    if type(share) is not bool:
        raise UsageError(f"share-verdict is {share} in the node config; give true or false")
    return share


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
    from fedhealth.training import Trainer

    return Trainer(**choices)


def find_private_trainer(settings: FederationSettings) -> "PrivateTrainer":
    """The same model with noisy steps."""
    return _make_private_trainer(find_trainer(settings))


@lru_cache(maxsize=16)
def _make_private_trainer(trainer: "Trainer") -> "PrivateTrainer":
    from fedhealth.private_training import PrivateTrainer

    return PrivateTrainer(trainer)


@lru_cache(maxsize=2 * KEPT_HOSPITALS)
def prepare(patients: Patients, missing_indicators: bool, standardisation: Standardisation) -> "Examples":
    """The patients as the model takes them."""
    from fedhealth.training import Examples

    encoded = preprocessing.encode(patients.features, missing_indicators)
    return Examples(preprocessing.standardise(encoded, standardisation), patients.labels)


def find_standardisation(part: Participant, message: Message) -> Standardisation:
    """The standardisation that came with the message, or (scaling local) the hospital's own."""
    if part.settings.scaling == "local":
        return preprocessing.local_standardisation(part.train.features)
    return read_standardisation(message)


def find_steering(message: Message, trainer: "Trainer") -> "Steering | None":
    """What the strategy asks for beside plain descent, if anything."""
    from fedhealth.training import Steering

    proximal_mu, correction = read_proximal_mu(message), read_correction(message, shapes_of(trainer))
    if class_weights := read_class_weights(message):
        return Steering(proximal_mu, correction, class_weights)
    return Steering(proximal_mu, correction) if proximal_mu or correction else None


def shapes_of(trainer: "Trainer") -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's weights, in order."""
    return {name: tuple(weight.shape) for name, weight in zip(trainer.weight_names, trainer.model.weights, strict=True)}


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
    from fedhealth.training import shuffled_orders

    examples = prepare(patients, settings.missing_indicators, standardisation)
    orders = shuffled_orders(num_patients=len(patients), num_epochs=epochs, seed=[settings.seed])
    return find_trainer(settings).train(weights, examples, orders)[0]
