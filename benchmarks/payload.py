"""Bytes on the wire against bytes of weights, for each kind of message; and how often the weights are serialised.

The server (`GrpcGrid`, `federate`) and the client side (`client.join`) are the real ones; a small TCP proxy between
them counts bytes, so the framing of HTTP/2 is included. Times are not measured.
"""

import asyncio
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import tyro

from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr

if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    from benchmarks.light_hospitals import Weights
    from fedhealth.transport.incoming import Incoming

QUIET_SECONDS = 0.03
"""If no byte has passed for this long, a message and its HTTP/2 frames (window updates) are complete."""
KINDS = ("train", "evaluate")
ALLOWED_FACTOR, ALLOWED_BYTES = 1.5, 1024
"""A train reply, which includes an evaluation, may have twice as many bytes besides the weights."""


@dataclass(frozen=True)
class Settings:
    """Bytes of a message on the wire, for the default model and for one of 20 MB.

    Example: python -m benchmarks.payload --rounds 10
    """

    rounds: int = 10
    """Number of rounds; the median message size is shown."""
    hospitals: tuple[int, ...] = (1, 4, 50)
    """Numbers of hospitals with which serialisations are counted."""
    quick: bool = False
    """Few rounds: a check that it works."""


def main(settings: Settings) -> None:
    """Measure and show."""
    from benchmarks.common import report
    from benchmarks.light_hospitals import big_weights, default_weights

    if settings.quick:
        settings = Settings(rounds=2, hospitals=(1, 10))
    require_same_model(default_weights())
    rows = [
        row
        for name, weights in (("default", default_weights()), ("20 MB", big_weights()))
        for row in measure_model(name, weights, settings.rounds)
    ]
    title = f"One message on the wire (limit: {ALLOWED_FACTOR} x weights + {ALLOWED_BYTES:,} bytes)"
    report("payload", title, tuple(rows[0]), rows)
    rows = [count_serialisations(count, settings.rounds) for count in settings.hospitals]
    report("serialisations", "How often a round serialises the global weights", tuple(rows[0]), rows)


def require_same_model(weights: "Weights") -> None:
    """Check that the light hospitals' weights have the shapes of the default model, built here by Keras."""
    from fedhealth.config.federation import FederationSettings
    from fedhealth.data.preprocessing import encoded_names
    from fedhealth.data.schema_file import heart_disease

    with silenced_stderr():
        from fedhealth.models.keras_models import build_model, weight_names

    model = build_model(
        name=FederationSettings().model, num_inputs=len(encoded_names(heart_disease(), missing_indicators=True)), seed=0
    )
    real = dict(zip(weight_names(model), (tuple(weight.shape) for weight in model.weights), strict=True))
    if real != {name: weight.shape for name, weight in weights.items()}:
        raise SystemExit(f"benchmarks/light_hospitals.py: the default model is now {real}")


# --- bytes -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Wire:
    """Bytes that have passed the proxy so far."""

    port: int = 0
    down: int = 0  # from the server to the hospital
    up: int = 0

    def read_when_quiet(self) -> tuple[int, int]:
        """(down, up) once nothing has moved for a while."""
        seen = (-1, -1)
        while seen != (now := (self.down, self.up)):
            seen = now
            time.sleep(QUIET_SECONDS)
        return now


@contextmanager
def proxy_to(port: int) -> Iterator[Wire]:
    """A TCP proxy on loopback, on a thread of its own, to the server at `port`."""
    wire, ready = Wire(), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_proxy(wire, port, ready, stop),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _proxy(wire: Wire, port: int, ready: threading.Event, stop: asyncio.Event) -> None:
    connections: list[asyncio.Task[None]] = []

    async def connect(from_hospital: asyncio.StreamReader, to_hospital: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        connections.append(asyncio.create_task(_pump(from_hospital, to_server, wire, "up")))
        connections.append(asyncio.create_task(_pump(from_server, to_hospital, wire, "down")))

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        wire.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire, direction: str) -> None:
    """Copy and count one direction of a connection until either end closes it."""
    try:
        while data := await reader.read(1 << 20):
            setattr(wire, direction, getattr(wire, direction) + len(data))
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # one end closed the connection; close the other one
    finally:
        writer.close()


@dataclass(eq=False)
class Counts:
    """Per kind of message ("train request", ...): encoded bytes, TCP bytes there, TCP bytes back, one of each per round."""

    encoded: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    there: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    back: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, encoded: int, there: int, back: int) -> None:
        """Add one message."""
        self.encoded[kind].append(encoded)
        self.there[kind].append(there)
        self.back[kind].append(back)


def measure_model(name: str, weights: "Weights", rounds: int) -> list[dict[str, Any]]:
    """One row per kind of message."""
    raw = sum(weight.nbytes for weight in weights.values())
    counts = count_bytes(weights, rounds)
    rows = []
    for kind, there in counts.there.items():
        weight_bytes = 0 if kind == "evaluate reply" else raw
        allowed_bytes = 2 * ALLOWED_BYTES if kind == "train reply" else ALLOWED_BYTES
        size, back = statistics.median(there), statistics.median(counts.back[kind])
        rows.append(
            {
                "model": name,
                "message": kind,
                "weights B": weight_bytes,
                "encoded B": statistics.median(counts.encoded[kind]),
                "TCP B": size,
                "TCP B back": back,
                "TCP / weights": size / weight_bytes if weight_bytes else None,
                "more than weights B": size + back - weight_bytes,
                "most of the limit": max(there) / (ALLOWED_FACTOR * weight_bytes + allowed_bytes),
            }
        )
    return rows


