"""A hospital as Flower sees it: a `ClientApp` that answers with counts, sums, weights and histograms, never with a row.

What the server sends is checked before it is used, and what may leave is decided here, whatever the server asks for. The
text of a `RunError` travels to the server, so those raised here quote the server's own words at most, never a patient.

Every message carries all that its answer needs, so a hospital that comes back after a cut, or a process that Flower starts
anew for each message, just goes on. TensorFlow is imported by the first message that needs it.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedhealth import preprocessing
from fedhealth.data import (
    FEWEST_TO_TEST,
    FEWEST_TO_TRAIN,
    Hospital,
    Patients,
    enough_patients,
    load_hospital,
    split_patients,
)
from fedhealth.errors import RunError, UsageError
from fedhealth.metrics import histogram_to_record, score_histogram
from fedhealth.preprocessing import Moments, Standardisation
from fedhealth.quiet import quiet_tensorflow
from fedhealth.requests import read_means, read_round, read_standardisation, read_weights
from fedhealth.settings import FederationSettings
from fedhealth.steering import find_steering, keep_control

if TYPE_CHECKING:
    from fedhealth.simulation.hospitals import Place
    from fedhealth.training import Examples, Trainer, Weights

KEPT_HOSPITALS = 1024
"""How many hospitals one process keeps prepared (a client has one; simulations have many)."""
LEAST_COUNT = 5
"""Sums over fewer patients stay here where the hospital gave no limit of its own (node config `min-count`)."""

app = ClientApp()

_IN_MEMORY: "dict[str, tuple[Hospital, Patients, Patients]]" = {}
"""Hospitals without a file, by what stands for its path in their node config: see `hold_in_memory`."""


@dataclass(frozen=True, eq=False)
class Participant:
    """One hospital's part in one federation."""

    hospital: Hospital
    settings: FederationSettings
    train: Patients
    test: Patients


def hold_in_memory(key: str, hospital: Hospital, train: Patients, test: Patients) -> None:
    """Let the node config `data = key` mean these patients, split like this, instead of a CSV's path (for studies)."""
    _IN_MEMORY[key] = (hospital, train, test)


