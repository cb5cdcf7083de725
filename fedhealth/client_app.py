"""A hospital as Flower sees it: a `ClientApp` that answers with counts, sums, weights and histograms, never with a row.

Every message carries all that its answer needs, so a hospital that comes back after a cut, or a process that Flower starts
anew for each message, just goes on. TensorFlow is imported by the first message that needs it.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedhealth import preprocessing
from fedhealth.arrays import read_array
from fedhealth.data import Hospital, Patients, load_hospital, split_patients
from fedhealth.errors import RunError
from fedhealth.metrics import histogram_to_record, score_histogram
from fedhealth.preprocessing import Moments, Standardisation
from fedhealth.settings import FederationSettings
from fedhealth.steering import find_steering, keep_control

if TYPE_CHECKING:
    from fedhealth.training import Examples, Trainer, Weights

KEPT_HOSPITALS = 64
"""How many hospitals one process keeps prepared (a client has one; simulations have many)."""

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
    return _moments_reply(message, preprocessing.first_moments(_participant(context).train.features))


@app.query("second_moments")
def second_moments(message: Message, context: Context) -> Message:
    """Counts and sums of squared distances from the federation's means, over the training patients."""
    means = cast(list[float], message.content.config_records["config"]["means"])
    return _moments_reply(message, preprocessing.second_moments(_participant(context).train.features, means))


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """The seeded weights; every hospital would give the same."""
    trainer = _trainer(_participant(context).settings)
    return Message(RecordDict({"arrays": _to_arrays(trainer.initial_weights(), trainer)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights on the training patients; back go local weights and the loss on the way."""
    from fedhealth.training import shuffled_orders

    part, config = _participant(context), message.content.config_records["config"]
    trainer = _trainer(part.settings)
    examples = _prepare(part.train, part.settings.missing_indicators, _standardisation(part, config))
    seed = [part.settings.seed, cast(int, config["server-round"]), zlib.crc32(part.hospital.name.encode())]
    orders = shuffled_orders(num_patients=len(part.train), num_epochs=part.settings.local_epochs, seed=seed)
    steering = find_steering(message, context, trainer.weight_names)
    weights, loss = trainer.train(_from_arrays(message, trainer), examples, orders, steering)
    if not all(np.all(np.isfinite(weight)) for weight in weights):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    keep_control(
        message, context, dict(zip(trainer.weight_names, weights, strict=True)), part.settings, len(part.train)
    )
    metrics = MetricRecord({"num-examples": len(part.train), "train-loss": loss})
    return Message(RecordDict({"arrays": _to_arrays(weights, trainer), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global weights on the test patients; back goes a histogram of risks by label."""
    part, config = _participant(context), message.content.config_records["config"]
    trainer = _trainer(part.settings)
    examples = _prepare(part.test, part.settings.missing_indicators, _standardisation(part, config))
    risks = trainer.predict(_from_arrays(message, trainer), examples.inputs)
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
        "weights": _from_arrays(message, _trainer(part.settings)),
        "num_inputs": _num_inputs(part.settings),
        "standardisation": _standardisation(part, message.content.config_records["config"]),
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
    name = context.node_config.get("name")
    run_config = tuple(sorted(context.run_config.items()))
    return _take_part(str(context.node_config["data"]), None if name is None else str(name), run_config)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _take_part(path: str, name: str | None, run_config: tuple[tuple[str, Any], ...]) -> Participant:
    settings = FederationSettings.from_run_config(dict(run_config))
    if path in _IN_MEMORY:
        hospital, train, test = _IN_MEMORY[path]
        return Participant(hospital, settings, train, test)
    hospital = load_hospital(Path(path), name)
    train, test = split_patients(hospital.patients, test_share=settings.test_share, seed=settings.seed)
    return Participant(hospital, settings, train, test)


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


def _standardisation(part: Participant, config: ConfigRecord) -> Standardisation:
    """The standardisation that came with the message, or (scaling local) the hospital's own."""
    if "means" not in config:
        return preprocessing.local_standardisation(part.train.features)
    means, stds = cast(list[float], config["means"]), cast(list[float], config["stds"])
    return Standardisation(tuple(means), tuple(stds))


def _num_inputs(settings: FederationSettings) -> int:
    return len(preprocessing.encoded_names(settings.missing_indicators))


def _moments_reply(message: Message, moments: Moments) -> Message:
    record = MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})
    return Message(RecordDict({"moments": record}), reply_to=message)


def _to_arrays(weights: "Weights", trainer: "Trainer") -> ArrayRecord:
    return ArrayRecord({name: Array(weight) for name, weight in zip(trainer.weight_names, weights, strict=True)})


def _from_arrays(message: Message, trainer: "Trainer") -> "Weights":
    arrays = message.content.array_records["arrays"]
    return [read_array(arrays[name]) for name in trainer.weight_names]
