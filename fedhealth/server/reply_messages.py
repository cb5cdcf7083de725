"""The replies of a round: as they come, their training and their evaluation, and changed copies of them."""

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.common.array_codec import make_array
from fedhealth.metrics.histogram import ScoreHistogram
from fedhealth.server.exact_sums import ExactSum
from fedhealth.server.participation import IncomingReplies, Replies, Roster
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import check_evaluation
from fedhealth.transport.base import BaseGrid
from fedhealth.transport.incoming import Incoming
from fedhealth.transport.protocol.evaluation import decode_evaluate_reply
from fedhealth.transport.protocol.fields import ARRAYS, Weights, encode_arrays
from fedhealth.transport.protocol.training import TRAIN, split_train_reply
from fedhealth.transport.records import with_content

LARGE_MODEL_BYTES = 1024 * 1024

ReadEvaluation = tuple[ScoreHistogram, ScoreHistogram | None]
"""Of the test patients and of the validation patients."""


class Trained(NamedTuple):
    """A valid reply to a train message."""

    message: Message | None
    """With clipped weights, if the update was longer than allowed; None if the weights are in the exact sum."""
    norm: float | None
    """L2 norm of the update before it was clipped; None if it was not."""
    num_examples: int
    loss: float | None


@dataclass
class Training:
    """The training of one round."""

    grid: Grid
    config: ConfigRecord
    asked: set[int]
    started: float
    total: ExactSum | None
    """The sum of the weights so far; None for a strategy that needs the single replies."""
    left_out: dict[int, str] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    replies: Replies[Trained] | None = None


def read_evaluation(reply: Message, member: Member) -> ReadEvaluation:
    """The validated histograms of a reply."""
    return check_evaluation(decode_evaluate_reply(reply.content), member)


def receive_each(grid: Grid, messages: Sequence[Message], timeout: float | None) -> Iterable[Message]:
    """The replies as they come; with a grid of Flower's own engines, all at the end."""
    if isinstance(grid, BaseGrid):
        return grid.receive_each(messages, timeout=timeout)
    return grid.send_and_receive(messages, timeout=timeout)


def receive_groups(grid: Grid, messages: Sequence[Message], timeout: float | None) -> Iterable[list[Incoming]]:
    """As `receive_each`, in groups of those that are here at the same time."""
    if isinstance(grid, BaseGrid):
        return grid.receive_groups(messages, timeout=timeout)
    return ([Incoming.of(reply)] for reply in grid.send_and_receive(messages, timeout=timeout))


def split_reply(reply: Message) -> tuple[Message | None, Message | None]:
    """The training and the evaluation in a reply to a train or an evaluate message; None if there is none."""
    if reply.metadata.message_type != TRAIN:
        return None, reply
    if reply.has_error():
        return reply, None
    training, evaluation = split_train_reply(reply.content)
    return with_content(reply, training), with_content(reply, evaluation) if evaluation else None


def take_replies(
    groups: Iterable[list[Incoming]],
    take_group: Callable[[list[Incoming]], list[Incoming]],
    roster: Roster,
    trained: IncomingReplies[Trained],
    evaluated: IncomingReplies[ReadEvaluation] | None,
) -> None:
    """Take the replies of a round as they come: what `take_group` leaves, one after the other.

    `evaluated` is None if no evaluation was asked for.
    """
    for group in groups:
        left = take_group(group)
        group.clear()
        while left:
            reply = left.pop(0).message()
            training, evaluation = (reply, None) if evaluated is None else split_reply(reply)
            if evaluated and evaluation:
                evaluated.take(evaluation)
            # A hospital that was dropped for its evaluation trains no more.
            if training and roster.is_active(reply.metadata.src_node_id):
                trained.take(training)
            del reply, training, evaluation  # otherwise they would stay in memory until the next one comes


def free_large_arrays(arrays: ArrayRecord) -> None:
    """Free what the aggregation has left, if the model is large: Flower's `RecordDict.array_records` makes a cycle each time.

    It holds all weights of a reply until Python looks for cyclic garbage.
    """
    if sum(len(array.data) for array in arrays.values()) > LARGE_MODEL_BYTES:
        gc.collect()


def with_types_of(before: ArrayRecord, after: ArrayRecord) -> ArrayRecord:
    """The new weights in the types of the old ones.

    NumPy makes float64 of float32 times a float64 scalar, which FedAdam brings in; the next replies would then be of
    another type than the model that was sent.
    """
    types = {name: array.dtype for name, array in before.items()}
    if all(array.dtype == types.get(name, array.dtype) for name, array in after.items()):
        return after
    return ArrayRecord({name: make_array(array.numpy().astype(types.get(name))) for name, array in after.items()})


def with_weights(message: Message, weights: Weights) -> Message:
    """A copy of a message with other weights."""
    return with_content(message, RecordDict({**message.content, ARRAYS: encode_arrays(weights)}))