def forget_in_memory(key: str) -> None:
    """Undo `hold_in_memory`; a key must not be used again for other patients."""
    del _IN_MEMORY[key]


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Who this is: name, source of the data, counts of patients; the answer also means: ready to train."""
    part = _participant(context)
    _trainer(part.settings).warm_up()
    who = ConfigRecord({"name": part.hospital.name, "source": part.hospital.source})
    counts = MetricRecord(
        {
            "train-patients": len(part.train),
            "train-ill": int(part.train.labels.sum()),
            "test-patients": len(part.test),
            "test-ill": int(part.test.labels.sum()),
        }
    )
    return Message(RecordDict({"hospital": who, "counts": counts}), reply_to=message)


@app.query("first_moments")
def first_moments(message: Message, context: Context) -> Message:
    """Counts and sums of the numbers over the training patients."""
    features, min_count = _participant(context).train.features, _min_count(context)
    return _moments_reply(message, preprocessing.first_moments(features, min_count))


@app.query("second_moments")
def second_moments(message: Message, context: Context) -> Message:
    """Counts and sums of squared distances from the federation's means, over the training patients."""
    features, min_count = _participant(context).train.features, _min_count(context)
    return _moments_reply(message, preprocessing.second_moments(features, read_means(message), min_count))


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """The seeded weights; every hospital would give the same."""
    trainer = _trainer(_participant(context).settings)
    return Message(RecordDict({"arrays": _to_arrays(trainer.initial_weights(), trainer)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights on the training patients; back go local weights and the loss on the way."""
    from fedhealth.training import shuffled_orders

    part = _participant(context)
    trainer = _trainer(part.settings)
    examples = _prepare(part.train, part.settings.missing_indicators, _standardisation(part, message))
    seed = [part.settings.seed, read_round(message), zlib.crc32(part.hospital.name.encode())]
    orders = shuffled_orders(num_patients=len(part.train), num_epochs=part.settings.local_epochs, seed=seed)
    steering = find_steering(message, context, trainer.weight_names)
    weights, loss = trainer.train(read_weights(message, _shapes(trainer)), examples, orders, steering)
    if not (np.isfinite(loss) and all(np.all(np.isfinite(weight)) for weight in weights)):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    keep_control(
        message, context, dict(zip(trainer.weight_names, weights, strict=True)), part.settings, len(part.train)
    )
    metrics = MetricRecord({"num-examples": len(part.train), "train-loss": loss})
    return Message(RecordDict({"arrays": _to_arrays(weights, trainer), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global weights on the test patients; back goes a histogram of risks by label."""
    part = _participant(context)
    trainer = _trainer(part.settings)
    examples = _prepare(part.test, part.settings.missing_indicators, _standardisation(part, message))
    risks = trainer.predict(read_weights(message, _shapes(trainer)), examples.inputs)
    if not np.all(np.isfinite(risks)):
        raise RunError("the server's weights make no sense: they give risks that are no numbers")
    metrics = MetricRecord(histogram_to_record(score_histogram(risks, examples.labels)))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@app.query("finish")
def finish(message: Message, context: Context) -> Message:
    """Receive the final model; the script that runs this app keeps it if it was asked to (`final_model`)."""
    return Message(RecordDict(), reply_to=message)


def final_model(message: Message, context: Context) -> dict[str, Any]:
    """What a `finish` message carries, as the keywords of `model.save_model`."""
    part = _participant(context)
    return {
        "name": part.settings.model,
        "weights": read_weights(message, _shapes(_trainer(part.settings))),
        "num_inputs": _num_inputs(part.settings),
        "standardisation": _standardisation(part, message),
    }


def predict_risks(
    weights: "Weights", patients: Patients, standardisation: Standardisation, settings: FederationSettings
) -> NDArray[np.float32]:
    """Risks (num_patients,) by a model with these weights."""
    return _trainer(settings).predict(weights, _prepare(patients, settings.missing_indicators, standardisation).inputs)


def train_further(
    weights: "Weights", patients: Patients, standardisation: Standardisation, settings: FederationSettings, epochs: int
) -> "Weights":
    """Weights after some epochs more on these patients."""
    from fedhealth.training import shuffled_orders

    examples = _prepare(patients, settings.missing_indicators, standardisation)
    orders = shuffled_orders(num_patients=len(patients), num_epochs=epochs, seed=[settings.seed])
    return _trainer(settings).train(weights, examples, orders)[0]


def _participant(context: Context) -> Participant:
    quiet_tensorflow()  # Flower's own engines start this process, not our scripts
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
        return Participant(_IN_MEMORY[path][0], settings, *_IN_MEMORY[path][1:])
    return _split(read_hospital(path, name), settings)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _take_virtual_part(place: "Place", settings: FederationSettings) -> Participant:
    """A hospital of a simulation."""
    from fedhealth.simulation.hospitals import load_virtual

    return _split(load_virtual(place), settings)


def _split(hospital: Hospital, settings: FederationSettings) -> Participant:
    train, test = split_patients(hospital.patients, test_share=settings.test_share, seed=settings.seed)
    if not enough_patients(train, test):
        raise RunError(
            f"too few patients for --test-share {settings.test_share:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to test on, and sums and counts would tell of each of them"
        )
    return Participant(hospital, settings, train, test)


def _min_count(context: Context) -> int:
    """The larger of what the server asks for and the hospital's own limit, which no server can lower."""
    own = context.node_config.get("min-count", LEAST_COUNT)
    if type(own) is not int or own < 1:
        raise UsageError(f"min-count is {own} in the node config; give 1 or more")
    return max(own, FederationSettings.from_run_config(context.run_config).min_count)


def _trainer(settings: FederationSettings) -> "Trainer":
    return _make_trainer(
        num_inputs=_num_inputs(settings),
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


@lru_cache(maxsize=2 * KEPT_HOSPITALS)
def _prepare(patients: Patients, missing_indicators: bool, standardisation: Standardisation) -> "Examples":
    from fedhealth.training import Examples

    encoded = preprocessing.encode(patients.features, missing_indicators)
    return Examples(preprocessing.standardise(encoded, standardisation), patients.labels)


def _standardisation(part: Participant, message: Message) -> Standardisation:
    """The standardisation that came with the message, or (scaling local) the hospital's own."""
    if part.settings.scaling == "local":
        return preprocessing.local_standardisation(part.train.features)
    return read_standardisation(message)


def _num_inputs(settings: FederationSettings) -> int:
    return len(preprocessing.encoded_names(settings.missing_indicators))


def _moments_reply(message: Message, moments: Moments) -> Message:
    record = MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})
    return Message(RecordDict({"moments": record}), reply_to=message)


def _to_arrays(weights: "Weights", trainer: "Trainer") -> ArrayRecord:
    return ArrayRecord({name: Array(weight) for name, weight in zip(trainer.weight_names, weights, strict=True)})


def _shapes(trainer: "Trainer") -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in zip(trainer.weight_names, trainer.model.weights, strict=True)}
