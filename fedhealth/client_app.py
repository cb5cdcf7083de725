"""A hospital as Flower sees it: a `ClientApp` that answers with counts, sums, weights and histograms, never with a row.

What the server sends is checked before it is used, and what may leave is decided here, whatever the server asks for. The
text of a `RunError` travels to the server, so those raised here quote the server's own words at most, never a patient.

Every message carries all that its answer needs, so a hospital that comes back after a cut, or a process that Flower starts
anew for each message, just goes on. TensorFlow is imported by the first message that needs it.
"""

import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth import preprocessing
from fedhealth.errors import RunError
from fedhealth.flower_run.client_side import answer_in_own_words
from fedhealth.importance import measure_importance
from fedhealth.metrics import histogram_to_record, score_histogram
from fedhealth.own_models import Model, Outcome, weigh_models
from fedhealth.participant import (
    LEAST_COUNT,
    find_min_count,
    find_participant,
    find_share_verdict,
    find_standardisation,
    find_trainer,
    predict_rows,
    prepare,
    require_risks,
)
from fedhealth.preprocessing import Moments
from fedhealth.requests import read_correction, read_means, read_proximal_mu, read_round, read_weights

if TYPE_CHECKING:
    from fedhealth.training import Steering, Trainer, Weights

app = ClientApp(mods=[answer_in_own_words])


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Who this is: name, source of the data, counts of patients; the answer also means: ready to train."""
    part = find_participant(context)
    find_trainer(part.settings).warm_up()
    who = ConfigRecord({"name": part.hospital.name, "source": part.hospital.source})
    counts = MetricRecord(
        {
            "train-patients": len(part.train),
            "test-patients": len(part.test),
            "test-ill": int(part.test.labels.sum()),
        }
    )
    return Message(RecordDict({"hospital": who, "counts": counts}), reply_to=message)


@app.query("first_moments")
def first_moments(message: Message, context: Context) -> Message:
    """Counts and sums of the numbers over the training patients."""
    features, min_count = find_participant(context).train.features, find_min_count(context)
    return _moments_reply(message, preprocessing.first_moments(features, min_count))


@app.query("second_moments")
def second_moments(message: Message, context: Context) -> Message:
    """Counts and sums of squared distances from the federation's means, over the training patients."""
    features, min_count = find_participant(context).train.features, find_min_count(context)
    return _moments_reply(message, preprocessing.second_moments(features, read_means(message), min_count))


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """The seeded weights; every hospital would give the same."""
    trainer = find_trainer(find_participant(context).settings)
    return Message(RecordDict({"arrays": _to_arrays(trainer.initial_weights(), trainer)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights on the training patients; back go local weights and the loss on the way."""
    from fedhealth.training import shuffled_orders

    part = find_participant(context)
    trainer = find_trainer(part.settings)
    examples = prepare(part.train, part.settings.missing_indicators, find_standardisation(part, message))
    seed = [part.settings.seed, read_round(message), zlib.crc32(part.hospital.name.encode())]
    orders = shuffled_orders(num_patients=len(part.train), num_epochs=part.settings.local_epochs, seed=seed)
    sent = read_weights(message, _shapes(trainer))
    weights, loss = trainer.train(sent, examples, orders, _find_steering(message, trainer))
    if not (np.isfinite(loss) and all(np.all(np.isfinite(weight)) for weight in weights)):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    metrics = MetricRecord({"num-examples": len(part.train), "train-loss": loss})
    return Message(RecordDict({"arrays": _to_arrays(weights, trainer), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global weights on the test patients; back goes a histogram of risks by label."""
    part = find_participant(context)
    trainer = find_trainer(part.settings)
    examples = prepare(part.test, part.settings.missing_indicators, find_standardisation(part, message))
    risks = require_risks(trainer.predict(read_weights(message, _shapes(trainer)), examples.inputs))
    metrics = MetricRecord(histogram_to_record(score_histogram(risks, examples.labels)))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@app.query("importance")
def importance(message: Message, context: Context) -> Message:
    """What the AUROC of the test patients loses when a feature is shuffled; nothing if few of them are ill, or healthy."""
    part = find_participant(context)
    weights = read_weights(message, _shapes(find_trainer(part.settings)))
    standardisation = find_standardisation(part, message)
    if part.fewest_of_a_class < find_min_count(context):
        return Message(RecordDict(), reply_to=message)
    drops = measure_importance(
        lambda features: predict_rows(weights, features, standardisation, part.settings),
        part.test.features,
        part.test.labels,
        seed=[part.settings.seed, zlib.crc32(part.hospital.name.encode())],
    )
    record = MetricRecord({"auroc-drops": drops, "num-examples": len(part.test)})
    return Message(RecordDict({"importance": record}), reply_to=message)


@app.query("finish")
def finish(message: Message, context: Context) -> Message:
    """Receive the final model; back goes nothing, or what it was worth here if this hospital wants that told.

    The script that runs this app keeps the model, and says what it was worth (`look_back`).
    """
    content = RecordDict()
    is_told = find_share_verdict(context) and len(find_participant(context).test) >= find_min_count(context)
    verdicts = look_back(message, context).verdicts if is_told else {}
    for model, verdict in verdicts.items():
        content[f"{model}-{verdict.metric}"] = MetricRecord({k: v for k, v in asdict(verdict).items() if k != "metric"})
    return Message(content, reply_to=message)


def look_back(message: Message, context: Context) -> Outcome:
    """What the final model of a `finish` message is worth to this hospital, and the models to compare it with."""
    part = find_participant(context)
    weights = read_weights(message, _shapes(find_trainer(part.settings)))
    final = Model(weights, find_standardisation(part, message), part.settings)
    return weigh_models(part, final, fewest=max(LEAST_COUNT, find_min_count(context)))


def _find_steering(message: Message, trainer: "Trainer") -> "Steering | None":
    """What the strategy asks for beside plain descent, if anything."""
    from fedhealth.training import Steering

    proximal_mu, correction = read_proximal_mu(message), read_correction(message, _shapes(trainer))
    return Steering(proximal_mu, correction) if proximal_mu or correction else None


def _moments_reply(message: Message, moments: Moments) -> Message:
    record = MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})
    return Message(RecordDict({"moments": record}), reply_to=message)


def _to_arrays(weights: "Weights", trainer: "Trainer") -> ArrayRecord:
    return ArrayRecord({name: Array(weight) for name, weight in zip(trainer.weight_names, weights, strict=True)})


def _shapes(trainer: "Trainer") -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in zip(trainer.weight_names, trainer.model.weights, strict=True)}
