"""SCAFFOLD, which Flower has not."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fedhealth.arrays import read_array
from fedhealth.control_variates import control_change, count_steps
from fedhealth.settings import FederationSettings
from fedhealth.strategies.adapted import EVERYBODY


class Scaffold(FedAvg):
    """SCAFFOLD, option II, all hospitals in every round (Karimireddy et al. 2020, algorithm 1).

    The shared variate c travels with every train message. A hospital keeps its own c_i, starting from 0, and adds c - c_i to
    every gradient; how its c_i changed follows from the weights that it sends back, so nothing more needs to travel.
    Hospitals count by their training patients, here as in FedAvg (the paper's objective counts them alike). A hospital that
    restarts or joins anew begins with c_i = 0 again, while c remembers what it was: its next steps are corrected by too much.
    """

    def __init__(self, settings: FederationSettings) -> None:
        super().__init__(**EVERYBODY)
        self.server_learning_rate = settings.server_learning_rate or 1.0
        self.hospitals = settings.hospitals
        self.batch_size = settings.batch_size
        self.local_epochs = settings.local_epochs
        self.learning_rate = settings.learning_rate
        self.sent: dict[str, NDArray[Any]] | None = None
        self.control: dict[str, NDArray[Any]] | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the shared variate beside the weights."""
        self.sent = {name: read_array(array) for name, array in arrays.items()}
        if self.control is None:
            self.control = {name: np.zeros_like(values) for name, values in self.sent.items()}
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message in messages[:1]:  # all messages share one content
            message.content["control"] = ArrayRecord({name: Array(values) for name, values in self.control.items()})
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """X + eta * mean(y_i - x) and c + share here * mean(c_i' - c_i), both means by number of patients."""
        held = list(replies)
        arrays, metrics = super().aggregate_train(server_round, held)
        if arrays is None or self.sent is None or self.control is None:
            return arrays, metrics
        names, sent, shared = list(self.sent), self.sent, self.control
        changes, patients = zip(*(self._change(reply, names) for reply in held), strict=True)
        share = len(held) / max(self.hospitals, len(held)) / sum(patients)
        factors = [np.float32(share * count) for count in patients]
        self.control = {
            name: shared[name] + sum(factor * change[place] for factor, change in zip(factors, changes, strict=True))
            for place, name in enumerate(names)
        }
        rate = np.float32(self.server_learning_rate)
        moved = {name: sent[name] + rate * (array.numpy() - sent[name]) for name, array in arrays.items()}
        return ArrayRecord({name: Array(values) for name, values in moved.items()}), metrics

    def _change(self, reply: Message, names: list[str]) -> tuple[list[NDArray[np.float32]], int]:
        """How the hospital's own variate changed, and its number of patients."""
        (arrays,), (metrics,) = reply.content.array_records.values(), reply.content.metric_records.values()
        patients = int(metrics["num-examples"])  # type: ignore[arg-type]  # the recorder has checked it
        steps = count_steps(patients, self.batch_size, self.local_epochs)
        shared, sent = ([part[name] for name in names] for part in (self.control or {}, self.sent or {}))
        trained = [read_array(arrays[name]) for name in names]
        return control_change(shared, sent, trained, steps, self.learning_rate), patients
