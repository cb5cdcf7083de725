"""The server's side of all streams: who is here, who comes and goes, what travels to and from whom.

Everything in this file runs on one event loop, two coroutines per hospital, so there is nothing to lock. `grid.py` is the
door through which other threads come in; `admission.py` has the rules, `questions.py` what is still unanswered.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import unquote

import grpc
from flwr.app import ConfigRecord, RecordDict

from fedhealth.common.errors import MISBEHAVED, UsageError
from fedhealth.transport.grpc.admission import Admission, Caller, RefusedError, read_name
from fedhealth.transport.grpc.pending import Batch, PendingRequests
from fedhealth.transport.grpc.preflight import answer_check
from fedhealth.transport.grpc.stream import HospitalStream
from fedhealth.transport.messages import (
    ABSENT,
    CHECK_METHOD,
    METHOD,
    WELCOME,
    decode_message,
    encode_message,
    node_id_of,
    request,
)
from fedhealth.transport.options import MAX_MESSAGE_BYTES, server_options
from fedhealth.transport.tls.identity import Identity
from fedhealth.transport.tls.proxy import INSIDE, TlsProxy

OnChange = Callable[[str, str], None]
"""Called with what happened and to whom; on the link's thread, so it must not block.

What: "joined", "left", "refused", "awaited" (for long), "late" (its answer came after it was given up).
"""

SPARE_CALLS = 32
"""How many calls may be open at once beside one per hospital; one more is refused by gRPC."""
LAST_WORD_SECONDS = 5.0
"""How long the streams may take to end when the server stops."""


class StreamServer:
    """The streams of all hospitals. `node_ids` may be read from any thread: it is replaced, never changed."""

    def __init__(
        self,
        run_config: Mapping[str, Any],
        capacity: int,
        on_change: OnChange,
        tls: Identity | None,
        allow: Collection[str],
    ) -> None:
        self.node_ids: tuple[int, ...] = ()
        self.admission = Admission(capacity, allow)
        self.questions = PendingRequests()
        self._run_config = dict(run_config)
        self._most_calls = capacity + SPARE_CALLS
        self._on_change = on_change
        self._tls = tls
        self._proxy: TlsProxy | None = None
        self._streams: dict[int, HospitalStream] = {}
        self._closing = False

    async def listen(self, address: str) -> int:
        """Open the port of HOST:PORT and return its number."""
        self._server = grpc.aio.server(options=server_options(), maximum_concurrent_rpcs=self._most_calls)
        service, join = METHOD.strip("/").split("/")
        handlers = {
            join: grpc.stream_stream_rpc_method_handler(self._join),
            CHECK_METHOD.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self._check),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            port: int = self._server.add_insecure_port(f"{INSIDE}:0" if self._tls else address)
            await self._server.start()
            if self._tls:
                host, _, outer_port = address.rpartition(":")
                self._proxy = TlsProxy(
                    self._tls.server_context(), lambda peer, why: self._tell("refused", f"{peer}: {why}")
                )
                port = await self._proxy.open(host, int(outer_port), inner_port=port)
        except (RuntimeError, OSError):
            await self._server.stop(None)
            raise UsageError(
                f"cannot listen on {address}: the port is taken or the host is not this machine; "
                "give another one with --address"
            ) from None
        return port

    async def shut(self, failure: str | None, grace: float = LAST_WORD_SECONDS) -> None:
        """End every stream (with `failure` as the reason, if the run failed) and close the port."""
        self._closing = True
        if self._proxy:
            self._proxy.stop_listening()
        for stream in self._streams.values():
            if failure:
                stream.end(grpc.StatusCode.ABORTED, failure)
            stream.outbox.put_nowait(None)
        await self._server.stop(grace)
        if self._proxy:
            await self._proxy.shut(min(grace, 1.0))

    def post(self, batch: Batch) -> None:
        """Send a batch; who is not here is answered for at once."""
        self.questions.ask(batch)
        for message_id, message in batch.messages.items():
            if stream := self._streams.get(message.metadata.dst_node_id):
                stream.outbox.put_nowait(batch.payloads[message_id])
            else:
                self.questions.fail(message_id, "not in the federation")

    def expel(self, hospital: str, reason: str) -> None:
        """Close a hospital's stream with the reason and never let it in again."""
        self.admission.expel(hospital, reason)
        if stream := self._streams.get(node_id_of(hospital)):
            stream.end(grpc.StatusCode.PERMISSION_DENIED, f"{hospital} was shown out of this run: {reason}")
            self._leave(stream)

    def give_up(self, batch: Batch, reason: str) -> None:
        """Answer what is still open; who owes an answer is asked nothing more until it has come."""
        self.questions.owe(batch)
        self._find_free()  # first: the last answer wakes who asked
        self.questions.give_up(batch, reason)

    def tell_awaited(self, batch: Batch, seconds: float) -> None:
        """Say who has not answered yet."""
        names = sorted(self._streams[node].hospital for node in batch.awaited() if node in self._streams)
        if names:  # the last one may have answered just now
            self._tell("awaited", f"{', '.join(names)} ({seconds:.0f} s)")

    def _find_free(self) -> None:
        self.node_ids = tuple(sorted(node for node in self._streams if not self.questions.owes(node)))

    def _tell(self, what: str, who: str) -> None:
        """Nothing that a listener does may cost a hospital its seat or the link its life."""
        try:
            self._on_change(what, who)
        except Exception as error:  # noqa: BLE001
            logging.getLogger(__name__).warning("nobody heard that %s %s (%s)", who, what, type(error).__name__)

    # --- who calls -----------------------------------------------------------------------------------------------------

    def _caller(self, context: Any) -> Caller:
        metadata = dict(context.invocation_metadata() or ())
        peer = unquote(context.peer()).removeprefix("ipv4:").removeprefix("ipv6:")
        if self._proxy is None:
            return Caller(peer, read_name(metadata), None, metadata)
        verified = self._proxy.peer(int(peer.rpartition(":")[2]))
        if verified is None:
            # Another program on this machine found the port behind the proxy.
            raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, f"{peer} did not come through the front door")
        return Caller(verified.peer, read_name(metadata), verified.name, metadata)

    async def _refuse(self, context: Any, refusal: RefusedError, peer: str = "") -> None:
        self._tell("refused", f"{peer}: {refusal}" if peer else str(refusal))
        await context.abort(refusal.code, str(refusal))

    async def _check(self, question: bytes, context: Any) -> bytes:
        """Answer a hospital's doctor; nothing of it touches the run."""
        peer = ""
        try:
            caller = self._caller(context)
            peer = caller.peer
            self.admission.check_identity(caller)
        except RefusedError as refusal:
            await self._refuse(context, refusal, peer)
        try:
            self.admission.check(caller, {stream.hospital for stream in self._streams.values()})
            reason = None
        except RefusedError as refusal:
            reason = str(refusal)
        try:
            return await asyncio.to_thread(answer_check, question, self._run_config, reason)
        except ValueError as error:
            return bytes(await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a check ({error})"))

    # --- one hospital's stream -----------------------------------------------------------------------------------------

    async def _join(self, _: object, context: Any) -> None:
        peer = ""
        try:
            caller = self._caller(context)
            peer = caller.peer
            self.admission.check(caller, {stream.hospital for stream in self._streams.values()})
        except RefusedError as refusal:
            await self._refuse(context, refusal, peer)
        stream = self._open_stream(caller.hospital)
        try:
            await stream.converse(context, self._hear)
        finally:
            self._leave(stream)
        if stream.ending.done():
            await context.abort(*stream.ending.result())

    def _open_stream(self, hospital: str) -> HospitalStream:
        node_id = node_id_of(hospital)
        if old := self._streams.get(node_id):
            # Only the same certificate gets here: its old stream is half dead, or it has been started twice.
            old.end(grpc.StatusCode.FAILED_PRECONDITION, "another program has joined with this hospital's certificate")
            self._leave(old)
        stream = self._streams[node_id] = HospitalStream(hospital, node_id)
        self._find_free()
        welcome = request(RecordDict({"run-config": ConfigRecord(dict(self._run_config))}), WELCOME, node_id)
        stream.outbox.put_nowait((encode_message(welcome), b""))
        self._tell("joined", hospital)
        return stream

    def _leave(self, stream: HospitalStream, reason: str = "left the federation", code: int = ABSENT) -> None:
        if self._streams.get(stream.node_id) is not stream:
            return
        del self._streams[stream.node_id]
        self._find_free()  # first: the last answer wakes who asked
        self.questions.fail_hospital(stream.node_id, reason, code)
        if not self._closing:
            self._tell("left", stream.hospital)

    def _hear(self, stream: HospitalStream, payload: bytes) -> None:
        """Take what a hospital's stream brought; one that breaks the rules is shown out."""
        if self._streams.get(stream.node_id) is not stream:
            return  # what a stream says after its end is not heard
        try:
            if len(payload) > MAX_MESSAGE_BYTES:
                raise ValueError(f"it sent a message of {len(payload)} bytes; {MAX_MESSAGE_BYTES} is the most")
            if self.questions.answer(stream.node_id, decode_message(payload)):
                self._find_free()
                self._tell("late", stream.hospital)
        except ValueError as error:
            self._tell("refused", f"{stream.hospital}: {error}")
            stream.end(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            self._leave(stream, f"broke the rules: {error}", MISBEHAVED)
