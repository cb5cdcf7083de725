"""The client side of the gRPC link: joins the server and replies to its messages with a `ClientApp`.

Messages are read and handled on the caller's thread; gRPC keeps the connection alive on its own threads, so long
training is not mistaken for a lost connection. `retry.py` joins again after a lost connection.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from flwr.app import Context, Message, RecordDict

from fedhealth.common.errors import UsageError
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.transport.frames import Transfer, begins_transfer, encode_all
from fedhealth.transport.grpc.diagnosis import Target, find_reason, translate
from fedhealth.transport.grpc.http_proxy import find_proxy, no_exceptions
from fedhealth.transport.grpc.retry import WELCOME_SECONDS, Attempt, ServerLostError
from fedhealth.transport.messages import (
    COLUMNS,
    METHOD,
    RUN_ID,
    agreement,
    decode_message,
    failure_reply,
    join_fingerprints,
    node_id_of,
    set_message_id,
)
from fedhealth.transport.options import client_options
from fedhealth.transport.protocol.setup import WELCOME, decode_welcome
from fedhealth.transport.tls.identity import Identity

OnJoin = Callable[[Mapping[str, str | bytes]], None]
"""Called with the metadata of the join, before it is sent."""
OnSend = Callable[[Message, Iterable[bytes]], None]
"""Called with each reply and its frames, before it is sent; if it raises, nothing is sent."""

Outbox = queue.SimpleQueue[Iterable[bytes] | None]
"""The frames of each message to be sent; None ends them."""


@contextmanager
def join(
    address: str,
    hospital: str,
    node_config: Mapping[str, str | int],
    *,
    tls: Identity | None = None,
    schema: Schema | None = None,
    proxy: str | None = None,
    attempt: Attempt | None = None,
    on_join: OnJoin | None = None,
    previous: Context | None = None,
) -> Iterator["Connection"]:
    """Join the federation at HOST:PORT, and leave it when the block ends.

    `attempt` sets how long to wait for the server's welcome message, and records its arrival. `previous` is the context of
    the previous connection: its state is kept if the server's settings are the same. `proxy` is the URL of an HTTP
    proxy or "none"; if it is None, the environment decides (`http_proxy.py`). Without `schema` the columns are those of the
    heart disease data.

    Raises
    ------
    ServerLostError
        The server cannot be reached; the text is the reason.
    NameTakenError
        A hospital of this name is already connected.
    UsageError
        The server refuses this client or cannot be trusted, or the certificate is invalid; the text says what to do.
    """
    attempt = attempt or Attempt(WELCOME_SECONDS)
    outbox: Outbox = queue.SimpleQueue()
    with open_channel(address, tls, proxy) as channel:
        metadata = join_metadata(hospital, schema)
        if on_join:
            on_join(metadata)
        stream = channel.stream_stream(METHOD)(_frames(outbox), metadata=list(metadata.items()))
        try:
            run_config = _welcome(stream, attempt, Target(address, tls, proxy))
            attempt.joined = True
            kept = previous.state if previous and previous.run_config == run_config else RecordDict()
            context = Context(
                run_id=RUN_ID,
                node_id=node_id_of(hospital),
                node_config=dict(node_config),
                state=kept,
                run_config=run_config,
            )
            yield Connection(context, stream, outbox)
        finally:
            outbox.put(None)
            stream.cancel()


def open_channel(address: str, tls: Identity | None, proxy: str | None = None) -> grpc.Channel:
    """A channel to the server, with this hospital's certificate if it has one (validated first)."""
    found = find_proxy(address, proxy)
    options = client_options(found.url.with_credentials() if found else None)
    if tls:
        tls.require_usable("client")
    with no_exceptions():  # find_proxy has applied them
        if tls is None:
            return grpc.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
        return grpc.secure_channel(address, credentials, options=options)


def join_metadata(hospital: str, schema: Schema | None = None) -> dict[str, str | bytes]:
    """The metadata of a hospital's call; without a schema the columns are those of the heart disease data."""
    schema = schema or heart_disease()
    return {**agreement(schema), COLUMNS: join_fingerprints(schema), "hospital-bin": hospital.encode()}


def _welcome(stream: Any, attempt: Attempt, target: Target) -> dict[str, Any]:
    """Wait for the welcome message; returns the run config in it."""
    too_late = threading.Event()

    def give_up() -> None:
        too_late.set()  # first: the end of the stream wakes the reader
        stream.cancel()

    timer = threading.Timer(attempt.patience, give_up)
    timer.daemon = True
    timer.start()
    try:
        welcome = _next(stream)
    except ServerLostError as lost:
        if too_late.is_set():
            raise target.lost(f"it did not reply within {attempt.patience:g} s") from None
        raise find_reason(lost, target) from None
    finally:
        timer.cancel()
    if welcome is None:
        raise ServerLostError("it closed the connection")
    if welcome.metadata.message_type == WELCOME and welcome.has_content():
        with suppress(ValueError):
            return decode_welcome(welcome.content)
    raise UsageError("the program at that address is not a federation server (no welcome); check --server")


class Connection:
    """A joined stream."""

    def __init__(self, context: Context, stream: Iterator[bytes], outbox: "Outbox") -> None:
        self.context = context
        self._stream = stream
        self._outbox = outbox
        self._sent = 0

    def serve(
        self,
        app: Callable[[Message, Context], Message],
        on_reply: Callable[[Message, Message], None],
        on_failure: Callable[[Exception], None],
        on_send: OnSend | None = None,
    ) -> None:
        """Reply to every message with `app` until the server ends the run; `on_reply(message, reply)` follows each reply.

        If the app raises, the server gets an error reply and continues without this hospital; `on_failure` gets the
        error itself, which stays in the hospital.
        """
        while self._reply_to_next(app, on_reply, on_failure, on_send):
            pass

    # One message per call: the variables of a loop would keep the last messages in memory until the next one arrives.

    def _reply_to_next(
        self,
        app: Callable[[Message, Context], Message],
        on_reply: Callable[[Message, Message], None],
        on_failure: Callable[[Exception], None],
        on_send: OnSend | None,
    ) -> bool:
        message = _next(self._stream, joined=True)
        if message is None:
            return False
        try:
            reply = app(message, self.context)
        except Exception as error:  # noqa: BLE001  # the server must get a reply whatever fails here
            on_failure(error)
            reply = failure_reply(message, error)
        self._sent += 1
        set_message_id(reply, f"{self.context.node_id}-{self._sent}")
        (encoded,) = encode_all([reply])
        if on_send:
            on_send(reply, encoded.frames())
        self._outbox.put(encoded.frames())
        on_reply(message, reply)
        return True


def _next(stream: Iterator[bytes], joined: bool = False) -> Message | None:
    """The next message; None if the server has ended the run."""
    try:
        frame = next(stream)
        return _receive(frame, stream) if begins_transfer(frame) else decode_message(frame)
    except StopIteration:
        return None
    except ValueError as error:
        raise UsageError(f"the program at that address is not a federation server ({error}); check --server") from None
    except grpc.RpcError as error:
        raise translate(error, joined) from None


def _receive(head: bytes, stream: Iterator[bytes]) -> Message:
    """The message with this head; its other frames follow."""
    transfer = Transfer(head)
    while transfer.missing:
        if not (chunk := next(stream, b"")):
            raise ServerLostError("it closed the connection within a message")
        transfer.add(chunk)
    return transfer.message()


def _frames(outbox: "Outbox") -> Iterator[bytes]:
    """The frames of one message after the other, until None comes."""
    for frames in iter(outbox.get, None):
        yield from frames
