"""The rounds: a wrapper around any strategy that passes it only valid replies and evaluates the aggregated weights."""

import time
from collections.abc import Iterable
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from msgspec import structs

from fedhealth.common.array_codec import read_arrays
from fedhealth.models.update_clipping import clip_update
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.exact_sums import TOO_MANY_EXAMPLES, ExactSum, aggregate_mean, find_too_many, uses_only_the_mean
from fedhealth.server.model_selection import correct_weights
from fedhealth.server.node_subset import NodeSubsetGrid
from fedhealth.server.participation import POLL_SECONDS, IncomingReplies, Replies, Roster
from fedhealth.server.records import Evaluation, Member, RoundRecord
from fedhealth.server.reply_groups import choose_taker
from fedhealth.server.reply_messages import (
    Trained,
    Training,
    free_large_arrays,
    read_evaluation,
    receive_groups,
    take_replies,
    with_types_of,
    with_weights,
)
from fedhealth.server.reply_validation import check_trained
from fedhealth.server.round_records import complete_record, note_trained, record_training
from fedhealth.server.strategies.flower_fixes import evaluates_all_nodes
from fedhealth.server.strategies.newton import check_convex, expected_reply
from fedhealth.transport.protocol.training import decode_train_reply, with_evaluation


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
        # Under secure aggregation the one reply is the mean, rounded to the model's type, and must not be rounded again.
        self._sums_up = uses_only_the_mean(start.strategy) and start.roster is None
        self._all_evaluate = evaluates_all_nodes(start.strategy)
        self._too_many = find_too_many(start.members) if self._sums_up else set()
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
        roster, timeout = self._roster, self._roster.policy.round_timeout
        config = train_config if before is None else with_evaluation(train_config)
        messages = list(self.configure_train(round_num, self.arrays, config, grid))
        self._training.config = train_config  # hospitals that come back late are only asked to train
        asked = {message.metadata.dst_node_id for message in messages}
        # Where all evaluate, no message is made for those that are asked with the training.
        rest = NodeSubsetGrid(grid, set(grid.get_node_ids()) - asked) if self._all_evaluate else grid
        wanted = self._messages_for(before, evaluate_config, rest)
        others = [message for node, message in wanted.items() if node not in asked]
        already_dropped = roster.drop_reasons()
        evaluated = IncomingReplies(roster, roster.active(), read_evaluation)
        trained = IncomingReplies(roster, self._training.asked, self._read_trained)
        asked_for = None if before is None else evaluated
        total = None if self._too_many else self._training.total
        take_group = choose_taker(roster, self.arrays, total, trained, asked_for)
        take_replies(receive_groups(grid, [*messages, *others], timeout), take_group, roster, trained, asked_for)
        if before is None:
            self._training.replies = trained.sorted()
            return None
        # A hospital may train without an evaluation, or fail to train.
        left = (asked & set(grid.get_node_ids())) - evaluated.seen
        if left and self._all_evaluate:
            wanted = self._messages_for(before, evaluate_config, NodeSubsetGrid(grid, left))
        again = [message for node, message in wanted.items() if node in left]
        for reply in grid.send_and_receive(again, timeout=timeout) if again else ():
            evaluated.take(reply)
        # A hospital that was dropped for its evaluation trains no more.
        gone = evaluated.reasons.keys() - roster.active()
        self._training.asked -= {node for node in gone if node not in trained.seen}
        self._training.replies = trained.sorted()
        return complete_record(before, evaluated.sorted(), already_dropped, roster)

    def _messages_for(self, before: RoundRecord | None, config: ConfigRecord, grid: Grid) -> dict[int, Message]:
        """The evaluate message for each hospital that the strategy selects."""
        if before is None:
            return {}
        messages = self.configure_evaluate(before.round_num, self.arrays, config, grid)
        return {message.metadata.dst_node_id: message for message in messages}

    def aggregate(self, round_num: int) -> RoundRecord:
        """Aggregate the replies to the train messages; returns the record of the round without metrics.

        Raises
        ------
        RunError
            Too few hospitals can train.
        """
        replies, self._training.replies = self._training.replies, None
        if replies:
            self._aggregate(round_num, replies)
        del replies
        free_large_arrays(self.arrays)
        return record_training(self._training, self._roster, round_num)

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
        total = ExactSum() if self._sums_up else None
        self._training = Training(grid, config, self._roster.draw(round_num), time.perf_counter(), total)
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
        return self._aggregate(round_num, self._roster.sort_replies(replies, self._training.asked, self._read_trained))

    def _aggregate(self, round_num: int, replies: Replies[Trained]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        training, roster = self._training, self._roster
        checked = self._await_trained(round_num, replies)
        # A hospital may have been dropped since it trained, for its evaluation.
        training.left_out = {node: why for node, why in checked.reasons.items() if node not in checked.valid}
        # In the order of names: floating-point sums depend on the order, and node ids may differ between runs.
        trained = {node: checked.valid[node] for node in roster.members if node in checked.valid}
        note_trained(training, roster, trained)
        if training.total and trained:
            types = {name: array.dtype for name, array in self.arrays.items()}
            total, training.total = training.total, None
            arrays, metrics = aggregate_mean(self._strategy, round_num, total, types, training.loss)
            del total
        else:
            messages = [each.message for each in trained.values() if each.message]
            arrays, metrics = self._strategy.aggregate_train(round_num, messages)
        arrays = arrays and with_types_of(self.arrays, arrays)
        self.arrays = self.arrays if arrays is None else arrays
        return arrays, metrics

    def _await_trained(self, round_num: int, replies: Replies[Trained]) -> Replies[Trained]:
        """These replies and, while they are too few, those of hospitals that come back."""
        training, roster, since = self._training, self._roster, time.monotonic()
        reasons = {**replies.reasons, **roster.drop_reasons()}
        replies = Replies(replies.valid, reasons, replies.absent & roster.active())
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
        sent = check_trained(decode_train_reply(reply.content), expected_reply(self._strategy, self.arrays), member)
        check_convex(sent)
        weights, norm, longest = sent.weights, None, self._roster.policy.max_update_norm
        if longest:
            weights, norm = clip_update(weights, read_arrays(self.arrays), longest)
        if self._training.total is None:
            kept = reply if norm is None else with_weights(reply, weights)
            return Trained(kept, norm, sent.num_examples, sent.train_loss)
        if member.node_id in self._too_many:
            raise ValueError(TOO_MANY_EXAMPLES)
        self._training.total.add(weights, sent.num_examples)
        return Trained(None, norm, sent.num_examples, sent.train_loss)

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
        checked = self._roster.sort_replies(replies, self._roster.active(), read_evaluation)
        evaluation = complete_record(
            record_training(self._training, self._roster, round_num), checked, self._roster.drop_reasons(), self._roster
        )
        seconds = time.perf_counter() - self._training.started
        return replace(evaluation, record=structs.replace(evaluation.record, seconds=seconds))
