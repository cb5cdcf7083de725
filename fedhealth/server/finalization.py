"""After the rounds: what the hospitals are asked of the final model, and the model itself for each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from msgspec import structs

from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance, combine_importance
from fedhealth.metrics.subgroups import Subgroups
from fedhealth.server.records import Evaluation, Member, RoundRecord, pooled_metrics, split_histograms
from fedhealth.server.reply_validation import (
    NOT_SOUND,
    describe_problem,
    read_comparisons,
    read_evaluation,
    read_importance,
    read_subgroups,
    readable,
)

T = TypeVar("T")


@dataclass(frozen=True)
class FinalQuestions:
    """Asks every member that is still here, once: the run is over, so nobody is waited for beyond `timeout` seconds.

    Parameters
    ----------
    members : those who have not been dropped.
    config : the standardisation, as every message has it.
    """

    grid: Grid
    members: Sequence[Member]
    config: ConfigRecord
    timeout: float

    def ask(
        self, question: str, content: RecordDict, read: Callable[[Message, Member], T]
    ) -> tuple[dict[str, T], dict[str, str]]:
        """The replies by hospital, and for each other hospital why there is none.

        `read` raises one of `NOT_SOUND` if a reply makes no sense.
        """
        here, by_node = set(self.grid.get_node_ids()), {member.node_id: member for member in self.members}
        messages = [Message(content, dst_node_id=node, message_type=question) for node in by_node if node in here]
        answers: dict[str, T] = {}
        silent = {member.name: "not here" for member in self.members}
        for reply in self.grid.send_and_receive(messages, timeout=self.timeout):
            member = by_node[reply.metadata.src_node_id]
            if reply.has_error():
                silent[member.name] = readable(str(reply.error.reason))
                continue
            try:
                answers[member.name] = read(reply, member)
            except NOT_SOUND as problem:
                silent[member.name] = describe_problem(problem)
                continue
            del silent[member.name]
        return answers, silent

    def evaluate(self, weights: ArrayRecord, record: RoundRecord) -> Evaluation:
        """The evaluation of `weights`, the model that came of the round of this record.

        Who gives no reply, or one that makes no sense, is left out.
        """
        asked = ConfigRecord({**self.config, "server-round": record.round_num, "final": True})
        answers, silent = self.ask("evaluate", RecordDict({"arrays": weights, "config": asked}), read_evaluation)
        tested, validation = split_histograms(answers)
        left_out = {**record.left_out, **silent}
        measured = structs.replace(record, left_out=left_out, **pooled_metrics(tested, validation))
        return Evaluation(measured, tested, validation)

    def ask_subgroups(self, final: RecordDict, least: int) -> Subgroups:
        """The outcomes by sex and age band, of groups of `least` patients or more."""
        told, silent = self.ask("query.subgroups", final, lambda reply, member: read_subgroups(reply, member, least))
        return Subgroups(told=told, silent=silent)

    def ask_importance(self, final: RecordDict) -> Importance:
        """Permutation importance in each hospital that sends it and in all of them together."""
        drops, silent = self.ask("query.importance", final, read_importance)
        return combine_importance(drops, {member.name: member.test_pairs for member in self.members}, silent)

    def hand_out(self, final: RecordDict) -> dict[str, dict[str, PairedComparison]]:
        """Send every member the final model; by hospital, what it is worth there, of those that say so."""
        told, _ = self.ask("query.finish", final, read_comparisons)
        return {name: verdicts for name, verdicts in told.items() if verdicts}
