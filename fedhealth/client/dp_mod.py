"""What a hospital answers under differential privacy: a mod that stands before `client_app` and lets nothing else out.

Under `--dp-epsilon` three answers are made here, with noise and against the hospital's own budget; those that hold nothing
of a patient pass; every other question is refused, whoever may have added it. What is told has been paid for before it is
told, and the same question gets the same answer again, for nothing.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fedhealth.client.local_model import (
    find_dp_trainer,
    find_standardisation,
    find_trainer,
    prepare,
    read_objective,
    shapes_of,
    to_arrays,
)
from fedhealth.client.node_config import find_budget, find_noise_source
from fedhealth.client.participant import Participant, find_participant
from fedhealth.client.privacy.ledger import Budget
from fedhealth.client.privacy.mechanisms import noisy_count, noisy_histogram
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.privacy.plan import PrivatePlan, count_epsilon, make_plan
from fedhealth.client.server_messages import read_round, read_weights
from fedhealth.common.errors import RunError, UsageError
from fedhealth.metrics.histogram import histogram_to_record, score_histogram

if TYPE_CHECKING:
    from fedhealth.models.local_training import DpSgdBatches, LocalObjective

T = TypeVar("T")
HARMLESS = frozenset({"query.initial_weights"})
"""Its answer holds nothing of any patient."""


def answer_privately(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The mod."""
    settings, kind = find_participant(context).settings, message.metadata.message_type
    if not settings.private:
        if "max-epsilon" in context.node_config:
            raise RunError(
                "this hospital takes part under differential privacy only (--max-epsilon); the server needs --dp-epsilon"
            )
        return call_next(message, context)
    if kind in HARMLESS:
        return call_next(message, context)
    if kind not in ANSWERS:
        raise RunError(f"under differential privacy this hospital does not answer {kind}")
    return ANSWERS[kind](message, open_dp_session(context))


class DpSession:
    """A participant with what keeps its promise.

    Attributes
    ----------
    split : how the ledger calls this split into patients to train on and to test on.
    """

    def __init__(self, participant: Participant, budget: Budget, noise_source: NoiseSource) -> None:
        settings = participant.settings
        self.participant = participant
        self.budget = budget
        self.noise_source = noise_source
        self.split = f"seed {settings.seed}, test share {settings.test_share!r}"
        told = budget.find_count(self.split)
        if told is None:
            cost = count_epsilon(settings)
            told = noisy_count(len(participant.train), cost, noise_source), cost
            budget.charge_count(self.split, *told)
        self.plan: PrivatePlan = make_plan(settings, *told)
        budget.require_room(self.split, self.plan, settings.rounds)
        self._left = {"train": settings.rounds, "evaluate": 1}
        self._answered: dict[str, tuple[Hashable, object]] = {}

    def once(self, kind: str, question: Hashable, answer: Callable[[], T]) -> T:
        """The answer to this question; if it was the last of its kind, the very same answer as then.

        Raises
        ------
        RunError
            The run has had all the answers of this kind that its promise was made for.
        """
        before = self._answered.get(kind)
        if before is None or before[0] != question:
            if not self._left[kind]:
                raise RunError(
                    f"this run has had all its answers to {kind}; more would break its promise to the patients"
                )
            before = self._answered[kind] = (question, answer())
            self._left[kind] -= 1
        return cast(T, before[1])


_PARTS: WeakKeyDictionary[Participant, DpSession] = WeakKeyDictionary()


def open_dp_session(context: Context) -> DpSession:
    """The participant's private part, made when it is first asked for."""
    participant = find_participant(context)
    if participant not in _PARTS:
        budget = find_budget(context, _read_limit(context))
        _PARTS[participant] = DpSession(participant, budget, find_noise_source(context))
    return _PARTS[participant]


def _read_limit(context: Context) -> float | None:
    """The hospital's own limit, from its node config."""
    limit = context.node_config.get("max-epsilon")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise UsageError(f"max-epsilon is {limit} in the node config; give a number above 0")
    return float(limit)


