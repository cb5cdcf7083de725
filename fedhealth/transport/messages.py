"""Flower's messages as bytes, and every flwr internal that the link leans on, in one place.

Pinned to flwr 1.42; `tests/transport/test_messages.py` fails when one of them moves.
"""

import hashlib
from collections.abc import Iterable

from flwr.app import DEFAULT_TTL, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.common.serde_utils import metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.task_identity import TaskIdentity

from fedhealth.common.errors import RunError
from fedhealth.data.schema import schema_fingerprint

METHOD = "/fedhealth.Federation/Join"
CHECK_METHOD = "/fedhealth.Federation/Check"
PROTOCOL = "4"
"""Raised whenever an older client could misunderstand a newer server."""
SERVER_NODE_ID = 1
RUN_ID = 1
ABSENT = ErrorCode.NODE_UNAVAILABLE
"""Code of an error reply that the link made: nobody there, or no answer in time. The hospital may come back."""
APP_FAILED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""Code of an error reply that the hospital gave itself."""


def agreement() -> dict[str, str]:
    """What client and server must have in common, as call metadata; checked when a hospital joins."""
    return {"protocol": PROTOCOL, "schema": schema_fingerprint()}


def node_id_of(hospital: str) -> int:
    """Flower's number for a hospital: 63 bits of a hash of its name, which survive a restart; never the server's."""
    return int.from_bytes(hashlib.sha256(hospital.encode()).digest()[:8], "big") >> 1 | 1 << 32


def set_identity(node_id: int) -> None:
    """Tell Flower who this process is; without it no new `Message` can be built (a reply needs no identity)."""
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.task_id = RUN_ID
    TaskIdentity.node_id = node_id


def set_message_id(message: Message, message_id: str) -> None:
    """Number a message: Flower leaves that to its SuperLink and gives no setter."""
    message.metadata.__dict__["_message_id"] = message_id


def checked_messages(messages: Iterable[Message]) -> list[Message]:
    """The messages that a `Grid` is to send, in a list.

    Raises
    ------
    ValueError
        A message is among them twice (both would have one id, and the second reply would never be found), or has a
        time-to-live, which no grid of this project observes.
    """
    outgoing = list(messages)
    if len(set(map(id, outgoing))) < len(outgoing):
        raise ValueError("the same Message object is there twice; make a Message for each hospital and each time")
    for message in outgoing:
        if message.metadata.ttl != DEFAULT_TTL:
            reason = "leave ttl out, and give send_and_receive a timeout"
            raise ValueError(f"a Message has ttl={message.metadata.ttl:g}, which is not supported; {reason}")
    return outgoing


def encode_message(message: Message) -> bytes:
    """One message as bytes."""
    encoded: bytes = message_to_proto(message).SerializeToString()
    return encoded


Parts = tuple[bytes, bytes]
"""Metadata and content of an encoded message, which is the two joined."""


def encode_messages(messages: Iterable[Message]) -> list[Parts]:
    """Many messages; content that several of them share (the global weights) is serialised once and held once.

    Two encoded protobuf messages written one after the other are the encoding of both merged (protobuf, "Encoding",
    section "Last One Wins"): metadata differ, content is the same bytes.
    """
    contents: dict[int, bytes] = {}
    encoded = []
    for message in messages:
        key = id(message.content)
        if key not in contents:
            contents[key] = ProtoMessage(content=recorddict_to_proto(message.content)).SerializeToString()
        metadata = ProtoMessage(metadata=metadata_to_proto(message.metadata)).SerializeToString()
        encoded.append((metadata, contents[key]))
    return encoded


def decode_message(payload: bytes) -> Message:
    """Bytes back to a message; a `ValueError` if they are none."""
    try:
        proto = ProtoMessage.FromString(payload)
        if proto.HasField("content") == proto.HasField("error"):
            raise ValueError("a message is either content or an error")
        return message_from_proto(proto)
    except Exception as error:  # flwr's conversion breaks in many ways on what no honest end sends
        raise ValueError(f"not a Flower message ({type(error).__name__})") from error


def failure_reply(request: Message, error: Exception) -> Message:
    """The answer of a hospital whose app failed.

    Only our own words about a run travel; any other error is named by its type, for its text may quote a patient.
    """
    return error_reply(request, str(error) if isinstance(error, RunError) else type(error).__name__, APP_FAILED)


def error_reply(request: Message, reason: str, code: int = ABSENT) -> Message:
    """The answer that stands in for a missing one."""
    return Message(Error(code=code, reason=reason), reply_to=request)


def request(content: RecordDict, message_type: str, node_id: int) -> Message:
    """A message from the server to one hospital."""
    return Message(content, dst_node_id=node_id, message_type=message_type)
