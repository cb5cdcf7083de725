"""Secure aggregation at the server: a `Grid` on which all hospitals together are one hospital.

A message to it goes to every hospital of the roster, and its reply is the sum of all their masked replies, as one hospital
with all patients would send it. So setup, rounds, strategies and finalization work as in a federation of one hospital, and
no code of the server sees a number of a single one.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.common.pairwise_masks import Words
from fedhealth.common.reminders import Reminder
from fedhealth.server.events import OnEvent, Waiting
from fedhealth.server.records import TOGETHER
from fedhealth.server.reply_messages import receive_each
from fedhealth.server.reply_validation import ABSENT, readable
from fedhealth.transport.base import BaseGrid
from fedhealth.transport.messages import APP_FAILED, error_reply, node_id_of, set_message_id
from fedhealth.transport.protocol.masked_vectors import Layout, context_of, decode_masked
from fedhealth.transport.protocol.roster import KeyRoster
from fedhealth.transport.protocol.setup import COUNTS_SUM, DESCRIBE, INITIAL_WEIGHTS, Who
from fedhealth.transport.protocol.sum_messages import SumMessages

POLL_SECONDS = 0.05
TOGETHER_NODE = node_id_of(TOGETHER)


@dataclass
class Gathering:
    """The replies to one message so far."""

    request: Message
    layout: Layout | None
    """None if the reply is not about patients: then one hospital replies."""
    context: bytes
    waiting: set[int]
    """The nodes that have not replied."""
    total: Words
    failures: dict[str, str]
    """Hospital -> why it has no valid reply."""
    content: RecordDict | None = None
    """The reply of that one hospital."""
    could_return: bool = True
    """Whether all that failed are only absent."""

    @property
    def is_absent(self) -> bool:
        """Whether replies are missing only from hospitals that are absent."""
        return bool(self.waiting or self.failures) and self.could_return


class Patience(NamedTuple):
    """How long to wait for missing hospitals, and who is informed."""

    seconds: float
    inform: OnEvent


NO_PATIENCE = Patience(0.0, lambda event: None)


class MaskedGrid(BaseGrid):
    """All hospitals of a roster as one.

    Parameters
    ----------
    grid : the hospitals.
    roster : their keys.
    nodes : their node ids by name.
    messages : what is summed.
    who : the description of all hospitals together.
    patience : how to wait for missing hospitals: without one of them there is no sum.
    """

    def __init__(
        self,
        grid: Grid,
        roster: KeyRoster,
        nodes: Mapping[str, int],
        messages: SumMessages,
        who: Who,
        *,
        patience: Patience = NO_PATIENCE,
    ) -> None:
        super().__init__(grid.run)
        self._grid = grid
        self._roster = roster
        self._names = {nodes[name]: name for name in roster.names}
        self._messages = messages
        self._who = who
        self._patience = patience
        self._pending: dict[str, tuple[set[str], Gathering]] = {}
        self._sent = 0

    @property
    def group(self) -> str:
        """The group of the run's messages, by which a hospital finds its keys."""
        return self._roster.run_id.hex()

    def get_node_ids(self) -> list[int]:
        """The node of all hospitals together."""
        return [TOGETHER_NODE]

    def name_of(self, node_id: int) -> str | None:
        """The name of all hospitals together."""
        return TOGETHER if node_id == TOGETHER_NODE else None

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send each message to all hospitals; returns an id for each."""
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that are complete; each is returned once."""
        complete = []
        for message_id in message_ids:
            waiting, gathering = self._pending[message_id]
            for reply in self._grid.pull_messages(sorted(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
                self._take(reply, gathering)
            if not gathering.waiting:
                del self._pending[message_id]
                complete.append(self._reply(gathering))
        return complete

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply per message."""
        return list(self.receive_each(messages, timeout=timeout))

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """One reply per message; the hospitals' replies are added as they come, and none is kept.

        While hospitals are missing, it is waited for them, and all are asked again: they send the same as before.
        """
        for message in messages:
            gathering, since = self._ask(message, timeout), time.monotonic()
            while gathering.is_absent and self._wait(since):
                gathering = self._ask(message, timeout)
            yield self._reply(gathering)

    def _ask(self, message: Message, timeout: float | None) -> Gathering:
        gathering = self._begin(message)
        for reply in receive_each(self._grid, self._fan_out(gathering), timeout):
            self._take(reply, gathering)
        return gathering

    def _wait(self, since: float) -> bool:
        """Wait until all hospitals are connected; whether they are before the patience ends, which began at `since`."""
        reminder = Reminder(time.monotonic)
        while (left := since + self._patience.seconds - time.monotonic()) > 0:
            time.sleep(POLL_SECONDS)
            here = self._names.keys() & set(self._grid.get_node_ids())
            if len(here) == len(self._names):
                return True
            if reminder.is_due(here):
                names = sorted(self._names[node] for node in here)
                self._patience.inform(Waiting(len(here), len(self._names), left, names))
        return False

    def _push(self, message: Message) -> str:
        gathering = self._begin(message)
        message_ids = set(self._grid.push_messages(self._fan_out(gathering)))
        self._pending[message.metadata.message_id] = message_ids, gathering
        return message.metadata.message_id

    def _begin(self, message: Message) -> Gathering:
        self._sent += 1
        set_message_id(message, f"sum {self._sent}")
        kind = kind_of(message)
        if kind == INITIAL_WEIGHTS:
            first = next(iter(self._names))
            return Gathering(message, None, b"", {first}, np.zeros(0, np.uint64), {})
        layout = self._messages.layout(kind, message.content)
        context = context_of(
            self._roster.digest, self._messages.settings.to_run_config(), kind, message.content, layout
        )
        return Gathering(message, layout, context, set(self._names), np.zeros(layout.num_words, np.uint64), {})

    def _fan_out(self, gathering: Gathering) -> list[Message]:
        request = gathering.request
        return [
            Message(request.content, dst_node_id=node, message_type=kind_of(request), group_id=self.group)
            for node in sorted(gathering.waiting)
        ]

    def _take(self, reply: Message, gathering: Gathering) -> None:
        node = reply.metadata.src_node_id
        if node not in gathering.waiting:
            return
        gathering.waiting.discard(node)
        if reply.has_error():
            gathering.failures[self._names[node]] = readable(reply.error.reason)
            gathering.could_return = gathering.could_return and reply.error.code in ABSENT
            return
        if gathering.layout is None:
            gathering.content = reply.content
            return
        try:
            gathering.total += decode_masked(reply.content, gathering.layout)
        except ValueError as problem:
            gathering.failures[self._names[node]] = readable(problem)
            gathering.could_return = False

    def _reply(self, gathering: Gathering) -> Message:
        request = gathering.request
        failures = {
            **dict.fromkeys((self._names[node] for node in gathering.waiting), "did not reply"),
            **gathering.failures,
        }
        if failures:
            listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(failures.items()))
            return error_reply(request, listed, *([] if gathering.could_return else [APP_FAILED]))
        if gathering.layout is None:
            return Message(gathering.content or RecordDict(), reply_to=request)
        try:
            sums = gathering.layout.split(gathering.total, gathering.context, len(self._names))
            content = self._messages.make_reply(kind_of(request), request.content, sums, self._who)
        except ValueError as problem:
            return error_reply(request, str(problem), APP_FAILED)
        return Message(content, reply_to=request)


def kind_of(message: Message) -> str:
    """What the hospitals are asked: their counts instead of a description."""
    kind = message.metadata.message_type
    return COUNTS_SUM if kind == DESCRIBE else kind
