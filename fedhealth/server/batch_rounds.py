"""The rounds of a simulation whose hospitals compute in blocks.

The strategy gets one reply for all hospitals: the mean of their weights and the number of their patients. From these
FedAvg, FedProx and the FedOpt family compute what they compute from the single replies.
"""

import time
from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_arrays
from fedhealth.common.errors import RunError
from fedhealth.common.fixed_point import LIMIT
from fedhealth.metrics.many_histograms import ManyHistograms, join_scores
from fedhealth.models.local_training import LocalObjective
from fedhealth.models.weighted_sums import WeightedSum, add_sums
from fedhealth.server.batch_setup import BatchMembers
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.model_selection import correct_weights
from fedhealth.server.participation import Roster
from fedhealth.server.records import Evaluation, Histograms, RoundRecord, pooled_metrics
from fedhealth.server.reply_messages import with_types_of
from fedhealth.transport.protocol.fields import Scale, Weights
from fedhealth.transport.protocol.training import TrainReply, TrainRequest, decode_train_request, encode_train_reply

DIVERGED = f"training diverged: a weight is not finite, or beyond {LIMIT:g}; lower --learning-rate at the server"
MOST_LISTED = 5
Places = NDArray[np.intp]
"""Of hospitals in the order of their names."""


class BatchRounds:
    """Runs the rounds with all hospitals of `batch`."""

    def __init__(self, start: Checkpoint, roster: Roster, batch: BatchMembers) -> None:
        self.arrays = start.weights
        self._strategy = start.strategy
        self._class_weights = start.class_weights
        self._roster = roster
        self._batch = batch
        self._names = [member.name for member in batch.members]
        self._patients = np.array([member.train_patients for member in batch.members])

    def run_round(self, grid: Grid, round_num: int, train_config: ConfigRecord) -> Evaluation:
        """Run one round: train, aggregate, evaluate; `grid` has one node.

        Raises
        ------
        RunError
            Training diverged in so many hospitals that too few are left.
        """
        started = time.perf_counter()
        (message,) = self._strategy.configure_train(round_num, self.arrays, train_config, grid)
        request, asked = decode_train_request(message.content), self._draw(round_num)
        total, trained, losses, diverged = self._train(request, asked)
        if total is None or len(trained) < self._roster.needed:
            raise RunError(self._too_few(round_num, len(trained), diverged))
        patients = self._patients[trained]
        loss = float((losses * patients).sum() / total.examples)
        self._aggregate(round_num, message, TrainReply(self._named(total.mean()), total.examples, loss))
        tested, validation = self._evaluate(round_num, request.scale)
        measured, names = pooled_metrics(tested, validation), self._names
        record = RoundRecord(
            round_num=round_num,
            seconds=time.perf_counter() - started,
            train_loss=loss,
            left_out={names[place]: DIVERGED for place in diverged},
            left_out_share=float(self._patients[diverged].sum() / self._patients[asked].sum()),
            clipped={},
            asked=tuple(names[place] for place in asked) if self._roster.schedule.fraction < 1 else (),
            **measured,
        )
        return Evaluation(record, tested, validation)

    def _draw(self, round_num: int) -> Places:
        """The hospitals that train in this round, as `Roster.draw` draws them."""
        members, schedule = len(self._names), self._roster.schedule
        if schedule.fraction == 1:
            return np.arange(members)
        return np.sort(schedule.draw_places(round_num, members, members))

    def _train(
        self, request: TrainRequest, asked: Places
    ) -> tuple[WeightedSum | None, Places, NDArray[np.float64], Places]:
        """The sum of the weights, who is in it, their training losses, and who diverged."""
        objective = LocalObjective(request.proximal_mu, None, request.class_weights or (1.0, 1.0))
        wanted = None if len(asked) == len(self._names) else np.sort(self._batch.numbers[asked])
        weights = list(request.weights.values())
        replies = self._batch.calls.call("train", weights, request.round_num, request.scale, objective, wanted)
        totals, numbers, losses, diverged = zip(*replies, strict=True)
        trained = self._batch.to_places(numbers)
        order = np.argsort(trained)
        total = add_sums([each for each in totals if each])
        return total, trained[order], np.concatenate(losses)[order], np.sort(self._batch.to_places(diverged))

    def _too_few(self, round_num: int, trained: int, diverged: Places) -> str:
        listed = "; ".join(f"{self._names[place]}: {DIVERGED}" for place in diverged[:MOST_LISTED])
        more = f"; and {len(diverged) - MOST_LISTED} more" if len(diverged) > MOST_LISTED else ""
        needed = f"{self._roster.needed} hospitals that it needs ({self._roster.needed_for})"
        return f"round {round_num}: {trained} of the {needed} trained ({listed}{more})"

    def _named(self, weights: Sequence[NDArray[np.float32]]) -> Weights:
        return dict(zip(self.arrays, weights, strict=True))

    def _aggregate(self, round_num: int, message: Message, reply: TrainReply) -> None:
        """Let the strategy take its step from the hospitals' mean weights."""
        answer = Message(encode_train_reply(reply), reply_to=message)
        arrays, _ = self._strategy.aggregate_train(round_num, [answer])
        self.arrays = self.arrays if arrays is None else with_types_of(self.arrays, arrays)

    def _evaluate(self, round_num: int, scale: Scale | None) -> tuple[Histograms, Histograms]:
        if not self._roster.schedule.evaluates_after(round_num):
            return {}, {}
        return evaluate_batch(self._batch, correct_weights(self.arrays, self._class_weights), scale)


def evaluate_batch(batch: BatchMembers, weights: ArrayRecord, scale: Scale | None) -> tuple[Histograms, Histograms]:
    """The histograms of all hospitals' test and validation patients under these weights."""
    replies = batch.calls.call("evaluate", list(read_arrays(weights).values()), scale)
    numbers, tested, held = zip(*replies, strict=True)
    places, names = batch.to_places(numbers), [member.name for member in batch.members]
    both = [[part for parts in each for part in parts] for each in (tested, held)]
    first, second = (ManyHistograms(names, join_scores(parts, places)) if parts else {} for parts in both)
    return first, second
