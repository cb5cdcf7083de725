"""A hospital as Flower sees it: a `ClientApp` that answers with counts, sums, weights and histograms, never with a row.

What the server sends is checked before it is used, and the hospital's own limits decide what may leave. The text of a
`RunError` is sent to the server, so those raised here quote the server's own words at most, never a patient.

Every message carries all that its answer needs, so a hospital that comes back after a cut connection goes on at once.
TensorFlow is imported by the first message that needs it.
"""

import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.client.dp_mod import answer_privately
from fedhealth.client.error_mod import answer_in_own_words
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.local_model import require_risks
from fedhealth.client.participation import Participation
from fedhealth.client.server_messages import read_means, read_round
from fedhealth.common.errors import RunError
from fedhealth.data import preprocessing
from fedhealth.data.preprocessing import Moments
from fedhealth.metrics.histogram import histogram_to_record, score_histogram
from fedhealth.metrics.permutation_importance import measure_importance
from fedhealth.metrics.subgroups import count_subgroups
from fedhealth.models.local_training import shuffled_orders

if TYPE_CHECKING:
    from numpy.typing import NDArray

Answer = Callable[[HospitalData, Participation, Message], Message]


def make_client_app(hospital: HospitalData) -> ClientApp:
    """The app that answers for this hospital."""
    app = ClientApp(mods=[answer_in_own_words, partial(answer_privately, hospital)])
    for action, answer in QUERIES.items():
        app.query(action)(partial(_answer, answer, hospital))
    app.train()(partial(_answer, train, hospital))
    app.evaluate()(partial(_answer, evaluate, hospital))
    return app


def _answer(answer: Answer, hospital: HospitalData, message: Message, context: Context) -> Message:
    return answer(hospital, hospital.participation(context.run_config), message)


def describe(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Send name, source of the data and counts of patients; the answer also means: ready to train."""
    part.model.trainer.warm_up()
    split = part.split
    who = ConfigRecord({"name": hospital.hospital.name, "source": hospital.hospital.source})
    counts = {
        "train-patients": len(split.train),
        "test-patients": len(split.test),
        "test-ill": int(split.test.labels.sum()),
    }
    if split.validation:
        counts |= {
            "validation-patients": len(split.validation),
            "validation-ill": int(split.validation.labels.sum()),
        }
    return Message(RecordDict({"hospital": who, "counts": MetricRecord(dict(counts))}), reply_to=message)


def first_moments(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Counts and sums of the numbers over the training patients."""
    return _moments_reply(message, preprocessing.first_moments(part.split.train.features, part.min_count))


def second_moments(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Counts and sums of squared distances from the federation's means, over the training patients."""
    features, means = part.split.train.features, read_means(message)
    return _moments_reply(message, preprocessing.second_moments(features, means, part.min_count))


def label_counts(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """How many healthy and ill patients are trained on; zeros if one of the two is too small to be disclosed."""
    ill = int(part.split.train.labels.sum())
    counts = {"healthy": len(part.split.train) - ill, "ill": ill}
    if min(counts.values()) < part.min_count:
        counts = dict.fromkeys(counts, 0)
    return Message(RecordDict({"labels": MetricRecord(dict(counts))}), reply_to=message)


def initial_weights(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """The seeded weights; every hospital would give the same."""
    arrays = part.model.to_arrays(part.model.trainer.initial_weights())
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


def train(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Train the global weights on the training patients; local weights and the loss on the way are sent."""
    settings, model, patients = part.settings, part.model, part.split.train
    examples = model.prepare(patients, part.standardisation(message))
    seed = [settings.seed, read_round(message), zlib.crc32(hospital.hospital.name.encode())]
    orders = shuffled_orders(num_patients=len(patients), num_epochs=settings.local_epochs, seed=seed)
    weights, loss = model.trainer.train(model.read_weights(message), examples, orders, model.read_objective(message))
    if not (np.isfinite(loss) and all(np.all(np.isfinite(weight)) for weight in weights)):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    metrics = MetricRecord({"num-examples": len(patients), "train-loss": loss})
    return Message(RecordDict({"arrays": model.to_arrays(weights), "metrics": metrics}), reply_to=message)


def evaluate(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Evaluate the global weights: a histogram of risks by label of the test patients, and one of the validation patients."""
    standardisation, weights = part.standardisation(message), part.model.read_weights(message)
    tested = {"metrics": part.split.test, **({"validation": part.split.validation} if part.split.validation else {})}
    records = {}
    for key, patients in tested.items():
        risks = require_risks(part.model.predict(weights, patients, standardisation))
        records[key] = MetricRecord(histogram_to_record(score_histogram(risks, patients.labels)))
    return Message(RecordDict(dict(records)), reply_to=message)


def subgroups(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Count which test patients are predicted positive, by sex and age band; small cells are suppressed."""
    if not part.settings.subgroups:
        raise RunError("the server asks for subgroups, which its own settings exclude (--no-subgroups)")
    weights, test = part.model.read_weights(message), part.split.test
    risks = require_risks(part.model.predict(weights, test, part.standardisation(message)))
    disclosed = count_subgroups(test.features, test.labels, risks, part.min_count)
    record = MetricRecord({group: list(outcomes.counts()) for group, outcomes in disclosed.items()})
    return Message(RecordDict({"subgroups": record}), reply_to=message)


def importance(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """What the AUROC of the test patients loses when a feature is shuffled; nothing if few of them are ill, or healthy."""
    weights, test = part.model.read_weights(message), part.split.test
    standardisation = part.standardisation(message)
    ill = int(test.labels.sum())
    if min(ill, len(test) - ill) < part.min_count:
        return Message(RecordDict(), reply_to=message)

    def predict(features: "NDArray[np.float64]") -> "NDArray[np.float32]":
        return part.model.predict_rows(weights, features, standardisation)

    seed = [part.settings.seed, zlib.crc32(hospital.hospital.name.encode())]
    drops = measure_importance(predict, test.features, test.labels, seed=seed)
    record = MetricRecord({"auroc-drops": drops, "num-examples": len(test)})
    return Message(RecordDict({"importance": record}), reply_to=message)


def finish(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Keep the final model; nothing is sent, or what the model is worth here if this hospital shares that."""
    final, content = part.keep_final(message), RecordDict()
    is_shared = hospital.limits.share_verdict and len(part.split.test) >= part.min_count
    verdicts = final.outcome.verdicts if is_shared else {}
    for model, verdict in verdicts.items():
        content[f"{model}-{verdict.metric}"] = MetricRecord({k: v for k, v in asdict(verdict).items() if k != "metric"})
    return Message(content, reply_to=message)


def _moments_reply(message: Message, moments: Moments) -> Message:
    record = MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})
    return Message(RecordDict({"moments": record}), reply_to=message)


QUERIES: dict[str, Answer] = {
    "describe": describe,
    "first_moments": first_moments,
    "second_moments": second_moments,
    "label_counts": label_counts,
    "initial_weights": initial_weights,
    "subgroups": subgroups,
    "importance": importance,
    "finish": finish,
}
