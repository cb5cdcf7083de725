"""The server side of all streams: which hospitals are connected, and the messages to and from each of them.

All code in this file runs on one event loop, two coroutines per hospital, so no locks are needed. Other threads call
`grid.py`; `admission.py` has the rules for joining, `pending.py` the messages without a reply.
"""

import asyncio
import logging
from bisect import bisect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import grpc
from flwr.app import RecordDict

from fedhealth.common.errors import PROTOCOL_VIOLATION
from fedhealth.data.schema import Schema
from fedhealth.transport.frames import Encoded, encode_body
from fedhealth.transport.grpc.admission import Admission, Caller, Names, RefusedError
from fedhealth.transport.grpc.callers import Callers
from fedhealth.transport.grpc.declining import Declined, read_decline
from fedhealth.transport.grpc.pending import Batch, PendingRequests
from fedhealth.transport.grpc.port import Port
from fedhealth.transport.grpc.preflight import reply_to_check
from fedhealth.transport.grpc.receiving import MOST_HELD_BYTES, ByteBudget, Received, read_message
from fedhealth.transport.grpc.stream import HospitalStream
from fedhealth.transport.messages import (
    ABSENT,
    CHECK_METHOD,
    METHOD,
    encode_metadata,
    make_request,
    node_id_of,
)
from fedhealth.transport.protocol.setup import WELCOME, encode_welcome
from fedhealth.transport.tls.identity import Identity

OnChange = Callable[[str, str], None]
"""Called with an event and the hospital, on the event loop's thread, so it must not block.

Events: "joined", "left", "refused", "declined" (it does not take part), "awaited" (no reply for long), "late" (its reply
came after the timeout).
"""

SPARE_CALLS = 32
"""Number of calls that may be open besides one per hospital; gRPC refuses further ones."""
SHUTDOWN_SECONDS = 5.0
"""Time for the streams to end when the server stops."""


