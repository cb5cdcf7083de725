"""The server's side of all streams: who is here, what is being asked, who answered.

Everything in this file runs on one event loop, two coroutines per hospital, so there is nothing to lock. `grid.py` is the
door through which other threads come in.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from flwr.app import ConfigRecord, Message, RecordDict

from fedhealth.errors import UsageError
from fedhealth.wire.messages import (
    CHANNEL_OPTIONS,
    METHOD,
    WELCOME,
    Parts,
    agreement,
    decode_message,
    encode_message,
    error_reply,
    node_id_of,
    request,
)

OnChange = Callable[[str, str], None]
"""Called with what happened ("joined", "left", "refused") and to whom; on the link's thread, so it must not block."""

LONGEST_NAME = 100
LAST_WRITE_SECONDS = 5.0
"""How long a hospital that takes nothing any more may hold up the end of its own stream."""
LAST_WORD_SECONDS = 5.0
"""How long the streams may take to end when the server stops."""
SERVER_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a lottery
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


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


@dataclass(eq=False)
class _Seat:
    """One joined hospital: its name and what is still to be sent to it (None: close the stream)."""

    hospital: str
    outbox: "asyncio.Queue[Parts | None]" = field(default_factory=asyncio.Queue)


class _RefusedError(Exception):
    """Why a client may not join."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Hub:
    """The streams of all hospitals. `node_ids` may be read from any thread: it is replaced, never changed."""

    def __init__(self, run_config: Mapping[str, Any], capacity: int, on_change: OnChange) -> None:
        self.node_ids: tuple[int, ...] = ()
        self._run_config = ConfigRecord(dict(run_config))
        self._capacity = capacity
        self._on_change = on_change
        self._allowed: frozenset[str] | None = None
        self._seats: dict[int, _Seat] = {}
        self._asked: dict[str, Batch] = {}
        self._failure: str | None = None
        self._closing = False

    async def listen(self, address: str) -> int:
        """Open the port of HOST:PORT and return its number."""
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        service, method = METHOD.strip("/").split("/")
        handlers = {method: grpc.stream_stream_rpc_method_handler(self._join)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError:
            raise UsageError(
                f"cannot listen on {address}: the port is taken or the host is not this machine; "
                "give another one with --address"
            ) from None
        await self._server.start()
        return port

    async def shut(self, failure: str | None) -> None:
        """End every stream (with `failure` as the reason, if the run failed) and close the port."""
        self._failure, self._closing = failure, True
        for seat in self._seats.values():
            seat.outbox.put_nowait(None)
        await self._server.stop(grace=LAST_WORD_SECONDS)

    def admit_only(self, hospitals: frozenset[str]) -> None:
        """From now on only these may join (again)."""
        self._allowed = hospitals

    # --- questions and answers ---------------------------------------------------------------------------------------

    def post(self, batch: Batch) -> None:
        """Send a batch; who is not here is answered for at once."""
        for message_id, message in batch.messages.items():
            self._asked[message_id] = batch
            if seat := self._seats.get(message.metadata.dst_node_id):
                seat.outbox.put_nowait(batch.payloads[message_id])
            else:
                self._settle(message_id, error_reply(message, "not in the federation"))
        if not batch.messages:
            batch.done.set()

    def give_up(self, batch: Batch, reason: str) -> None:
        """Answer what is still open with `reason`; a reply that comes later belongs to nothing."""
        for message_id in list(batch.open):
            self._settle(message_id, error_reply(batch.messages[message_id], reason))

    def _settle(self, message_id: str, reply: Message) -> None:
        batch = self._asked.pop(message_id)
        batch.replies[message_id] = reply
        batch.open.discard(message_id)
        if not batch.open:
            batch.done.set()

    def _receive(self, node_id: int, reply: Message) -> None:
        message_id = reply.metadata.reply_to_message_id
        batch = self._asked.get(message_id)
        # Only the hospital that was asked may answer, once, while somebody waits.
        if batch and batch.messages[message_id].metadata.dst_node_id == node_id:
            self._settle(message_id, reply)

    # --- one hospital's stream ---------------------------------------------------------------------------------------

    async def _join(self, _: object, context: Any) -> None:
        try:
            seat = self._admit(dict(context.invocation_metadata() or ()))
        except _RefusedError as refusal:
            self._on_change("refused", f"{context.peer()}: {refusal}")
            await context.abort(refusal.code, str(refusal))
        node_id = node_id_of(seat.hospital)
        reading = asyncio.ensure_future(self._read(node_id, context))
        writing = asyncio.ensure_future(self._write(seat, context))
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            # gRPC hangs if a stream is aborted in the middle of a write: let it end first.
            seat.outbox.put_nowait(None)
            await asyncio.wait({writing}, timeout=LAST_WRITE_SECONDS)
        finally:
            reading.cancel()
            writing.cancel()
            self._leave(node_id)
        if reading.done() and not reading.cancelled() and isinstance(reading.exception(), ValueError):
            self._on_change("refused", f"{seat.hospital}: {reading.exception()}")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(reading.exception()))
        if self._failure:
            await context.abort(grpc.StatusCode.ABORTED, self._failure)

    async def _read(self, node_id: int, context: Any) -> None:
        while await self._read_one(node_id, context):
            pass

    async def _write(self, seat: _Seat, context: Any) -> None:
        while await self._write_one(seat, context):
            pass

    # One message per call: a loop's variable would hold the last one, perhaps of many megabytes, until the next comes.

    async def _read_one(self, node_id: int, context: Any) -> bool:
        payload = await context.read()
        if payload is grpc.aio.EOF:
            return False
        self._receive(node_id, decode_message(payload))
        return True

    async def _write_one(self, seat: _Seat, context: Any) -> bool:
        parts = await seat.outbox.get()
        if parts is None:
            return False
        await context.write(b"".join(parts))
        return True

    def _admit(self, metadata: Mapping[str, Any]) -> _Seat:
        hospital = bytes(metadata.get("hospital-bin", b"")).decode("utf-8", "replace").strip()
        self._check(hospital, metadata)
        node_id = node_id_of(hospital)
        seat = self._seats[node_id] = _Seat(hospital)
        self.node_ids = tuple(sorted(self._seats))
        welcome = request(RecordDict({"run-config": self._run_config}), WELCOME, node_id)
        seat.outbox.put_nowait((encode_message(welcome), b""))
        self._on_change("joined", hospital)
        return seat

    def _check(self, hospital: str, metadata: Mapping[str, Any]) -> None:
        """Refuse with the reason, in words for the person at the client."""
        for key, ours in agreement().items():
            if (theirs := metadata.get(key)) != ours:
                reason = f"{key} is {theirs} at the client and {ours} at the server; install the same version on both"
                raise _RefusedError(grpc.StatusCode.FAILED_PRECONDITION, reason)
        if not 0 < len(hospital) <= LONGEST_NAME or not hospital.isprintable():
            raise _RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT, f"give --name a name of 1 to {LONGEST_NAME} printable characters"
            )
        if node_id_of(hospital) in self._seats:
            raise _RefusedError(
                grpc.StatusCode.ALREADY_EXISTS,
                f"a hospital named {hospital} is already here; give this one another --name",
            )
        if self._allowed is not None and hospital not in self._allowed:
            raise _RefusedError(grpc.StatusCode.PERMISSION_DENIED, f"the run has begun without {hospital}")
        if len(self._seats) >= self._capacity:
            raise _RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"all {self._capacity} places are taken; ask the coordinator for more (server.py --hospitals)",
            )

    def _leave(self, node_id: int) -> None:
        seat = self._seats.pop(node_id)
        self.node_ids = tuple(sorted(self._seats))
        for message_id, batch in list(self._asked.items()):
            if batch.messages[message_id].metadata.dst_node_id == node_id:
                self._settle(message_id, error_reply(batch.messages[message_id], "left the federation"))
        if not self._closing:
            self._on_change("left", seat.hospital)
