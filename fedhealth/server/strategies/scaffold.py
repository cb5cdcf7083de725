"""SCAFFOLD, which Flower does not include."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_arrays
from fedhealth.config.federation import FederationSettings
from fedhealth.server.strategies.flower_fixes import ALL_NODES
from fedhealth.transport.protocol.fields import encode_arrays
from fedhealth.transport.protocol.training import add_correction, decode_train_reply

Arrays = dict[str, NDArray[Any]]


class Scaffold(FedAvg):
    """SCAFFOLD, option II, all hospitals in every round (Karimireddy et al. 2020, algorithm 1).

    A hospital's control variate c_i is computed from the weights sent to it and its reply, so the server keeps it and
    sends each hospital the correction c - c_i that is added to every gradient. Hospitals keep no state, so one that
    reconnects, restarts or replies late stays consistent. Hospitals are weighted by training patients, as in FedAvg (in
    the paper's objective all have equal weight).
    """

    def __init__(self, settings: FederationSettings) -> None:
        super().__init__(**ALL_NODES)
        self.server_learning_rate = settings.server_learning_rate or 1.0
        self.hospitals = settings.hospitals
        self.batch_size = settings.batch_size
        self.local_epochs = settings.local_epochs
        self.learning_rate = settings.local_learning_rate
        self.sent: Arrays | None = None
        self.control: Arrays | None = None
        self.own: Arrays = {}
        """The hospitals' control variates: "<node id>/<name of the weight>" -> values; 0 before a hospital's first round."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The train messages, each with the weights and the hospital's correction."""
        self.sent = read_arrays(arrays)
        if self.control is None:
            self.control = {name: np.zeros_like(values) for name, values in self.sent.items()}
        return [self._corrected(message) for message in super().configure_train(server_round, arrays, config, grid)]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """New weights x + eta * mean(y_i - x) and c + share of hospitals * mean(c_i' - c_i), means weighted by patients."""
        held = list(replies)
        arrays, metrics = super().aggregate_train(server_round, held)
        if arrays is None or self.sent is None or self.control is None:
            return arrays, metrics
        sent, shared = self.sent, self.control
        changes, patients = zip(*(self._change(reply) for reply in held), strict=True)
        share = len(held) / max(self.hospitals, len(held)) / sum(patients)
        factors = [np.float32(share * count) for count in patients]
        self.control = {
            name: shared[name] + sum(factor * change[name] for factor, change in zip(factors, changes, strict=True))
            for name in sent
        }
        for reply, change in zip(held, changes, strict=True):
            node = reply.metadata.src_node_id
            self.own |= {f"{node}/{name}": self._own(node, name) + moved for name, moved in change.items()}
        rate = np.float32(self.server_learning_rate)
        moved = {name: sent[name] + rate * (array.numpy() - sent[name]) for name, array in arrays.items()}
        return encode_arrays(moved), metrics

    def _corrected(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        correction = {name: np.asarray(mean - self._own(node, name)) for name, mean in (self.control or {}).items()}
        content = add_correction(message.content, correction)
        return Message(content, dst_node_id=node, message_type=message.metadata.message_type)

    def _own(self, node: int, name: str) -> NDArray[Any]:
        own = self.own.get(f"{node}/{name}")
        return np.zeros_like((self.control or {})[name]) if own is None else own

    def _change(self, reply: Message) -> tuple[dict[str, NDArray[np.float32]], int]:
        """The change of the hospital's control variate, and its number of patients."""
        trained = decode_train_reply(reply.content)
        steps = count_steps(trained.num_examples, self.batch_size, self.local_epochs)
        names, control, sent = list(self.sent or {}), self.control or {}, self.sent or {}
        shared, before = [control[name] for name in names], [sent[name] for name in names]
        after = [trained.weights[name] for name in names]
        changes = control_change(shared, before, after, steps, self.learning_rate)
        return dict(zip(names, changes, strict=True)), trained.num_examples


Weights = Sequence[NDArray[np.float32]]


def count_steps(num_patients: int, batch_size: int, num_epochs: int) -> int:
    """Number of gradient steps of one round."""
    return num_epochs * -(-num_patients // batch_size)


def control_change(
    shared: Weights, sent: Weights, trained: Weights, steps: int, learning_rate: float
) -> list[NDArray[np.float32]]:
    """The change of a hospital's control variate in a round: c_i' - c_i = (x - y) / (K * eta) - c.

    Parameters
    ----------
    shared : the federation's control variate c.
    sent, trained : global weights x and local weights y.
    """
    scale = np.float32(1 / (steps * learning_rate))
    return [(before - after) * scale - mean for before, after, mean in zip(sent, trained, shared, strict=True)]
