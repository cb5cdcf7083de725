"""The comparison: Flower's `start_server` and `start_client`, used as in its documentation, each in a process of its own.

The server's loop, FedAvg and the gRPC stream are Flower's; the only addition is a strategy that records the time and
waits between blocks of rounds. A client runs Keras's `model.fit` and `model.evaluate`, or computes nothing.
"""

import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from flwr.client import NumPyClient, start_client
from flwr.common import EvaluateRes, FitIns, Metrics, NDArrays, Parameters, Scalar
from flwr.server import ServerConfig, start_server
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from fedhealth.config.federation import FederationSettings

LONGEST_WAIT = 60.0
"""Seconds that a client looks for its server."""
ENDLESS = 10**9
"""Rounds; the benchmark ends the process after enough of them."""


def serve(orders: Connection, address: str, num_clients: int) -> None:
    """For each number of rounds received on `orders`, run that many and send back the times when they ended."""
    strategy = TimedFedAvg(
        orders,
        min_fit_clients=num_clients,
        min_evaluate_clients=num_clients,
        min_available_clients=num_clients,
        evaluate_metrics_aggregation_fn=weighted_accuracy,
    )
    start_server(server_address=address, config=ServerConfig(num_rounds=ENDLESS), strategy=strategy)


class TimedFedAvg(FedAvg):
    """Flower's FedAvg, which notes when each round ended and waits between blocks."""

    def __init__(self, orders: Connection, **settings: Any) -> None:
        super().__init__(**settings)
        self._orders = orders
        self._rounds = 0
        self._ends: list[float] = []

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Wait for an order if a block begins."""
        if not self._ends:
            self._rounds = self._orders.recv()
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Note the time; send all times if a block ends."""
        if failures:
            raise RuntimeError(f"round {server_round}: {failures}")
        evaluated = super().aggregate_evaluate(server_round, results, failures)
        self._ends.append(time.perf_counter())
        if len(self._ends) == self._rounds:
            self._orders.send(self._ends)
            self._ends = []
        return evaluated


def weighted_accuracy(replies: list[tuple[int, Metrics]]) -> Metrics:
    """Pooled accuracy, aggregated as in Flower's tutorials."""
    total = sum(num_examples for num_examples, _ in replies)
    return {"accuracy": sum(num_examples * float(metrics["accuracy"]) for num_examples, metrics in replies) / total}


def run_client(address: str, examples: Path) -> None:
    """A hospital that trains, until the server ends the run."""
    start_client(server_address=address, client=KerasClient(examples).to_client(), max_wait_time=LONGEST_WAIT)


def run_light_client(address: str, examples: Path) -> None:
    """A hospital that does not train, until the server ends the run."""
    start_client(server_address=address, client=LightClient(examples).to_client(), max_wait_time=LONGEST_WAIT)


class KerasClient(NumPyClient):
    """The client of Flower's TensorFlow tutorials, with our model and data."""

    def __init__(self, examples: Path) -> None:
        from benchmarks.local_training import stock_model

        self._settings = FederationSettings()
        self._data = dict(np.load(examples))
        self._model = stock_model(self._settings, self._data["train_inputs"].shape[1])

    def get_parameters(self, config: dict[str, Scalar]) -> NDArrays:
        """The seeded weights."""
        return list(self._model.get_weights())

    def fit(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """Train one epoch from the global weights."""
        self._model.set_weights(parameters)
        inputs, labels = self._data["train_inputs"], self._data["train_labels"]
        settings = self._settings
        self._model.fit(inputs, labels, epochs=settings.local_epochs, batch_size=settings.batch_size, verbose=0)
        return list(self._model.get_weights()), len(labels), {}

    def evaluate(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[float, int, dict[str, Scalar]]:
        """Evaluate the global weights on the test patients."""
        self._model.set_weights(parameters)
        labels = self._data["test_labels"]
        loss, accuracy = self._model.evaluate(self._data["test_inputs"], labels, verbose=0)
        return float(loss), len(labels), {"accuracy": float(accuracy)}


class LightClient(NumPyClient):
    """Replies at once with arrays of the model's shapes, so that only Flower's own time remains."""

    def __init__(self, examples: Path) -> None:
        from benchmarks.light_hospitals import default_weights

        self._weights = list(default_weights().values())
        data = dict(np.load(examples))
        self._num_train, self._num_test = len(data["train_labels"]), len(data["test_labels"])

    def get_parameters(self, config: dict[str, Scalar]) -> NDArrays:
        """Weights of the right shapes."""
        return self._weights

    def fit(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """The received weights."""
        return parameters, self._num_train, {}

    def evaluate(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[float, int, dict[str, Scalar]]:
        """Two numbers, as the training client sends."""
        return 0.5, self._num_test, {"accuracy": 0.5}
