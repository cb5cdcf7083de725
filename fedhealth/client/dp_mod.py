"""A Flower mod of the hospital's app that replies under differential privacy.

In a run with `--dp-epsilon` or `--dp-noise` this mod handles the messages in `HANDLERS`: it adds noise and charges the
hospital's privacy ledger. Replies without patient data pass through unchanged; every other message is refused. A reply
is charged before it is sent; a repeated message gets the same reply again at no cost.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.local_model import read_request, require_finite, require_risks
from fedhealth.client.participation import Participation
from fedhealth.client.privacy.mechanisms import noisy_histogram
from fedhealth.common.errors import RunError
from fedhealth.metrics.histogram import ScoreHistogram, score_histogram
from fedhealth.models.local_training import LocalObjective, Weights
from fedhealth.transport.protocol.evaluation import (
    EVALUATE,
    EvaluateReply,
    Histogram,
    decode_evaluate_request,
    encode_evaluate_reply,
)
from fedhealth.transport.protocol.finalization import FINISH, decode_final_request, encode_finish_reply
from fedhealth.transport.protocol.setup import (
    COUNTS_SUM,
    DESCRIBE,
    INITIAL_WEIGHTS,
    Description,
    encode_description,
)
from fedhealth.transport.protocol.training import TRAIN, TrainReply, decode_train_request, encode_train_reply

WITHOUT_PATIENT_DATA = frozenset({INITIAL_WEIGHTS})
"""Messages whose reply does not depend on any patient."""


def dp_mod(hospital: HospitalData, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The reply under differential privacy, or the app's own reply in a run without it.

    Raises
    ------
    RunError
        The message is not allowed under differential privacy, or the hospital requires it and the run is without it.
    """
    part, kind = hospital.participation(context.run_config), message.metadata.message_type
    if not part.settings.private:
        if hospital.limits.max_epsilon is not None:
            raise RunError(
                "this hospital takes part under differential privacy only (--max-epsilon); the server needs --dp-epsilon"
            )
        return call_next(message, context)
    if kind in WITHOUT_PATIENT_DATA:
        return call_next(message, context)
    if kind not in HANDLERS:
        raise RunError(f"under differential privacy this hospital does not reply to {kind}")
    hospital.open_dp_session(part)
    return Message(HANDLERS[kind](hospital, part, message.content), reply_to=message)


def describe(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Name, source, a noisy count of training patients, and the epsilon of their (epsilon, delta) guarantee."""
    plan, known = hospital.open_dp_session(part).plan, hospital.hospital
    part.model.dp_trainer.warm_up()
    return encode_description(
        Description(known.name, known.source, known.schema.fingerprint, plan.patients, epsilon=plan.epsilon)
    )


def train(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """The weights after one round of DP-SGD from the global weights; no loss and no evaluation is sent."""
    session, model, request = hospital.open_dp_session(part), part.model, read_request(decode_train_request, content)
    standardisation = part.standardisation(request.scale)
    sent, objective = model.order_weights(request.weights), model.objective(request)

    def take_steps() -> Weights:
        examples = model.prepare(part.split.train, standardisation)
        session.charge_steps()
        batches = session.draw_batches(model.dp_trainer.num_weights)
        return model.dp_trainer.train(sent, examples, batches, objective)

    key = (request.round_num, standardisation, _digest(sent), _describe(objective))
    weights = session.reply_once(TRAIN, key, take_steps)
    require_finite(*weights)
    return encode_train_reply(TrainReply(model.name_weights(weights), session.plan.patients))


def evaluate(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """A coarse, noisy histogram of the test patients' predicted risks by label."""
    session, model, request = hospital.open_dp_session(part), part.model, read_request(decode_evaluate_request, content)
    standardisation, sent = part.standardisation(request.scale), model.order_weights(request.weights)

    def count() -> ScoreHistogram:
        risks = require_risks(model.predict(sent, part.split.test, standardisation))
        session.charge_test()
        exact = score_histogram(risks, part.split.test.labels)
        return noisy_histogram(exact, session.plan.test_epsilon, session.noise_source)

    noisy = session.reply_once(EVALUATE, (standardisation, _digest(sent)), count)
    return encode_evaluate_reply(EvaluateReply(Histogram(noisy.num_examples, **vars(noisy))))


def finish(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Keep the final model; no comparison is sent, even if the hospital shares its comparisons."""
    part.keep_final(read_request(decode_final_request, content))
    return encode_finish_reply({})


def _describe(objective: LocalObjective | None) -> Hashable:
    return objective and (objective.proximal_mu, _digest(objective.correction or []))


def _digest(weights: Sequence[NDArray[np.float32]]) -> bytes:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).digest()


HANDLERS: dict[str, Callable[[HospitalData, Participation, RecordDict], RecordDict]] = {
    DESCRIBE: describe,
    COUNTS_SUM: describe,
    TRAIN: train,
    EVALUATE: evaluate,
    FINISH: finish,
}
"""All messages that get a reply under differential privacy, besides `WITHOUT_PATIENT_DATA`."""
