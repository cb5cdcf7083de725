"""A hospital's end of the link: join the server, answer its messages with a `ClientApp`, come back after a cut.

The stream is read and answered on the caller's thread; gRPC keeps the connection alive on its own threads, so a long
training looks to nobody like a dead hospital.
"""

import queue
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.errors import RunError, UsageError
from fedhealth.wire.messages import (
    CHANNEL_OPTIONS,
    METHOD,
    RUN_ID,
    WELCOME,
    agreement,
    decode_message,
    encode_message,
    failure_reply,
    node_id_of,
    set_message_id,
)

CLIENT_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),  # a new attempt is a new connection, not the old one's back-off
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]
LOOPBACK = ("127.", "localhost", "[::1]")
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between attempts to reach the server: doubled each time, with jitter, up to the longest."""


class ServerLostError(Exception):
    """The server is not there (any more); trying again may help."""


@contextmanager
def join(address: str, hospital: str, node_config: Mapping[str, str]) -> Iterator["Connection"]:
    """Join the federation at HOST:PORT once, and leave it at the end.

    Raises
    ------
    ServerLostError
        Nobody answers there.
    UsageError
        The server refuses this client; the reason is the server's.
    """
    # A proxy between two programs on one machine is never meant.
    no_proxy = [("grpc.enable_http_proxy", 0)] if address.startswith(LOOPBACK) else []
    outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(address, options=[*CLIENT_OPTIONS, *no_proxy]) as channel:
        metadata = [*agreement().items(), ("hospital-bin", hospital.encode())]
        stream = channel.stream_stream(METHOD)(iter(outbox.get, None), metadata=metadata)
        try:
            welcome = _next(stream)
            if welcome is None:
                raise ServerLostError("the server closed the connection")
            if welcome.metadata.message_type != WELCOME:
                raise UsageError("what answers there is no federation server (no welcome); check --server")
            run_config = dict(welcome.content.config_records["run-config"])
            node_id = node_id_of(hospital)
            context = Context(
                run_id=RUN_ID,
                node_id=node_id,
                node_config=dict(node_config),
                state=RecordDict(),
                run_config=run_config,  # type: ignore[arg-type]  # the server sends plain values only
            )
            yield Connection(context, stream, outbox)
        finally:
            outbox.put(None)
            stream.cancel()


class Connection:
    """A joined stream."""

    def __init__(self, context: Context, stream: Iterator[bytes], outbox: "queue.SimpleQueue[bytes | None]") -> None:
        self.context = context
        self._stream = stream
        self._outbox = outbox
        self._sent = 0

    def serve(
        self, app: ClientApp, on_reply: Callable[[Message, Message], None], on_failure: Callable[[Exception], None]
    ) -> None:
        """Answer every message with `app` until the server ends the run; `on_reply(message, reply)` sees each answer.

        What the app cannot answer becomes an error reply, and the federation goes on without it; the error itself is
        for `on_failure`, here in the hospital.
        """
        while (message := _next(self._stream)) is not None:
            try:
                reply = app(message, self.context)
            except Exception as error:  # noqa: BLE001  # whatever happens inside one hospital, the server gets a word
                on_failure(error)
                reply = failure_reply(message, error)
            self._sent += 1
            set_message_id(reply, f"{self.context.node_id}-{self._sent}")
            self._outbox.put(encode_message(reply))
            on_reply(message, reply)


def _next(stream: Iterator[bytes]) -> Message | None:
    """The next message; None when the server has ended the run."""
    try:
        return decode_message(next(stream))
    except StopIteration:
        return None
    except ValueError as error:
        raise UsageError(f"what answers there is no federation server ({error}); check --server") from None
    except grpc.RpcError as error:
        raise _translate(error) from None


def _translate(error: grpc.RpcError) -> Exception:
    """What a broken stream means to the hospital."""
    code, details = error.code(), error.details()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ServerLostError(details)
    if code == grpc.StatusCode.ABORTED:
        return RunError(f"the server ended the run: {details}")
    if code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
        return UsageError(
            f"what answers there is no federation server ({code.name.lower()}: {details}); check --server"
        )
    return UsageError(f"the server refused: {details}")


def keep_trying(attempt: Callable[[], None], max_wait: float, on_pause: Callable[[int, float, float], None]) -> None:
    """Call `attempt` until it ends without `ServerLostError`, with growing pauses, `max_wait` seconds at most.

    A successful connection resets the clock: `attempt` may run for hours before it loses the server.
    `on_pause(attempts, pause, seconds_left)` is told before each pause.
    """
    attempts, pause, deadline = 0, FIRST_PAUSE, time.monotonic() + max_wait
    while True:
        attempts += 1
        started = time.monotonic()
        try:
            return attempt()
        except ServerLostError:
            now = time.monotonic()
            if now - started > LONGEST_PAUSE:
                attempts, pause, deadline = 1, FIRST_PAUSE, now + max_wait
            if now >= deadline:
                raise RunError(f"no server answered within {max_wait:g} s ({attempts} attempts)") from None
            pause = min(pause * random.uniform(0.8, 1.2), deadline - now)  # noqa: S311  # jitter, no secret
            on_pause(attempts, pause, deadline - now)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
