"""Toy hospitals behind a real gRPC link on loopback."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.grid import GrpcGrid
from tests.support.processes import PATIENCE


def make_app(answer: Callable[[Message, Context], RecordDict]) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(answer(message, context), reply_to=message)

    return app


def double(message: Message, context: Context) -> RecordDict:
    """Twice the weights that came, and the hospital's name length as a metric."""
    weights = message.content.array_records["arrays"]["w"].numpy() * 2
    metrics = MetricRecord({"num-examples": len(str(context.node_config["name"]))})
    return RecordDict({"arrays": ArrayRecord({"w": Array(weights)}), "metrics": metrics})


class Federation:
    """A listening grid and its hospitals, each on a thread."""

    def __init__(self, capacity: int = 4) -> None:
        self.changes: list[tuple[str, str]] = []
        self.changed = threading.Condition()
        self.grid = GrpcGrid({"rounds": 2, "model": "mlp"}, capacity, self._on_change)
        self.pool = ThreadPoolExecutor()
        self.address = ""
        self.failure: Exception | None = None
        """What the listener of changes raises, if anything."""

    def _on_change(self, what: str, who: str) -> None:
        with self.changed:
            self.changes.append((what, who))
            self.changed.notify_all()
        if self.failure:
            raise self.failure

    def wait_for(self, what: str, who: str, count: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: sum(w == what and who in text for w, text in self.changes) >= count, timeout=PATIENCE
            ), f"no {what} {who} in {self.changes}"

    def start(self, name: str, app: ClientApp) -> "Future[None]":
        def run() -> None:
            with join(self.address, name, {"data": "none", "name": name}) as connection:
                connection.serve(app, on_reply=lambda message, reply: None, on_failure=lambda error: None)

        future = self.pool.submit(run)
        self.wait_for("joined", name)
        return future

    def ask(self, node_ids: tuple[int, ...], timeout: float | None = 20) -> list[Message]:
        content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(3, dtype=np.float32))})})
        requests = [Message(content, dst_node_id=node, message_type="train") for node in node_ids]
        return self.grid.send_and_receive(requests, timeout=timeout)
