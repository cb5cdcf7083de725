"""Changed copies of replies and weights: the training and the evaluation of one reply, other weights, other types."""

from collections.abc import Iterable
from copy import copy

from flwr.app import ArrayRecord, Message, RecordDict

from fedhealth.common.array_codec import make_array
from fedhealth.transport.protocol.fields import ARRAYS, Weights, encode_arrays
from fedhealth.transport.protocol.training import TRAIN, split_train_reply


def split_replies(replies: Iterable[Message]) -> tuple[list[Message], list[Message]]:
    """The replies to train messages without the evaluation that they include, and all evaluations."""
    trained, evaluated = list[Message](), list[Message]()
    for reply in replies:
        if reply.metadata.message_type != TRAIN:
            evaluated.append(reply)
        elif reply.has_error():
            trained.append(reply)
        else:
            training, evaluation = split_train_reply(reply.content)
            trained.append(with_content(reply, training))
            evaluated += [with_content(reply, evaluation)] if evaluation else []
    return trained, evaluated


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


def with_content(message: Message, content: RecordDict) -> Message:
    """A copy of a message with other content."""
    other = copy(message)
    other.content = content
    return other