def spent_line(message: Message, context: Context) -> str | None:
    """What a round has cost the patients, for this hospital's own screen; None if it was no private round."""
    if message.metadata.message_type != "train" or not find_participant(context).settings.private:
        return None
    part, spent = open_dp_session(context), open_dp_session(context).budget.spent()
    limit = f", {part.budget.limit:g} at most (--max-epsilon)" if part.budget.limit else ""
    return (
        f"round {read_round(message)}   privacy: this run promises epsilon {part.plan.epsilon:.3g}; "
        f"all runs of this file have told {spent.epsilon:.3g} so far{limit}"
    )


def _draw_steps(part: DpSession, num_weights: int) -> "DpSgdBatches":
    """Whom a round's steps visit, and their noise."""
    from fedhealth.models.local_training import DpSgdBatches

    plan, draw = part.plan, part.noise_source
    return DpSgdBatches(
        batches=[draw.choose(len(part.participant.train), plan.rate) for _ in range(plan.steps)],
        noise=draw.gaussian((plan.steps, num_weights)),
        clip=part.participant.settings.dp_clip,
        multiplier=plan.noise,
        expected=plan.rate * plan.patients,
    )


def _describe(objective: "LocalObjective | None") -> Hashable:
    return objective and (objective.proximal_mu, _digest(objective.correction or []))


def _digest(weights: Sequence[NDArray[np.float32]]) -> bytes:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).digest()


def describe(message: Message, part: DpSession) -> Message:
    """Who this is, about how many patients it trains on, and what epsilon its patients are promised."""
    hospital, settings = part.participant.hospital, part.participant.settings
    find_dp_trainer(settings).warm_up()
    who = ConfigRecord({"name": hospital.name, "source": hospital.source})
    counts = MetricRecord({"train-patients": part.plan.patients, "epsilon": part.plan.epsilon})
    return Message(RecordDict({"hospital": who, "counts": counts}), reply_to=message)


def train(message: Message, part: DpSession) -> Message:
    """Take a round's noisy steps from the global weights; no loss is told."""
    participant, round_num = part.participant, read_round(message)
    trainer, private = find_trainer(participant.settings), find_dp_trainer(participant.settings)
    standardisation = find_standardisation(participant, message)
    sent, objective = read_weights(message, shapes_of(trainer)), read_objective(message, trainer)

    def take_steps() -> ArrayRecord:
        examples = prepare(participant.train, participant.settings.missing_indicators, standardisation)
        part.budget.charge_steps(part.split, part.plan)
        steps = _draw_steps(part, private.num_weights)
        return to_arrays(private.train(sent, examples, steps, objective), trainer)

    question = (round_num, standardisation, _digest(sent), _describe(objective))
    arrays = part.once("train", question, take_steps)
    if not all(np.all(np.isfinite(array.numpy())) for array in arrays.values()):
        raise RunError("training diverged: the weights are not finite; lower --learning-rate at the server")
    metrics = MetricRecord({"num-examples": part.plan.patients})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def evaluate(message: Message, part: DpSession) -> Message:
    """Evaluate the global weights on the test patients; back goes a coarse, noisy histogram of risks by label."""
    participant = part.participant
    trainer = find_trainer(participant.settings)
    standardisation = find_standardisation(participant, message)
    sent = read_weights(message, shapes_of(trainer))

    def count() -> MetricRecord:
        examples = prepare(participant.test, participant.settings.missing_indicators, standardisation)
        risks = trainer.predict(sent, examples.inputs)
        if not np.all(np.isfinite(risks)):
            raise RunError("the server's weights make no sense: they give risks that are no numbers")
        part.budget.charge_test(part.split, part.plan.test_epsilon)
        exact = score_histogram(risks, examples.labels)
        return MetricRecord(histogram_to_record(noisy_histogram(exact, part.plan.test_epsilon, part.noise_source)))

    metrics = part.once("evaluate", (standardisation, _digest(sent)), count)
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def finish(message: Message, part: DpSession) -> Message:
    """Receive the final model; what it is worth here is not told, whatever the hospital would otherwise share."""
    return Message(RecordDict(), reply_to=message)


ANSWERS: dict[str, Callable[[Message, DpSession], Message]] = {
    "query.describe": describe,
    "train": train,
    "evaluate": evaluate,
    "query.finish": finish,
}
"""All that leaves under differential privacy, beside `HARMLESS`."""
