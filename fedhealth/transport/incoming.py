"""A reply that has arrived. It becomes one of Flower's messages when somebody asks for that, since it takes a while."""

from flwr.app import Message
from flwr.proto.message_pb2 import Message as ProtoMessage

from fedhealth.transport.messages import parse_message, to_message
from fedhealth.transport.protocol.plain_replies import PlainReply, read_plain
from fedhealth.transport.protocol.training import TRAIN


class Incoming:
    """One reply.

    Parameters
    ----------
    source : the message, or one in protobuf's form that is known to be valid.
    node_id, reply_to, message_type : of its metadata: who sent it, the id of the message that it replies to, its type.
    plain : its content, if it is a train reply of the usual form.
    """

    __slots__ = ("_source", "message_type", "node_id", "plain", "reply_to")

    def __init__(
        self,
        source: Message | ProtoMessage,
        node_id: int,
        reply_to: str,
        message_type: str,
        plain: PlainReply | None = None,
    ) -> None:
        self._source = source
        self.node_id = node_id
        self.reply_to = reply_to
        self.message_type = message_type
        self.plain = plain

    @classmethod
    def of(cls, message: Message) -> "Incoming":
        """From Flower's form."""
        metadata = message.metadata
        return cls(message, metadata.src_node_id, metadata.reply_to_message_id, metadata.message_type)

    @classmethod
    def read(cls, payload: bytes) -> "Incoming":
        """From the bytes of a message; raises a `ValueError` if they are not a message."""
        proto = parse_message(payload)
        metadata = proto.metadata
        # No error has such content.
        plain = read_plain(proto.content) if metadata.message_type == TRAIN else None
        source = to_message(proto) if plain is None else proto
        return cls(source, metadata.src_node_id, metadata.reply_to_message_id, metadata.message_type, plain)

    def message(self) -> Message:
        """In Flower's form."""
        if not isinstance(self._source, Message):
            self._source = to_message(self._source)
        return self._source
