"""Finalization after the rounds: queries about the final model, and sending it to every hospital."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from msgspec import structs

from fedhealth.common.array_codec import read_arrays
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance, combine_importance
from fedhealth.metrics.subgroups import Divisions, Subgroups
from fedhealth.server import reply_validation
from fedhealth.server.records import Evaluation, Member, RoundRecord, pooled_metrics, split_histograms
from fedhealth.server.reply_validation import readable
from fedhealth.server.strategies.newton import check_convex
from fedhealth.transport.protocol import evaluation, finalization
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.newton import FIT_SUMS, reply_arrays
from fedhealth.transport.protocol.training import TrainReply, decode_train_reply

T = TypeVar("T")
POLL_SECONDS = 0.05


class Queries(Protocol):
    """What the finalization asks the hospitals."""

    def evaluate(self, weights: ArrayRecord, record: RoundRecord) -> Evaluation:
        """The evaluation of `weights`, a model made in the round of `record`."""

    def query_subgroups(self, final: RecordDict, divisions: Divisions, least: int) -> Subgroups:
        """The outcomes by subgroup, of groups of at least `least` patients."""

    def query_importance(self, final: RecordDict, features: Sequence[str]) -> Importance:
        """Permutation importance in each hospital that sends it, and combined over these hospitals."""

    def query_fit_sums(self, request: RecordDict, size: int) -> tuple[dict[str, TrainReply], dict[str, str]]:
        """The sums of an exact fit of `size` coefficients by hospital; of the others, why there are none."""

    def send_final_model(self, final: RecordDict) -> tuple[dict[str, dict[str, PairedComparison]], tuple[str, ...]]:
        """The comparisons of the hospitals that share them, and the names of those that the model did not reach."""


@dataclass(frozen=True)
class FinalQueries:
    """Sends each query once to every connected member and waits at most `timeout` seconds for the replies.

    Parameters
    ----------
    members : the members that have not been dropped.
    scale : the standardisation; None if each hospital has its own.
    grace : seconds to wait for absent hospitals before the final model is sent for the last time.
    group : of the messages; under secure aggregation the run to which the hospitals' keys belong.
    are_sums : whether the member is all hospitals together.
    """

    grid: Grid
    members: Sequence[Member]
    scale: Scale | None
    timeout: float
    grace: float = 0.0
    group: str = ""
    are_sums: bool = False

    def query(
        self, message_type: str, content: RecordDict, read: Callable[[RecordDict, Member], T]
    ) -> tuple[dict[str, T], dict[str, str]]:
        """The replies by hospital, and for each other hospital the reason why there is none.

        `read` raises a `ValueError` if the content of a reply is invalid.
        """
        here, by_node = set(self.grid.get_node_ids()), {member.node_id: member for member in self.members}
        messages = [
            Message(content, dst_node_id=node, message_type=message_type, group_id=self.group)
            for node in by_node
            if node in here
        ]
        replies: dict[str, T] = {}
        silent = {member.name: "not connected" for member in self.members}
        for reply in self.grid.send_and_receive(messages, timeout=self.timeout):
            member = by_node[reply.metadata.src_node_id]
            if reply.has_error():
                silent[member.name] = readable(reply.error.reason)
                continue
            try:
                replies[member.name] = read(reply.content, member)
            except ValueError as problem:
                silent[member.name] = readable(problem)
                continue
            del silent[member.name]
        return replies, silent

    def evaluate(self, weights: ArrayRecord, record: RoundRecord) -> Evaluation:
        """The evaluation of `weights`, a model made in the round of `record`.

        Hospitals without a valid reply are left out.
        """
        request = evaluation.EvaluateRequest(read_arrays(weights), record.round_num, self.scale, final=True)
        replies, silent = self.query(
            evaluation.EVALUATE,
            evaluation.encode_evaluate_request(request),
            lambda content, member: reply_validation.check_evaluation(
                evaluation.decode_evaluate_reply(content), member
            ),
        )
        tested, held_out = split_histograms(replies)
        left_out = {**record.left_out, **silent}
        measured = structs.replace(record, left_out=left_out, **pooled_metrics(tested, held_out))
        return Evaluation(measured, tested, held_out)

    def query_subgroups(self, final: RecordDict, divisions: Divisions, least: int) -> Subgroups:
        """The outcomes by subgroup, of groups of at least `least` patients."""
        disclosed, silent = self.query(
            finalization.SUBGROUPS,
            final,
            lambda content, member: reply_validation.check_disclosed(
                divisions, finalization.decode_subgroups(content), member, least, are_sums=self.are_sums
            ),
        )
        return Subgroups(disclosed=disclosed, missing=silent, divisions=divisions)

    def query_importance(self, final: RecordDict, features: Sequence[str]) -> Importance:
        """Permutation importance in each hospital that sends it, and combined over these hospitals."""
        drops, silent = self.query(
            finalization.IMPORTANCE,
            final,
            lambda content, member: reply_validation.check_importance(
                len(features), finalization.decode_importance(content), member
            ),
        )
        return combine_importance(features, drops, {member.name: member.test_pairs for member in self.members}, silent)

    def query_fit_sums(self, request: RecordDict, size: int) -> tuple[dict[str, TrainReply], dict[str, str]]:
        """The sums of an exact fit of `size` coefficients by hospital; of the others, why there are none."""
        arrays = reply_arrays(size, final=True)

        def read(content: RecordDict, member: Member) -> TrainReply:
            sent = reply_validation.check_trained(decode_train_reply(content), arrays, member)
            check_convex(sent)
            return sent

        return self.query(FIT_SUMS, request, read)

    def send_final_model(self, final: RecordDict) -> tuple[dict[str, dict[str, PairedComparison]], tuple[str, ...]]:
        """Send the final model to every member, to absent members when they are back.

        Returns
        -------
        The comparisons of the hospitals that share them, and the names of the hospitals that stayed absent.
        """
        shared, away, deadline = dict[str, dict[str, PairedComparison]](), self.members, time.monotonic() + self.grace
        while True:
            here = set(self.grid.get_node_ids())
            shared |= self._send_final(final, [member for member in away if member.node_id in here])
            away = [member for member in away if member.node_id not in here]
            if not away or time.monotonic() >= deadline:
                return shared, tuple(member.name for member in away)
            time.sleep(POLL_SECONDS)

    def _send_final(self, final: RecordDict, members: Sequence[Member]) -> dict[str, dict[str, PairedComparison]]:
        shared, _ = replace(self, members=members).query(
            finalization.FINISH,
            final,
            lambda content, _: reply_validation.check_comparisons(finalization.decode_finish_reply(content)),
        )
        return {name: comparisons for name, comparisons in shared.items() if comparisons}


@dataclass(frozen=True)
class MaskedQueries:
    """The queries under secure aggregation: `sums` over all hospitals, and the final model to each `single` one."""

    sums: FinalQueries
    single: FinalQueries

    def evaluate(self, weights: ArrayRecord, record: RoundRecord) -> Evaluation:
        """As in `FinalQueries`."""
        return self.sums.evaluate(weights, record)

    def query_subgroups(self, final: RecordDict, divisions: Divisions, least: int) -> Subgroups:
        """As in `FinalQueries`."""
        return self.sums.query_subgroups(final, divisions, least)

    def query_importance(self, final: RecordDict, features: Sequence[str]) -> Importance:
        """As in `FinalQueries`."""
        return self.sums.query_importance(final, features)

    def query_fit_sums(self, request: RecordDict, size: int) -> tuple[dict[str, TrainReply], dict[str, str]]:
        """As in `FinalQueries`."""
        return self.sums.query_fit_sums(request, size)

    def send_final_model(self, final: RecordDict) -> tuple[dict[str, dict[str, PairedComparison]], tuple[str, ...]]:
        """As in `FinalQueries`; the hospitals send no comparisons."""
        return self.single.send_final_model(final)
