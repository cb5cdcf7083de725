"""A hospital as Flower sees it: a `ClientApp` that answers with counts, sums, weights and histograms, never with a row.

Every message carries all that its answer needs, so a hospital that comes back after a cut, or a process that Flower starts
anew for each message, just goes on. TensorFlow is imported by the first message that needs it.
"""

import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth import preprocessing
from fedhealth.data import Hospital, Patients, load_hospital, split_patients
from fedhealth.errors import RunError
from fedhealth.metrics import histogram_to_record, score_histogram
from fedhealth.preprocessing import Moments, Standardisation
from fedhealth.settings import FederationSettings

if TYPE_CHECKING:
    from fedhealth.training import Examples, Trainer, Weights

KEPT_HOSPITALS = 64
"""How many hospitals one process keeps prepared (a client has one; simulations have many)."""

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Who this is: name, source of the data, counts of patients; sent once, when the hospital is ready to train."""
    settings, hospital = _settings(context), _hospital(context)
    train, test = _split(context)
    _trainer(settings).warm_up()
    who = ConfigRecord({"name": hospital.name, "source": hospital.source})
    counts = MetricRecord(
        {
            "train-patients": len(train),
            "train-ill": int(train.labels.sum()),
            "test-patients": len(test),
            "test-ill": int(test.labels.sum()),
        }
    )
    return Message(RecordDict({"hospital": who, "counts": counts}), reply_to=message)


@app.query("first_moments")
def first_moments(message: Message, context: Context) -> Message:
    """Counts and sums of the numbers over the training patients."""
    train, _ = _split(context)
    return _moments_reply(message, preprocessing.first_moments(train.features))


@app.query("second_moments")
def second_moments(message: Message, context: Context) -> Message:
    """Counts and sums of squared distances from the federation's means, over the training patients."""
    train, _ = _split(context)
    means = cast(list[float], message.content.config_records["config"]["means"])
    return _moments_reply(message, preprocessing.second_moments(train.features, means))


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """The seeded weights; every hospital would give the same."""
    trainer = _trainer(_settings(context))
    return Message(RecordDict({"arrays": _to_arrays(trainer.initial_weights(), trainer)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights on the training patients; back go local weights and the loss on the way."""
    settings = _settings(context)
    trainer = _trainer(settings)
    config = message.content.config_records["config"]
    examples, _ = _examples(context, config)
    seed = [settings.seed, cast(int, config["server-round"]), zlib.crc32(_hospital(context).name.encode())]
    from fedhealth.training import shuffled_orders

    orders = shuffled_orders(num_patients=len(examples.labels), num_epochs=settings.local_epochs, seed=seed)
    weights, loss = trainer.train(_from_arrays(message.content.array_records["arrays"], trainer), examples, orders)
    if not all(np.all(np.isfinite(weight)) for weight in weights):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    metrics = MetricRecord({"num-examples": len(examples.labels), "train-loss": loss})
    return Message(RecordDict({"arrays": _to_arrays(weights, trainer), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global weights on the test patients; back goes a histogram of risks by label."""
    trainer = _trainer(_settings(context))
    _, examples = _examples(context, message.content.config_records["config"])
    risks = trainer.predict(_from_arrays(message.content.array_records["arrays"], trainer), examples.inputs)
    metrics = MetricRecord(histogram_to_record(score_histogram(risks, examples.labels)))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@app.query("finish")
def finish(message: Message, context: Context) -> Message:
    """Receive the final model; the script that runs this app keeps it if it was asked to."""
    _ = context
    return Message(RecordDict(), reply_to=message)


def final_model(message: Message, context: Context) -> dict[str, Any]:
    """What a `finish` message carries, as the keywords of `model.save_model`."""
    settings = _settings(context)
    return {
        "name": settings.model,
        "weights": _from_arrays(message.content.array_records["arrays"], _trainer(settings)),
        "num_inputs": _num_inputs(settings),
        "standardisation": _standardisation(context, message.content.config_records["config"]),
    }


def _settings(context: Context) -> FederationSettings:
    return FederationSettings.from_run_config(context.run_config)


def _hospital(context: Context) -> Hospital:
    name = context.node_config.get("name")
    return _load(str(context.node_config["data"]), None if name is None else str(name))


def _split(context: Context) -> tuple[Patients, Patients]:
    settings = _settings(context)
    name = context.node_config.get("name")
    return _load_split(
        str(context.node_config["data"]), None if name is None else str(name), settings.test_share, settings.seed
    )


def _standardisation(context: Context, config: ConfigRecord) -> Standardisation:
    """The standardisation that came with the message, or (scaling local) the hospital's own."""
    if "means" not in config:
        train, _ = _split(context)
        return preprocessing.local_standardisation(train.features)
    means, stds = cast(list[float], config["means"]), cast(list[float], config["stds"])
    return Standardisation(tuple(means), tuple(stds))


def _examples(context: Context, config: ConfigRecord) -> tuple["Examples", "Examples"]:
    """Training and test patients as model input."""
    standardisation = _standardisation(context, config)
    train, test = _split(context)
    return _prepare(train, _settings(context).missing_indicators, standardisation), _prepare(
        test, _settings(context).missing_indicators, standardisation
    )


@lru_cache(maxsize=KEPT_HOSPITALS)
def _load(path: str, name: str | None) -> Hospital:
    return load_hospital(Path(path), name)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _load_split(path: str, name: str | None, test_share: float, seed: int) -> tuple[Patients, Patients]:
    return split_patients(_load(path, name).patients, test_share=test_share, seed=seed)


@lru_cache(maxsize=2 * KEPT_HOSPITALS)
def _prepare(patients: Patients, missing_indicators: bool, standardisation: Standardisation) -> "Examples":
    from fedhealth.training import Examples

    encoded = preprocessing.encode(patients.features, missing_indicators)
    return Examples(preprocessing.standardise(encoded, standardisation), patients.labels)


def _trainer(settings: FederationSettings) -> "Trainer":
    return _build_trainer(
        settings.model, _num_inputs(settings), settings.learning_rate, settings.batch_size, settings.seed
    )


@lru_cache(maxsize=8)
def _build_trainer(*arguments: object) -> "Trainer":
    from fedhealth.training import Trainer

    return Trainer(*arguments)  # type: ignore[arg-type]  # lru_cache loses the types; _trainer is the only caller


def _num_inputs(settings: FederationSettings) -> int:
    return len(preprocessing.encoded_names(settings.missing_indicators))


def _moments_reply(message: Message, moments: Moments) -> Message:
    record = MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})
    return Message(RecordDict({"moments": record}), reply_to=message)


def _to_arrays(weights: "Weights", trainer: "Trainer") -> ArrayRecord:
    return ArrayRecord({name: Array(weight) for name, weight in zip(trainer.weight_names, weights, strict=True)})


def _from_arrays(arrays: ArrayRecord, trainer: "Trainer") -> "Weights":
    return [arrays[name].numpy() for name in trainer.weight_names]
