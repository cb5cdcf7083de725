"""The server side of the gRPC link: a Flower `Grid` that sends its messages over gRPC streams.

The streams run on an event loop in a thread of its own (`server.py`); the app's thread passes encoded messages to it
and waits for the last reply.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from flwr.app import Context, Message, RecordDict

from fedhealth.common.errors import FedHealthError
from fedhealth.common.reminders import FIRST_PAUSE, Reminder
from fedhealth.common.runtime_env import rare_collections, return_large_memory
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.transport.base import BaseGrid, by_node
from fedhealth.transport.frames import encode_all
from fedhealth.transport.grpc.pending import Batch
from fedhealth.transport.grpc.receiving import Lease, Received
from fedhealth.transport.grpc.server import OnChange, StreamServer
from fedhealth.transport.incoming import Incoming
from fedhealth.transport.messages import RUN_ID, SERVER_NODE_ID, checked_messages, set_message_id
from fedhealth.transport.tls.identity import Identity

T = TypeVar("T")
REMIND_SECONDS = FIRST_PAUSE
"""Time before the first report of the hospitals that the server is waiting for."""


class GrpcGrid(BaseGrid):
    """Flower's `Grid` over one bidirectional gRPC stream per hospital.

    A message with a `ttl` is an error; `timeout` of `send_and_receive` limits how long to wait for replies.

    Parameters
    ----------
    run_config : the federation's settings, sent to every hospital as it joins.
    capacity : maximum number of hospitals; further ones are refused.
    on_change : called when a hospital joined, left, was refused, or has not replied for long.
    tls : the server's identity; None: plain text without certificates.
    allow : names of the hospitals that may join; empty: any.
    schema : the columns that every hospital must have; None: those of the heart disease data.

    Attributes
    ----------
    context : the Flower `Context` for a `ServerApp` that runs on this grid.
    """

    def __init__(
        self,
        run_config: Mapping[str, Any],
        capacity: int,
        on_change: OnChange,
        tls: Identity | None = None,
        allow: Collection[str] = (),
        *,
        schema: Schema | None = None,
    ) -> None:
        super().__init__()
        if tls:
            tls.require_usable("server")
        self._server = StreamServer(run_config, capacity, on_change, tls, allow, schema=schema or heart_disease())
        self.context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), dict(run_config))
        self._ids = itertools.count(1)
        self._pushed: dict[str, Batch] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)

    @contextmanager
    def listening(self, address: str) -> Iterator[str]:
        """Listen on HOST:PORT while the block runs; yields the address with the actual port.

        If the block fails, the reason is sent to the hospitals.
        """
        return_large_memory()
        self._thread.start()
        try:
            port = self._on_loop(self._server.listen(address))
            try:
                with rare_collections():
                    yield f"{address.rpartition(':')[0]}:{port}"
            except BaseException as error:
                self._on_loop(self._server.shut(failure_text(error)))
                raise
            self._on_loop(self._server.shut(None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def admit_only(self, hospitals: Iterable[str]) -> None:
        """From now on only these hospitals may join or rejoin; the rounds have begun."""
        self._loop.call_soon_threadsafe(self._server.admission.admit_only, frozenset(hospitals))

    def expel(self, hospital: str, reason: str) -> None:
        """Close a hospital's stream and refuse it from now on."""
        self._loop.call_soon_threadsafe(self._server.expel, hospital, reason)

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # --- Flower's Grid -------------------------------------------------------------------------------------------------

    def get_node_ids(self) -> tuple[int, ...]:
        """Node ids of the connected hospitals that do not owe a late reply, in order."""
        return self._server.node_ids

    def name_of(self, node_id: int) -> str | None:
        """The name under which a hospital joined, even if it has left."""
        return self._server.names.get(node_id)

    def declined(self) -> Mapping[str, str]:
        """Hospital -> why it does not take part, of those that have declined and have not joined since."""
        return self._server.declined.reasons

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; returns their ids without waiting. Raises what `checked_messages` raises."""
        batch = self._post(messages)
        self._pushed.update(dict.fromkeys(batch.messages, batch))
        return list(batch.messages)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to these pushed messages that have arrived, in the order of node ids; each is returned once."""
        here = [key for key in message_ids if key in self._pushed and key in self._pushed[key].replies]
        return by_node(self._pushed.pop(key).replies[key] for key in here)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and wait until each has its reply, or its hospital left, or `timeout` seconds passed.

        Returns
        -------
        One reply per message in the order of node ids; an error reply replaces a missing one.
        """
        return by_node(self.receive_each(messages, timeout=timeout))

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """As `send_and_receive`, but each reply is yielded as it comes, and not kept."""
        for group in self.receive_groups(messages, timeout=timeout):
            while group:
                yield group.pop(0).message()

    def receive_groups(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[list[Incoming]]:
        """As `receive_each`, but replies that are here at the same time are yielded together; a large one is alone."""
        arrived: SimpleQueue[list[Received]] = SimpleQueue()
        batch, sent, reminder = self._post(messages, arrived), time.monotonic(), Reminder(first_pause=REMIND_SECONDS)
        leases: list[Lease] = []
        gave_up, left_over = False, len(batch.messages)
        try:
            while left_over:
                received: list[Received] | None = None
                while received is None:
                    waited = time.monotonic() - sent  # also where reply after reply comes
                    if timeout is not None and not gave_up and waited >= timeout:
                        self._loop.call_soon_threadsafe(self._server.give_up, batch, f"no reply within {timeout:g} s")
                        gave_up = True
                    elif not gave_up and waited >= REMIND_SECONDS and reminder.is_due(batch.awaited()):
                        self._loop.call_soon_threadsafe(self._server.report_awaited, batch, waited)
                    left = REMIND_SECONDS if timeout is None else min(REMIND_SECONDS, max(timeout - waited, 0.0))
                    received = _take(arrived, None if gave_up else left)
                left_over -= len(received)
                leases = [each.lease for each in received if each.lease]
                group = [each.reply for each in received]
                received = None  # otherwise its messages would stay in memory until the next ones come
                yield group
                del group
                self._release(leases)
        finally:
            self._release(leases)
            self._loop.call_soon_threadsafe(batch.abandon)

    def _release(self, leases: list[Lease]) -> None:
        while leases:
            self._loop.call_soon_threadsafe(leases.pop().release)

    def _post(self, messages: Iterable[Message], arrived: "SimpleQueue[list[Received]] | None" = None) -> Batch:
        outgoing = {str(next(self._ids)): message for message in checked_messages(messages)}
        for message_id, message in outgoing.items():
            set_message_id(message, message_id)
        payloads = dict(zip(outgoing, encode_all(outgoing.values()), strict=True))
        batch = Batch(outgoing, payloads, open=set(outgoing), arrived=arrived)
        self._loop.call_soon_threadsafe(self._server.post, batch)
        return batch


def _take(arrived: "SimpleQueue[list[Received]]", seconds: float | None) -> list[Received] | None:
    """The next replies; None if there is none within so many seconds (None: wait for it)."""
    try:
        return arrived.get(timeout=seconds)
    except Empty:
        return None


def failure_text(error: BaseException) -> str:
    """The reason that is sent to the hospitals when a run fails."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by its coordinator"
    return str(error) if isinstance(error, FedHealthError) else "the server failed"
