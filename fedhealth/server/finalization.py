"""After the rounds: what the hospitals are asked of the final model, and the model itself for each of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance, combine_importance
from fedhealth.metrics.subgroups import Subgroups
from fedhealth.server.events import Member, RoundRecord, evaluation_fields
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


def ask_of_final_model(
    grid: Grid,
    members: Sequence[Member],
    question: str,
    content: RecordDict,
    read: Callable[[Message, Member], T],
    *,
    timeout: float,
) -> tuple[dict[str, T], dict[str, str]]:
    """Ask every member that is still here, once: the run is over, so nobody is waited for beyond `timeout` seconds.

    `read` raises one of `NOT_SOUND` if an answer makes no sense.

    Returns
    -------
    The answers by hospital, and for each other hospital why there is none.
    """
    here, by_node = set(grid.get_node_ids()), {member.node_id: member for member in members}
    messages = [Message(content, dst_node_id=node, message_type=question) for node in by_node if node in here]
    answers: dict[str, T] = {}
    silent = {member.name: "not here" for member in members}
    for reply in grid.send_and_receive(messages, timeout=timeout):
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


def ask_for_subgroups(
    grid: Grid, members: Sequence[Member], final: RecordDict, settings: FederationSettings
) -> Subgroups | None:
    """How the final model does by sex and age band; None if that was switched off."""
    if not settings.subgroups:
        return None
    told, silent = ask_of_final_model(
        grid,
        members,
        "query.subgroups",
        final,
        lambda reply, member: read_subgroups(reply, member, settings.min_count),
        timeout=settings.round_timeout,
    )
    return Subgroups(told, silent)


def evaluate_model(
    grid: Grid,
    members: Sequence[Member],
    weights: ArrayRecord,
    config: ConfigRecord,
    record: RoundRecord,
    *,
    timeout: float,
) -> RoundRecord:
    """The record of a round with what the members who are here find out about `weights`, the model that came of it.

    `config` is what every message says of the standardisation. Who gives no answer, or one that makes no sense, is left out.
    """
    asked = ConfigRecord({**config, "server-round": record.round_num, "final": True})
    content = RecordDict({"arrays": weights, "config": asked})
    answers, silent = ask_of_final_model(grid, members, "evaluate", content, read_evaluation, timeout=timeout)
    tested = {name: histogram for name, (histogram, _) in answers.items()}
    held = {name: histogram for name, (_, histogram) in answers.items() if histogram}
    return replace(record, left_out={**record.left_out, **silent}, **evaluation_fields(tested, held))


def ask_importance(grid: Grid, members: Sequence[Member], final: RecordDict, *, timeout: float) -> Importance:
    """What the final model goes by, in each hospital that tells and in all of them together."""
    drops, silent = ask_of_final_model(grid, members, "query.importance", final, read_importance, timeout=timeout)
    return combine_importance(drops, {member.name: member.test_pairs for member in members}, silent)


def hand_out(
    grid: Grid, members: Sequence[Member], final: RecordDict, *, timeout: float
) -> dict[str, dict[str, PairedComparison]]:
    """Give every member the final model; by hospital, what it is worth there, of those that say so."""
    told, _ = ask_of_final_model(grid, members, "query.finish", final, read_comparisons, timeout=timeout)
    return {name: verdicts for name, verdicts in told.items() if verdicts}