class StreamServer:
    """The streams of all hospitals.

    Attributes
    ----------
    node_ids : may be read from any thread, since it is replaced and never modified.
    names : node id -> name of every hospital that has joined; may be read from any thread, since entries are only added.
    declined : the hospitals that do not take part.
    """

    def __init__(
        self,
        run_config: Mapping[str, Any],
        capacity: int,
        on_change: OnChange,
        tls: Identity | None,
        allow: Collection[str],
        *,
        schema: Schema | None,
    ) -> None:
        self.node_ids: tuple[int, ...] = ()
        self.names: dict[int, str] = {}
        self.admission = Admission(capacity, schema, allow)
        self.pending = PendingRequests()
        self._set_run_config(run_config)
        self._most_calls = capacity + SPARE_CALLS
        self.declined = Declined(self._most_calls)
        self._on_change = on_change
        self._streams: dict[int, HospitalStream] = {}
        self._here = Names()
        self._budget = ByteBudget(MOST_HELD_BYTES)
        self._callers = Callers(lambda who: self._report("refused", who))
        self._port = Port(tls, self._callers)
        self._closing = False

    def _set_run_config(self, run_config: Mapping[str, Any]) -> None:
        self._run_config = dict(run_config)
        self._welcome = encode_body(encode_welcome(run_config))  # once, since a thousand hospitals may join at once

    async def listen(self, address: str) -> int:
        """Open the port of HOST:PORT and return its number."""
        service, join = METHOD.strip("/").split("/")
        handlers = {
            join: grpc.stream_stream_rpc_method_handler(self._join),
            CHECK_METHOD.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self._check),
        }
        return await self._port.open(address, service, handlers, self._most_calls)

    async def shut(self, failure: str | None, grace: float = SHUTDOWN_SECONDS) -> None:
        """End every stream, with `failure` as the reason if the run failed, and close the port."""
        self._port.stop_listening()
        self._end_streams(failure)
        await self._port.shut(grace)

    def _end_streams(self, failure: str | None) -> None:
        self._closing = True
        for stream in self._streams.values():
            if failure:
                stream.end(grpc.StatusCode.ABORTED, failure)
            stream.outbox.put_nowait(None)

    def post(self, batch: Batch) -> None:
        """Send a batch; a hospital that is not connected gets an error reply at once."""
        self.pending.add(batch)
        for message_id, message in batch.messages.items():
            if stream := self._streams.get(message.metadata.dst_node_id):
                stream.outbox.put_nowait(batch.payloads[message_id])
            else:
                self.pending.fail(message_id, "not connected")

    def expel(self, hospital: str, reason: str) -> None:
        """Close a hospital's stream with the reason and refuse it from now on."""
        self.admission.expel(hospital, reason)
        if stream := self._streams.get(node_id_of(hospital)):
            stream.end(grpc.StatusCode.PERMISSION_DENIED, f"{hospital} takes no part in this run: {reason}")
            self._leave(stream)

    def give_up(self, batch: Batch, reason: str) -> None:
        """Replace the missing replies by errors; a hospital gets no further message until its late reply has arrived."""
        self.pending.expect_late(batch)
        self._find_free()  # before the last reply, which wakes the waiting thread
        self.pending.give_up(batch, reason)

    def report_awaited(self, batch: Batch, seconds: float) -> None:
        """Report the hospitals that have not replied yet."""
        names = sorted(self._streams[node].hospital for node in batch.awaited() if node in self._streams)
        if names:  # the last one may have replied in the meantime
            self._report("awaited", f"{', '.join(names)} ({seconds:.0f} s)")

    def _find_free(self) -> None:
        self.node_ids = tuple(sorted(node for node in self._streams if not self.pending.owes_reply(node)))

    def _report(self, what: str, who: str) -> None:
        """Call the listener; an error in it must not end a stream or the link."""
        try:
            self._on_change(what, who)
        except Exception as error:  # noqa: BLE001
            logging.getLogger(__name__).warning("%s %s was not reported (%s)", who, what, type(error).__name__)

    # --- callers --------------------------------------------------------------------------------------------------------

    async def _check(self, request: bytes, context: Any) -> bytes:
        """The reply to the preflight check of a hospital; it does not change the run."""
        try:
            caller = self._callers.read(context)
        except RefusedError as refusal:
            await self._callers.refuse(context, refusal)
        try:
            self.admission.check_identity(caller)
        except RefusedError as refusal:  # not reported as a refusal, since the hospital did not try to join
            await context.abort(refusal.code, str(refusal))
        try:
            self.admission.check(caller, self._here)
            reason = None
            self._note_decline(caller)
        except RefusedError as refusal:
            reason = str(refusal)
        try:
            return await asyncio.to_thread(reply_to_check, request, self._run_config, reason)
        except ValueError as error:
            return bytes(await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"invalid check ({error})"))

    def _note_decline(self, caller: Caller) -> None:
        """Note why a hospital that may join does not take part."""
        reason = read_decline(caller.metadata, self._run_config)
        if reason is not None and caller.hospital not in self._here and self.declined.note(caller.hospital, reason):
            self._report("declined", f"{caller.hospital}: {reason}")

    # --- one hospital's stream -----------------------------------------------------------------------------------------

    async def _join(self, _: object, context: Any) -> None:
        peer = ""
        try:
            caller = self._callers.read(context)
            peer = caller.peer
            self.admission.check(caller, self._here)
        except RefusedError as refusal:
            await self._callers.refuse(context, refusal, peer)
        stream = self._open_stream(caller.hospital)
        try:
            await stream.converse(context, self._read)
        finally:
            self._leave(stream)
        if stream.ending.done():
            await context.abort(*stream.ending.result())

    def _open_stream(self, hospital: str) -> HospitalStream:
        node_id = node_id_of(hospital)
        if old := self._streams.get(node_id):
            # Only the same certificate reaches this line: its old connection is broken, or the client runs twice.
            old.end(grpc.StatusCode.FAILED_PRECONDITION, "another program has joined with this hospital's certificate")
            self._leave(old)
        stream = self._streams[node_id] = HospitalStream(hospital, node_id)
        self.names[node_id] = hospital
        self._here.add(hospital)
        self.declined.forget(hospital)
        place = bisect(self.node_ids, node_id)  # no new sorting: a thousand hospitals may join at once
        self.node_ids = (*self.node_ids[:place], node_id, *self.node_ids[place:])
        welcome = make_request(RecordDict(), WELCOME, node_id)
        stream.outbox.put_nowait(Encoded(encode_metadata(welcome), *self._welcome))
        self._report("joined", hospital)
        return stream

    def _leave(self, stream: HospitalStream, reason: str = "left the federation", code: int = ABSENT) -> None:
        if self._streams.get(stream.node_id) is not stream:
            return
        del self._streams[stream.node_id]
        self._here.remove(stream.hospital)
        # Before the last reply, which wakes the waiting thread.
        self.node_ids = tuple(node for node in self.node_ids if node != stream.node_id)
        self.pending.fail_hospital(stream.node_id, reason, code)
        if not self._closing:
            self._report("left", stream.hospital)

    async def _read(self, stream: HospitalStream, context: Any) -> bool:
        """Handle the next message from a hospital; False at the end. A stream that violates the protocol is closed."""
        received: Received | None = None
        try:
            received = await read_message(context, self._budget)
            if received is None:
                return False
            if self._streams.get(stream.node_id) is not stream:
                received.release()  # messages after the end of a stream are ignored
                return False
            if self.pending.receive(stream.node_id, received):
                self._find_free()
                self._report("late", stream.hospital)
        except ValueError as error:
            if received:
                received.release()
            if self._streams.get(stream.node_id) is stream:
                self._report("refused", f"{stream.hospital}: {error}")
                stream.end(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                self._leave(stream, f"violated the protocol: {error}", PROTOCOL_VIOLATION)
        return True
