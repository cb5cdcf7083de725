"""After the rounds: what the hospitals are asked of the final model, and the model itself for each of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from msgspec import structs

from fedhealth.common.array_codec import read_arrays
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance, combine_importance
from fedhealth.metrics.subgroups import Subgroups
from fedhealth.server import reply_validation
from fedhealth.server.records import Evaluation, Member, RoundRecord, pooled_metrics, split_histograms
from fedhealth.server.reply_validation import readable
from fedhealth.transport.protocol import evaluation, finalization
from fedhealth.transport.protocol.fields import Scale

T = TypeVar("T")
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class FinalQuestions:
    """Asks every member that is still here, once: the run is over, so no answer is waited for beyond `timeout` seconds.

    Parameters
    ----------
    members : those who have not been dropped.
    scale : the standardisation; None if each hospital has its own.
    grace : seconds that the final model waits for a hospital that is away.
    """

    grid: Grid
    members: Sequence[Member]
    scale: Scale | None
    timeout: float
    grace: float = 0.0

    def ask(
        self, question: str, content: RecordDict, read: Callable[[RecordDict, Member], T]
    ) -> tuple[dict[str, T], dict[str, str]]:
        """The replies by hospital, and for each other hospital why there is none.

        `read` raises a `ValueError` if the content of a reply makes no sense.
        """
        here, by_node = set(self.grid.get_node_ids()), {member.node_id: member for member in self.members}
        messages = [Message(content, dst_node_id=node, message_type=question) for node in by_node if node in here]
        answers: dict[str, T] = {}
        silent = {member.name: "not here" for member in self.members}
        for reply in self.grid.send_and_receive(messages, timeout=self.timeout):
            member = by_node[reply.metadata.src_node_id]
            if reply.has_error():
                silent[member.name] = readable(reply.error.reason)
                continue
            try:
                answers[member.name] = read(reply.content, member)
            except ValueError as problem:
                silent[member.name] = readable(problem)
                continue
            del silent[member.name]
        return answers, silent

    def evaluate(self, weights: ArrayRecord, record: RoundRecord) -> Evaluation:
        """The evaluation of `weights`, the model that came of the round of this record.

        Who gives no reply, or one that makes no sense, is left out.
        """
        request = evaluation.EvaluateRequest(read_arrays(weights), record.round_num, self.scale, final=True)
        answers, silent = self.ask(
            evaluation.EVALUATE,
            evaluation.encode_evaluate_request(request),
            lambda content, member: reply_validation.check_evaluation(
                evaluation.decode_evaluate_reply(content), member
            ),
        )
        tested, held_out = split_histograms(answers)
        left_out = {**record.left_out, **silent}
        measured = structs.replace(record, left_out=left_out, **pooled_metrics(tested, held_out))
        return Evaluation(measured, tested, held_out)

    def ask_subgroups(self, final: RecordDict, least: int) -> Subgroups:
        """The outcomes by sex and age band, of groups of `least` patients or more."""
        told, silent = self.ask(
            finalization.SUBGROUPS,
            final,
            lambda content, member: reply_validation.check_disclosed(
                finalization.decode_subgroups(content), member, least
            ),
        )
        return Subgroups(disclosed=told, missing=silent)

    def ask_importance(self, final: RecordDict) -> Importance:
        """Permutation importance in each hospital that sends it and in all of them together."""
        drops, silent = self.ask(
            finalization.IMPORTANCE,
            final,
            lambda content, member: reply_validation.check_importance(finalization.decode_importance(content), member),
        )
        return combine_importance(drops, {member.name: member.test_pairs for member in self.members}, silent)

    def hand_out(self, final: RecordDict) -> tuple[dict[str, dict[str, PairedComparison]], tuple[str, ...]]:
        """Send every member the final model, those who are away when they are back.

        Returns
        -------
        By hospital, what the model is worth there, of those that say so; and the names of those who stayed away.
        """
        told, away, deadline = dict[str, dict[str, PairedComparison]](), self.members, time.monotonic() + self.grace
        while True:
            here = set(self.grid.get_node_ids())
            told |= self._send_final(final, [member for member in away if member.node_id in here])
            away = [member for member in away if member.node_id not in here]
            if not away or time.monotonic() >= deadline:
                return told, tuple(member.name for member in away)
            time.sleep(POLL_SECONDS)

    def _send_final(self, final: RecordDict, members: Sequence[Member]) -> dict[str, dict[str, PairedComparison]]:
        told, _ = replace(self, members=members).ask(
            finalization.FINISH,
            final,
            lambda content, _: reply_validation.check_comparisons(finalization.decode_finish_reply(content)),
        )
        return {name: verdicts for name, verdicts in told.items() if verdicts}
