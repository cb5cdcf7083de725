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
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.client.dp_mod import answer_privately
from fedhealth.client.error_mod import answer_in_own_words
from fedhealth.client.local_model import (
    find_standardisation,
    find_trainer,
    predict_risks,
    predict_rows,
    prepare,
    read_objective,
    require_risks,
    shapes_of,
    to_arrays,
)
from fedhealth.client.node_config import LEAST_COUNT, find_min_count, find_share_verdict
from fedhealth.client.participant import Participant, find_participant
from fedhealth.client.personalization import Model, Outcome, compare_models
from fedhealth.client.server_messages import read_means, read_round, read_weights
from fedhealth.common.errors import RunError
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Moments, Standardisation
from fedhealth.metrics.histogram import histogram_to_record, score_histogram
from fedhealth.metrics.permutation_importance import measure_importance
from fedhealth.metrics.subgroups import count_subgroups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedhealth.models.local_training import Weights

app = ClientApp(mods=[answer_in_own_words, answer_privately])


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Who this is: name, source of the data, counts of patients; the answer also means: ready to train."""
    part = find_participant(context)
    find_trainer(part.settings).warm_up()
    who = ConfigRecord({"name": part.hospital.name, "source": part.hospital.source})
    counts = {
        "train-patients": len(part.train),
        "test-patients": len(part.test),
        "test-ill": int(part.test.labels.sum()),
    }
    if part.validation:
        counts |= {
            "validation-patients": len(part.validation),
            "validation-ill": int(part.validation.labels.sum()),
        }
    return Message(RecordDict({"hospital": who, "counts": MetricRecord(dict(counts))}), reply_to=message)


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


@app.query("label_counts")
def label_counts(message: Message, context: Context) -> Message:
    """How many healthy and ill patients are trained on; nothing of either if one is too few to be told."""
    ill = int((train := find_participant(context).train).labels.sum())
    counts = {"healthy": len(train) - ill, "ill": ill}
    if min(counts.values()) < find_min_count(context):
        counts = dict.fromkeys(counts, 0)
    return Message(RecordDict({"labels": MetricRecord(dict(counts))}), reply_to=message)


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """The seeded weights; every hospital would give the same."""
    trainer = find_trainer(find_participant(context).settings)
    return Message(RecordDict({"arrays": to_arrays(trainer.initial_weights(), trainer)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights on the training patients; back go local weights and the loss on the way."""
    from fedhealth.models.local_training import shuffled_orders

    part = find_participant(context)
    trainer = find_trainer(part.settings)
    examples = prepare(part.train, part.settings.missing_indicators, find_standardisation(part, message))
    seed = [part.settings.seed, read_round(message), zlib.crc32(part.hospital.name.encode())]
    orders = shuffled_orders(num_patients=len(part.train), num_epochs=part.settings.local_epochs, seed=seed)
    sent = read_weights(message, shapes_of(trainer))
    weights, loss = trainer.train(sent, examples, orders, read_objective(message, trainer))
    if not (np.isfinite(loss) and all(np.all(np.isfinite(weight)) for weight in weights)):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    metrics = MetricRecord({"num-examples": len(part.train), "train-loss": loss})
    return Message(RecordDict({"arrays": to_arrays(weights, trainer), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global weights: a histogram of risks by label of the test patients, and one of those to choose on."""
    part = find_participant(context)
    standardisation, trainer = find_standardisation(part, message), find_trainer(part.settings)
    weights = read_weights(message, shapes_of(trainer))
    tested = {"metrics": part.test, **({"validation": part.validation} if part.validation else {})}
    records = {
        key: MetricRecord(
            histogram_to_record(score_histogram(_predict(part, weights, each, standardisation), each.labels))
        )
        for key, each in tested.items()
    }
    return Message(RecordDict(dict(records)), reply_to=message)


@app.query("subgroups")
def subgroups(message: Message, context: Context) -> Message:
    """Count who of the test patients is called ill, by sex and age band; what is small stays untold."""
    part = find_participant(context)
    if not part.settings.subgroups:
        raise RunError("the server asks for subgroups, which its own settings exclude (--no-subgroups)")
    weights = read_weights(message, shapes_of(find_trainer(part.settings)))
    risks = _predict(part, weights, part.test, find_standardisation(part, message))
    told = count_subgroups(part.test.features, part.test.labels, risks, find_min_count(context))
    record = MetricRecord({group: list(outcomes.counts()) for group, outcomes in told.items()})
    return Message(RecordDict({"subgroups": record}), reply_to=message)


@app.query("importance")
def importance(message: Message, context: Context) -> Message:
    """What the AUROC of the test patients loses when a feature is shuffled; nothing if few of them are ill, or healthy."""
    part = find_participant(context)
    weights = read_weights(message, shapes_of(find_trainer(part.settings)))
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
    weights = read_weights(message, shapes_of(find_trainer(part.settings)))
    final = Model(weights, find_standardisation(part, message), part.settings)
    return compare_models(part, final, fewest=max(LEAST_COUNT, find_min_count(context)))


def _predict(
    part: Participant, weights: "Weights", patients: Patients, standardisation: Standardisation
) -> "NDArray[np.float32]":
    """Risks (num_patients,) by the server's weights, once they are known to be risks."""
    return require_risks(predict_risks(weights, patients, standardisation, part.settings))


def _moments_reply(message: Message, moments: Moments) -> Message:
    record = MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})
    return Message(RecordDict({"moments": record}), reply_to=message)
