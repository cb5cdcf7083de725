"""Messages that have no reply yet. Used only on the event loop of the gRPC link."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from flwr.app import Message

from fedhealth.transport.frames import Encoded
from fedhealth.transport.grpc.receiving import Received
from fedhealth.transport.messages import ABSENT, error_reply


@dataclass(eq=False)
class Batch:
    """Messages that are sent together, and the replies received so far.

    `open` has the ids of the messages without a reply. The sending thread creates a batch; then only the event loop
    changes it.
    """

    messages: Mapping[str, Message]
    payloads: Mapping[str, Encoded]
    open: set[str]
    replies: dict[str, Message] = field(default_factory=dict)
    arrived: SimpleQueue[Received] | None = None
    """Where each reply goes at once instead of `replies`, if it is not to be kept."""

    abandoned: bool = False

    def put(self, message_id: str, reply: Received) -> None:
        """Add a reply; who takes one from `arrived` releases it."""
        if self.arrived is not None and not self.abandoned:
            self.arrived.put(reply)
        else:
            reply.release()
        if self.arrived is None:
            self.replies[message_id] = reply.message
        self.open.discard(message_id)

    def abandon(self) -> None:
        """Release the replies that are here and those to come, since nobody takes them any more."""
        self.abandoned = True
        with suppress(Empty):
            while self.arrived is not None:
                self.arrived.get_nowait().release()

    def awaited(self) -> set[int]:
        """The node ids that have not replied yet (a snapshot; may be called from any thread)."""
        return {self.messages[message_id].metadata.dst_node_id for message_id in tuple(self.open)}


class PendingRequests:
    """The pending messages by id; each gets exactly one reply, from its hospital or an error reply in its place."""

    def __init__(self) -> None:
        self._pending: dict[str, Batch] = {}
        self._late: dict[str, int] = {}

    def add(self, batch: Batch) -> None:
        """Add all messages of a batch."""
        self._pending.update(dict.fromkeys(batch.messages, batch))

    def receive(self, node_id: int, received: Received) -> bool:
        """Record a hospital's reply; True if it was a late one, so that the hospital is free again.

        A reply that nobody waits for is released.

        Raises
        ------
        ValueError
            The reply violates the protocol: it is for another hospital's message, or of another type than the message.
        """
        metadata = received.message.metadata
        message_id = metadata.reply_to_message_id
        if metadata.src_node_id != node_id:
            raise ValueError("it replied under another hospital's node id")
        if self._late.get(message_id) == node_id:
            del self._late[message_id]
            received.release()
            return True
        if (batch := self._pending.get(message_id)) is None:
            received.release()
            return False
        sent = batch.messages[message_id].metadata
        if sent.dst_node_id != node_id:
            raise ValueError("it replied to another hospital's message")
        if metadata.message_type != sent.message_type:
            raise ValueError(f"its reply to {sent.message_type} is of another type")
        self._pending.pop(message_id).put(message_id, received)
        return False

    def owes_reply(self, node_id: int) -> bool:
        """Whether a hospital is still busy with a message whose reply was given up."""
        return node_id in self._late.values()

    def fail(self, message_id: str, reason: str, code: int = ABSENT) -> None:
        """Give one pending message an error reply."""
        batch = self._pending.pop(message_id)
        batch.put(message_id, Received(error_reply(batch.messages[message_id], reason, code)))

    def expect_late(self, batch: Batch) -> None:
        """Expect the missing replies of a batch to come late."""
        self._late.update((message_id, batch.messages[message_id].metadata.dst_node_id) for message_id in batch.open)

    def give_up(self, batch: Batch, reason: str) -> None:
        """Give all pending messages of a batch an error reply."""
        for message_id in list(batch.open):
            self.fail(message_id, reason)

    def fail_hospital(self, node_id: int, reason: str, code: int = ABSENT) -> None:
        """Give all pending messages of a hospital that has left an error reply, and expect no late ones."""
        self._late = {message_id: node for message_id, node in self._late.items() if node != node_id}
        for message_id, batch in list(self._pending.items()):
            if batch.messages[message_id].metadata.dst_node_id == node_id:
                self.fail(message_id, reason, code)
