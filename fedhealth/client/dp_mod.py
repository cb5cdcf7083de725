"""A mod of the hospital's app that answers under differential privacy.

Under `--dp-epsilon` three answers are made here, with noise and charged to the hospital's own ledger; those that hold
nothing of a patient pass; every other question is refused. An answer is charged before it is sent, and the same question
gets the same answer again, at no cost.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.local_model import require_risks
from fedhealth.client.participation import Participation
from fedhealth.client.privacy.mechanisms import noisy_histogram
from fedhealth.client.server_messages import read_round
from fedhealth.common.errors import RunError
from fedhealth.metrics.histogram import histogram_to_record, score_histogram
from fedhealth.models.local_training import LocalObjective

HARMLESS = frozenset({"query.initial_weights"})
"""Its answer holds nothing of any patient."""


def answer_privately(
    hospital: HospitalData, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """The mod of one hospital's app."""
    part, kind = hospital.participation(context.run_config), message.metadata.message_type
    if not part.settings.private:
        if hospital.limits.max_epsilon is not None:
            raise RunError(
                "this hospital takes part under differential privacy only (--max-epsilon); the server needs --dp-epsilon"
            )
        return call_next(message, context)
    if kind in HARMLESS:
        return call_next(message, context)
    if kind not in ANSWERS:
        raise RunError(f"under differential privacy this hospital does not answer {kind}")
    hospital.open_dp_session(part)
    return ANSWERS[kind](hospital, part, message)


def describe(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Send name and source, about how many patients are trained on, and the epsilon of their guarantee."""
    session = hospital.open_dp_session(part)
    part.model.dp_trainer.warm_up()
    who = ConfigRecord({"name": hospital.hospital.name, "source": hospital.hospital.source})
    counts = MetricRecord({"train-patients": session.plan.patients, "epsilon": session.plan.epsilon})
    return Message(RecordDict({"hospital": who, "counts": counts}), reply_to=message)


def train(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Take a round's noisy steps from the global weights; the loss is not sent."""
    session, model, round_num = hospital.open_dp_session(part), part.model, read_round(message)
    standardisation = part.standardisation(message)
    sent, objective = model.read_weights(message), model.read_objective(message)

    def take_steps() -> ArrayRecord:
        examples = model.prepare(part.split.train, standardisation)
        session.charge_steps()
        batches = session.draw_batches(model.dp_trainer.num_weights)
        return model.to_arrays(model.dp_trainer.train(sent, examples, batches, objective))

    question = (round_num, standardisation, _digest(sent), _describe(objective))
    arrays = session.once("train", question, take_steps)
    if not all(np.all(np.isfinite(array.numpy())) for array in arrays.values()):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    metrics = MetricRecord({"num-examples": session.plan.patients})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def evaluate(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Evaluate the global weights on the test patients; a coarse, noisy histogram of risks by label is sent."""
    session, model = hospital.open_dp_session(part), part.model
    standardisation, sent = part.standardisation(message), model.read_weights(message)

    def count() -> MetricRecord:
        risks = require_risks(model.predict(sent, part.split.test, standardisation))
        session.charge_test()
        exact = score_histogram(risks, part.split.test.labels)
        noisy = noisy_histogram(exact, session.plan.test_epsilon, session.noise_source)
        return MetricRecord(histogram_to_record(noisy))

    metrics = session.once("evaluate", (standardisation, _digest(sent)), count)
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def finish(hospital: HospitalData, part: Participation, message: Message) -> Message:
    """Keep the final model; what it is worth here is not sent, even if the hospital shares its verdict."""
    part.keep_final(message)
    return Message(RecordDict(), reply_to=message)


def _describe(objective: LocalObjective | None) -> Hashable:
    return objective and (objective.proximal_mu, _digest(objective.correction or []))


def _digest(weights: Sequence[NDArray[np.float32]]) -> bytes:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).digest()


ANSWERS: dict[str, Callable[[HospitalData, Participation, Message], Message]] = {
    "query.describe": describe,
    "train": train,
    "evaluate": evaluate,
    "query.finish": finish,
}
"""All that is sent under differential privacy, beside `HARMLESS`."""