def count_bytes(weights: "Weights", rounds: int) -> Counts:
    """A whole run of one hospital through the proxy."""
    from fedhealth.config.federation import FederationSettings
    from fedhealth.server.app import federate
    from fedhealth.transport.grpc.grid import GrpcGrid
    from fedhealth.transport.messages import encode_message

    counts, wires, start = Counts(), [Wire()], [(0, 0)]
    settings = FederationSettings(hospitals=1, rounds=rounds)

    class CountingGrid(GrpcGrid):
        def receive_groups(
            self, messages: "Iterable[Message]", *, timeout: float | None = None
        ) -> "Iterator[list[Incoming]]":
            start[0] = wires[0].read_when_quiet()
            groups = list(super().receive_groups(messages, timeout=timeout))
            replies = [reply.message() for group in groups for reply in group]
            down, up = wires[0].read_when_quiet()
            kind = replies[0].metadata.message_type
            if kind in KINDS:
                there, back = up - start[0][1], down - start[0][0]
                counts.add(f"{kind} reply", len(encode_message(replies[0])), there, back)
            yield from groups

    def on_request(message: "Message") -> None:
        down, up = wires[0].read_when_quiet()
        kind = message.metadata.message_type
        if kind in KINDS:
            there, back = down - start[0][0], up - start[0][1]
            counts.add(f"{kind} request", len(encode_message(message)), there, back)
        start[0] = down, up

    grid = CountingGrid(settings.to_run_config(), 1, lambda what, who: None)
    with grid.listening("127.0.0.1:0") as address, proxy_to(int(address.rpartition(":")[2])) as wires[0]:
        hospital = threading.Thread(
            target=run_hospital, args=(f"127.0.0.1:{wires[0].port}", light_app(weights, on_request)), daemon=True
        )
        hospital.start()
        federate(grid, settings, lambda event: None, max_wait=60)
    return counts


def light_app(weights: "Weights", on_request: Any) -> "ClientApp":
    """A `ClientApp` that replies at once, with real messages."""
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp

    from benchmarks.light_hospitals import contents, description
    from fedhealth.transport.protocol.evaluation import EVALUATE
    from fedhealth.transport.protocol.setup import DESCRIBE
    from fedhealth.transport.protocol.training import EVALUATES

    app = ClientApp()

    def answer(content: "RecordDict") -> Any:
        def reply(message: "Message", context: "Context") -> "Message":
            _ = context
            on_request(message)
            evaluates = EVALUATES in message.content.get("config", {})
            return Message(RecordDict({**content, **everything[EVALUATE]}) if evaluates else content, reply_to=message)

        return reply

    everything: Mapping[str, RecordDict] = {**contents(weights), DESCRIBE: description("hospital")}
    for message_type, content in everything.items():
        kind, _, action = message_type.partition(".")
        {"train": app.train, "evaluate": app.evaluate, "query": app.query}[kind](action or "default")(answer(content))
    return app


def run_hospital(address: str, app: "ClientApp") -> None:
    """The client side, as in the client script."""
    from fedhealth.common.errors import RunError
    from fedhealth.transport.grpc.client import join
    from fedhealth.transport.grpc.retry import ServerLostError

    try:
        with join(address, "hospital", {}) as connection:
            connection.serve(app, on_reply=lambda message, reply: None, on_failure=print)
    except (ServerLostError, RunError):
        return  # the run is over


# --- serialisations ----------------------------------------------------------------------------------------------------


def count_serialisations(count: int, rounds: int) -> dict[str, Any]:
    """Messages, and calls of Flower's function that serialises arrays, per round at the server."""
    from benchmarks.light_hospitals import light_hospitals
    from fedhealth.config.federation import FederationSettings
    from fedhealth.server.app import federate
    from fedhealth.server.records import RoundRecord
    from fedhealth.transport.grpc.grid import GrpcGrid
    from fedhealth.transport.protocol.fields import ARRAYS
    from fedhealth.transport.records import write_records

    sent: list[Message] = []
    calls: list[tuple[int, int]] = []

    class CountingGrid(GrpcGrid):
        def receive_groups(
            self, messages: "Iterable[Message]", *, timeout: float | None = None
        ) -> "Iterator[list[Incoming]]":
            asked = list(messages)
            sent.extend(asked)
            return super().receive_groups(asked, timeout=timeout)

    settings = FederationSettings(hospitals=count, rounds=rounds)
    grid = CountingGrid(settings.to_run_config(), count, lambda what, who: None)
    with (
        mock.patch("fedhealth.transport.messages.write_records", wraps=write_records) as written,
        grid.listening("127.0.0.1:0") as address,
        light_hospitals(address, count) as crowd,
    ):

        def on_event(event: object) -> None:
            if isinstance(event, RoundRecord):
                calls.append((sum(ARRAYS in each.args[0] for each in written.call_args_list), len(sent)))

        crowd.join()
        federate(grid, settings, on_event, max_wait=60)
    per_round = [_per_round([call[which] for call in calls]) for which in (0, 1)]
    return {"hospitals": count, "rounds": rounds, "messages sent": per_round[1], "weights serialised": per_round[0]}


def _per_round(totals: Sequence[int]) -> float:
    return (totals[-1] - totals[0]) / (len(totals) - 1)


if __name__ == "__main__":
    quiet_libraries()
    main(tyro.cli(Settings))
