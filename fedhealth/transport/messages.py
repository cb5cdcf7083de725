"""Encoding of Flower's messages, and all internals of flwr that this package uses.

Written for flwr 1.42; `tests/transport/test_messages.py` fails if one of the internals changes.
"""

import base64
import hashlib
from collections.abc import Iterable

from flwr.app import DEFAULT_TTL, Error, Message, RecordDict
from flwr.app.message.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde_utils import error_from_proto, error_to_proto, metadata_from_proto, metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.task_identity import TaskIdentity

from fedhealth.common.errors import RunError
from fedhealth.data.schema import FINGERPRINT_BYTES, Schema
from fedhealth.transport.records import read_records, write_records

METHOD = "/fedhealth.Federation/Join"
CHECK_METHOD = "/fedhealth.Federation/Check"
PROTOCOL = "7"
"""Increased when an older client could misunderstand a newer server."""
COLUMNS = "columns"
"""Metadata with which a server can say which columns differ."""
MOST_FINGERPRINT_BYTES = 4000
"""gRPC takes 8 KB of metadata."""
SERVER_NODE_ID = 1
RUN_ID = 1
ABSENT = ErrorCode.NODE_UNAVAILABLE
"""Code of an error reply for a hospital that is not connected or did not reply in time. It may come back."""
APP_FAILED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""Code of an error reply that the hospital itself sent."""


def agreement(schema: Schema) -> dict[str, str]:
    """The values that client and server must have in common, as call metadata; compared when a hospital joins."""
    return {"protocol": PROTOCOL, "schema": schema.fingerprint}


def join_fingerprints(schema: Schema) -> str:
    """The fingerprints of the columns in base64, for the metadata `COLUMNS`; empty if they are too many."""
    joined = b"".join(schema.fingerprints.values())
    return base64.b64encode(joined).decode() if len(joined) <= MOST_FINGERPRINT_BYTES else ""


def split_fingerprints(joined: object) -> list[bytes]:
    """The fingerprints that `join_fingerprints` has joined; none if the text is not base64."""
    try:
        content = base64.b64decode(str(joined), validate=True)
    except ValueError:
        return []
    return [content[start : start + FINGERPRINT_BYTES] for start in range(0, len(content), FINGERPRINT_BYTES)]


def node_id_of(hospital: str) -> int:
    """A hospital's node id: 63 bits of a hash of its name, so it is the same after a restart; never the server's id."""
    return int.from_bytes(hashlib.sha256(hospital.encode()).digest()[:8], "big") >> 1 | 1 << 32


def set_identity(node_id: int) -> None:
    """Set this process's node id in Flower, which requires one for a new `Message` (but not for a reply)."""
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.task_id = RUN_ID
    TaskIdentity.node_id = node_id


def set_message_id(message: Message, message_id: str) -> None:
    """Set a message's id, for which Flower has no setter, since its SuperLink assigns ids."""
    message.metadata.__dict__["_message_id"] = message_id


def checked_messages(messages: Iterable[Message]) -> list[Message]:
    """The messages as a list, validated before a `Grid` sends them.

    Raises
    ------
    ValueError
        A message is among them twice (both would have one id, and the second reply would never be found), or has a
        time-to-live, which no grid of this project observes.
    """
    outgoing = list(messages)
    if len(set(map(id, outgoing))) < len(outgoing):
        raise ValueError("the same Message object occurs twice; make a Message for each hospital and each time")
    for message in outgoing:
        if message.metadata.ttl != DEFAULT_TTL:
            reason = "leave ttl out, and give send_and_receive a timeout"
            raise ValueError(f"a Message has ttl={message.metadata.ttl:g}, which is not supported; {reason}")
    return outgoing


def encode_message(message: Message) -> bytes:
    """One message as bytes."""
    body = encode_error(message.error) if message.has_error() else encode_content(message.content)
    return encode_metadata(message) + body


def encode_metadata(message: Message) -> bytes:
    """The metadata of a message as bytes; followed by its content or its error, they are the message."""
    encoded: bytes = ProtoMessage(metadata=metadata_to_proto(message.metadata)).SerializeToString()
    return encoded


def encode_content(content: RecordDict) -> bytes:
    """The content of a message as bytes."""
    encoded: bytes = ProtoMessage(content=write_records(content)).SerializeToString()
    return encoded


def encode_error(error: Error) -> bytes:
    """The error of a message as bytes."""
    encoded: bytes = ProtoMessage(error=error_to_proto(error)).SerializeToString()
    return encoded


def decode_message(payload: bytes) -> Message:
    """The message of these bytes; raises a `ValueError` if they are not a message."""
    return to_message(parse_message(payload))


def parse_message(payload: bytes) -> ProtoMessage:
    """The message of these bytes in protobuf's form; raises a `ValueError` if they have none."""
    try:
        proto: ProtoMessage = ProtoMessage.FromString(payload)
    except Exception as error:  # protobuf's DecodeError is no ValueError
        raise _no_message(error) from error
    if proto.HasField("content") == proto.HasField("error"):
        raise _no_message(ValueError())  # it is either content or an error
    return proto


def to_message(proto: ProtoMessage) -> Message:
    """Flower's form of a message; raises a `ValueError` if its content is invalid."""
    try:
        metadata = metadata_from_proto(proto.metadata)
        if proto.HasField("error"):
            return make_message(metadata=metadata, error=error_from_proto(proto.error))
        return make_message(metadata=metadata, content=read_records(proto.content))
    except Exception as error:  # on invalid bytes, flwr's conversion raises many kinds of exceptions
        raise _no_message(error) from error


def _no_message(error: Exception) -> ValueError:
    return ValueError(f"not a Flower message ({type(error).__name__})")


def failure_reply(request: Message, error: Exception) -> Message:
    """The error reply of a hospital whose app failed.

    Only the text of a `RunError` is sent; of any other error only its type, since its text may contain a patient's
    values.
    """
    return error_reply(request, str(error) if isinstance(error, RunError) else type(error).__name__, APP_FAILED)


def error_reply(request: Message, reason: str, code: int = ABSENT) -> Message:
    """An error reply to `request`."""
    return Message(Error(code=code, reason=reason), reply_to=request)


def make_request(content: RecordDict, message_type: str, node_id: int) -> Message:
    """A message from the server to one hospital."""
    return Message(content, dst_node_id=node_id, message_type=message_type)
