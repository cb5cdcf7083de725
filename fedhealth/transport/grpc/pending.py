"""Messages that have no reply yet. Used only on the event loop of the gRPC link."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from flwr.app import Message

from fedhealth.transport.frames import Encoded
from fedhealth.transport.grpc.receiving import Received
from fedhealth.transport.incoming import Incoming
from fedhealth.transport.messages import ABSENT, error_reply

MOST_GATHERED = 256


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
    arrived: SimpleQueue[list[Received]] | None = None
    """Where the replies go at once instead of to `replies`, if they are not to be kept."""
    gathered: list[Received] = field(default_factory=list)
    """Replies that go to `arrived` together: to wake the waiting thread takes longer than to receive a small reply."""
    abandoned: bool = False

    def put(self, message_id: str, received: Received) -> None:
        """Add a reply; who takes one from `arrived` releases it."""
        self.open.discard(message_id)
        if self.arrived is None:
            received.release()
            self.replies[message_id] = received.reply.message()
        elif self.abandoned:
            received.release()
        else:
            self._gather(received)

    def _gather(self, received: Received) -> None:
        if received.lease:
            self._hand_over()  # a large reply goes alone
        self.gathered.append(received)
        if received.lease or not self.open or len(self.gathered) == MOST_GATHERED:
            self._hand_over()
        elif len(self.gathered) == 1:
            asyncio.get_running_loop().call_soon(self._hand_over)  # after what can be received at once

    def _hand_over(self) -> None:
        if self.arrived is not None and self.gathered:
            self.arrived.put(self.gathered)
            self.gathered = []

    def abandon(self) -> None:
        """Release the replies that are here and those to come, since nobody takes them any more."""
        self.abandoned = True
        self._hand_over()
        with suppress(Empty):
            while self.arrived is not None:
                for received in self.arrived.get_nowait():
                    received.release()

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
        reply = received.reply
        message_id = reply.reply_to
        if reply.node_id != node_id:
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
        if reply.message_type != sent.message_type:
            raise ValueError(f"its reply to {sent.message_type} is of another type")
        self._pending.pop(message_id).put(message_id, received)
        return False

    def owes_reply(self, node_id: int) -> bool:
        """Whether a hospital is still busy with a message whose reply was given up."""
        return node_id in self._late.values()

    def fail(self, message_id: str, reason: str, code: int = ABSENT) -> None:
        """Give one pending message an error reply."""
        batch = self._pending.pop(message_id)
        batch.put(message_id, Received(Incoming.of(error_reply(batch.messages[message_id], reason, code))))

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
