"""Requests without a reply. Used on the event loop of the link only."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Message

from fedhealth.transport.messages import ABSENT, Parts, error_reply


@dataclass(eq=False)
class Batch:
    """Messages that go out together, the replies that have come, and the event that the last one sets.

    `open` holds the ids that still wait for a reply. Made by the asking thread, then the loop's until `done`.
    """

    messages: Mapping[str, Message]
    payloads: Mapping[str, Parts]
    open: set[str]
    replies: dict[str, Message] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def awaited(self) -> set[int]:
        """The node ids that have not answered yet (a moment's view, from any thread)."""
        return {self.messages[message_id].metadata.dst_node_id for message_id in tuple(self.open)}


class PendingRequests:
    """Open questions by message id; each gets one answer, from the hospital that was asked or in its place."""

    def __init__(self) -> None:
        self._asked: dict[str, Batch] = {}
        self._owed: dict[str, int] = {}

    def ask(self, batch: Batch) -> None:
        """Open all questions of a batch."""
        self._asked.update(dict.fromkeys(batch.messages, batch))
        if not batch.messages:
            batch.done.set()

    def answer(self, node_id: int, reply: Message) -> bool:
        """Take a hospital's reply; true if it came too late for its question and the hospital is free again.

        Raises
        ------
        ValueError
            No honest client sends this: it answers for another hospital, or something that was not asked.
        """
        message_id, metadata = reply.metadata.reply_to_message_id, reply.metadata
        if metadata.src_node_id != node_id:
            raise ValueError("it spoke in another hospital's name")
        if self._owed.get(message_id) == node_id:
            del self._owed[message_id]
            return True
        if (batch := self._asked.get(message_id)) is None:
            return False
        asked = batch.messages[message_id].metadata
        if asked.dst_node_id != node_id:
            raise ValueError("it answered what another hospital was asked")
        if metadata.message_type != asked.message_type:
            raise ValueError(f"it was asked to {asked.message_type} and answered something else")
        self._settle(message_id, reply)
        return False

    def owes(self, node_id: int) -> bool:
        """Whether a hospital is still busy with a question that nobody waits for any more."""
        return node_id in self._owed.values()

    def fail(self, message_id: str, reason: str, code: int = ABSENT) -> None:
        """Answer one open question with an error."""
        self._settle(message_id, error_reply(self._asked[message_id].messages[message_id], reason, code))

    def owe(self, batch: Batch) -> None:
        """Whoever has not answered yet owes an answer from now on."""
        self._owed.update((message_id, batch.messages[message_id].metadata.dst_node_id) for message_id in batch.open)

    def give_up(self, batch: Batch, reason: str) -> None:
        """Answer what is still open of a batch."""
        for message_id in list(batch.open):
            self.fail(message_id, reason)

    def fail_hospital(self, node_id: int, reason: str, code: int = ABSENT) -> None:
        """Answer in place of a hospital that has left; it owes nothing any more."""
        self._owed = {message_id: node for message_id, node in self._owed.items() if node != node_id}
        for message_id, batch in list(self._asked.items()):
            if batch.messages[message_id].metadata.dst_node_id == node_id:
                self.fail(message_id, reason, code)

    def _settle(self, message_id: str, reply: Message) -> None:
        batch = self._asked.pop(message_id)
        batch.replies[message_id] = reply
        batch.open.discard(message_id)
        if not batch.open:
            batch.done.set()
