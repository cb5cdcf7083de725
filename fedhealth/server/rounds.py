"""The rounds: a wrapper around any strategy that passes it only valid replies and evaluates the aggregated weights."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from msgspec import structs

from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.model_selection import correct_weights
from fedhealth.server.node_subset import NodeSubsetGrid
from fedhealth.server.participation import POLL_SECONDS, Replies, Roster
from fedhealth.server.records import Evaluation, Member, RoundRecord, pooled_metrics, split_histograms
from fedhealth.server.reply_messages import split_replies, with_types_of, with_weights
from fedhealth.server.reply_validation import check_evaluation, check_trained, clip_update
from fedhealth.server.strategies.newton import check_convex, expected_reply
from fedhealth.transport.protocol.evaluation import decode_evaluate_reply
from fedhealth.transport.protocol.training import (
    TRAIN_LOSS,
    decode_train_reply,
    with_evaluation,
)


class Trained(NamedTuple):
    """A valid reply to a train message."""

    message: Message
    """With clipped weights, if the update was longer than allowed."""
    norm: float | None
    """L2 norm of the update before it was clipped; None if it was not."""


@dataclass
class Training:
    """The training of one round."""

    grid: Grid
    config: ConfigRecord
    asked: set[int]
    started: float
    left_out: dict[int, str] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    replies: Sequence[Message] = ()
    """To the train messages, without the evaluation that they may include."""


class GuardedStrategy:
    """Wraps a strategy: it gets only valid replies of members that have not been dropped, and only if there are enough.

    Parameters
    ----------
    start : the state of the run, with its strategy, weights and class weights.
    roster : the members of the run.

    Attributes
    ----------
    arrays : the global weights after the last aggregation.
    """

    def __init__(self, start: Checkpoint, roster: Roster) -> None:
        self.arrays = start.weights
        self._strategy = start.strategy
        self._class_weights = start.class_weights
        self._roster = roster
        self._training: Training

    def ask(
        self,
        grid: Grid,
        round_num: int,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
        before: RoundRecord | None = None,
    ) -> Evaluation | None:
        """Send the train messages of a round and, if the round `before` has no evaluation, ask for it at the same time.

        `ask` and `aggregate` replace one pass of the loop in Flower's `Strategy.start`, which cannot be stopped early.

        Returns
        -------
        The evaluation of the round before, if it had none.

        Raises
        ------
        RunError
            Too few hospitals are connected.
        """
        timeout, plain = self._roster.policy.round_timeout, train_config
        config = plain if before is None else with_evaluation(plain)
        messages = list(self.configure_train(round_num, self.arrays, config, grid))
        self._training.config = plain  # hospitals that come back late are only asked to train
        if before is None:
            self._training.replies = list(grid.send_and_receive(messages, timeout=timeout))
            return None
        wanted = {
            message.metadata.dst_node_id: message
            for message in self.configure_evaluate(before.round_num, self.arrays, evaluate_config, grid)
        }
        train = {message.metadata.dst_node_id for message in messages}
        others = [message for node, message in wanted.items() if node not in train]
        replies = list(grid.send_and_receive([*messages, *others], timeout=timeout))
        self._training.replies, evaluated = split_replies(replies)
        got = {message.metadata.src_node_id for message in evaluated}
        # A hospital may train without an evaluation, or fail to train.
        here = set(grid.get_node_ids())
        missing = [message for node, message in wanted.items() if node in (train - got) & here]
        evaluated += grid.send_and_receive(missing, timeout=timeout) if missing else []
        evaluation = self._complete(before, evaluated)
        self._training.asked &= self._roster.active()
        return evaluation

    def aggregate(self, round_num: int) -> RoundRecord:
        """Aggregate the replies to the train messages; returns the record of the round without metrics.

        Raises
        ------
        RunError
            Too few hospitals can train.
        """
        replies, self._training.replies = self._training.replies, ()
        self.aggregate_train(round_num, replies)
        return self._record(round_num)

    def goes_on(self, grid: Grid, round_num: int) -> bool:
        """Whether the evaluation after this round can be asked for with the train messages of the next, at once."""
        roster, schedule = self._roster, self._roster.schedule
        if round_num == schedule.rounds or not schedule.evaluates_after(round_num):
            return False
        return len(roster.draw(round_num + 1) & set(grid.get_node_ids())) >= roster.needed

    def evaluate(self, grid: Grid, round_num: int, config: ConfigRecord) -> Evaluation:
        """The evaluation after a round, asked for alone; without any message if the schedule has none."""
        messages = self.configure_evaluate(round_num, self.arrays, config, grid)
        return self.aggregate_evaluate(
            round_num, grid.send_and_receive(messages, timeout=self._roster.policy.round_timeout)
        )

    def configure_train(
        self, round_num: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The train messages for every connected hospital that was sampled, once enough of them are connected."""
        self.arrays = arrays
        self._training = Training(grid, config, self._roster.draw(round_num), time.perf_counter())
        nothing_yet = Replies[Trained]({}, self._roster.drop_reasons(), self._training.asked)
        self._roster.wait_for_members(grid, round_num, nothing_yet, time.monotonic())
        return self._train_messages(round_num)

    def _train_messages(self, round_num: int) -> list[Message]:
        training = self._training
        # Flower's strategies count the nodes before they wait for `min_available_nodes` (flwr 1.42.0): if four hospitals
        # connect late, round 1 would train two even with `fraction_train=1.0`. Therefore they get exactly these nodes.
        here = training.asked & set(training.grid.get_node_ids())
        part = NodeSubsetGrid(training.grid, here)
        return list(self._strategy.configure_train(round_num, self.arrays, training.config, part)) if here else []

    def aggregate_train(
        self, round_num: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the strategy aggregate the valid replies, once there are enough.

        Raises
        ------
        RunError
            Connected hospitals cannot train, or those that left do not come back within `max_wait`.
        """
        training, roster = self._training, self._roster
        checked = self._await_trained(round_num, roster.sort_replies(replies, training.asked, self._read_trained))
        training.left_out = {**checked.reasons}
        # In the order of names: floating-point sums depend on the order, and node ids may differ between runs.
        trained = {node: checked.valid[node] for node in roster.members if node in checked.valid}
        training.clipped = {
            roster.members[node].name: each.norm for node, each in trained.items() if each.norm is not None
        }
        arrays, metrics = self._strategy.aggregate_train(round_num, [each.message for each in trained.values()])
        loss = float(metrics.get(TRAIN_LOSS, math.nan)) if metrics else math.nan  # type: ignore[arg-type]
        training.loss = None if math.isnan(loss) else loss
        arrays = arrays and with_types_of(self.arrays, arrays)
        self.arrays = self.arrays if arrays is None else arrays
        return arrays, metrics

    def _await_trained(self, round_num: int, replies: Replies[Trained]) -> Replies[Trained]:
        """These replies and, while they are too few, those of hospitals that come back."""
        training, roster, since = self._training, self._roster, time.monotonic()
        replies = Replies(replies.valid, {**replies.reasons, **roster.drop_reasons()}, replies.absent)
        while len(replies.valid) < roster.needed:
            roster.wait_for_members(training.grid, round_num, replies, since)
            messages = [m for m in self._train_messages(round_num) if m.metadata.dst_node_id in replies.absent]
            new = training.grid.send_and_receive(messages, timeout=roster.policy.round_timeout)
            late = roster.sort_replies(new, replies.absent, self._read_trained)
            replies = replies.with_late(late)
            if not late.valid:
                time.sleep(POLL_SECONDS)  # no busy loop on a hospital that is connected but does not reply
        return replies

    def _read_trained(self, reply: Message, member: Member) -> Trained:
        """The validated reply, with its update clipped if that is required; `reply` itself is not changed."""
        trained = check_trained(decode_train_reply(reply.content), expected_reply(self._strategy, self.arrays), member)
        check_convex(trained)
        if not (longest := self._roster.policy.max_update_norm):
            return Trained(reply, None)
        weights, norm = clip_update(trained.weights, self.arrays, longest)
        return Trained(reply if norm is None else with_weights(reply, weights), norm)

    def configure_evaluate(
        self, round_num: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The evaluate messages for every connected hospital; none if the schedule evaluates nothing after this round."""
        here = self._roster.active() & set(grid.get_node_ids())
        if not here or not self._roster.schedule.evaluates_after(round_num):
            return []
        model = correct_weights(arrays, self._class_weights)
        return self._strategy.configure_evaluate(round_num, model, config, NodeSubsetGrid(grid, here))

    def aggregate_evaluate(self, round_num: int, replies: Iterable[Message]) -> Evaluation:
        """The round's complete record and histograms, from the replies to its evaluate messages."""
        evaluation = self._complete(self._record(round_num), replies)
        seconds = time.perf_counter() - self._training.started
        return replace(evaluation, record=structs.replace(evaluation.record, seconds=seconds))

    def _record(self, round_num: int) -> RoundRecord:
        """The round's record without metrics."""
        training, roster = self._training, self._roster
        asked = roster.count_patients(training.asked | training.left_out.keys())
        return RoundRecord(
            round_num=round_num,
            seconds=time.perf_counter() - training.started,
            train_loss=training.loss,
            left_out=roster.by_name(training.left_out),
            left_out_share=roster.count_patients(training.left_out) / asked,
            clipped=training.clipped,
            asked=roster.list_drawn(training.asked),
            **pooled_metrics({}, {}),
        )

    def _complete(self, record: RoundRecord, replies: Iterable[Message]) -> Evaluation:
        """The record with the metrics of these replies, and their histograms."""
        roster = self._roster
        checked = roster.sort_replies(
            replies,
            roster.active(),
            lambda reply, member: check_evaluation(decode_evaluate_reply(reply.content), member),
        )
        by_hospital = {roster.members[node].name: histograms for node, histograms in checked.valid.items()}
        tested, validation = split_histograms(by_hospital)
        if roster.schedule.evaluates_after(record.round_num):
            silent = roster.by_name({**checked.reasons, **roster.drop_reasons()})
            left_out = {**silent, **record.left_out}
            names = [member.name for member in roster.members.values() if member.name in left_out]
            record = structs.replace(record, left_out={name: left_out[name] for name in names})
        return Evaluation(structs.replace(record, **pooled_metrics(tested, validation)), tested, validation)
