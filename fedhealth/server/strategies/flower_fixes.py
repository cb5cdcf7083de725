"""Corrections of Flower's strategies, and the arguments common to all of them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg, MultiKrum, QFedAvg, Strategy
from flwr.serverapp.strategy.qfedavg import compute_delta_and_h, get_train_loss

from fedhealth.transport.protocol.fields import NUM_EXAMPLES

ALL_NODES: dict[str, Any] = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
    "weighted_by_key": NUM_EXAMPLES,
}
"""Every node of the grid takes part in every round."""


def evaluates_all_nodes(strategy: Strategy) -> bool:
    """Whether the strategy asks every node of a grid to evaluate, and waits for no more of them."""
    return (
        isinstance(strategy, FedAvg)
        and type(strategy).configure_evaluate is FedAvg.configure_evaluate
        and strategy.fraction_evaluate == 1
        and max(strategy.min_evaluate_nodes, strategy.min_available_nodes) <= 1
    )


class MultiKrumOfRound(MultiKrum):
    """Flower's MultiKrum, averaging n - f - 2 hospitals, where n is the number that trained in the round."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The mean of the n - f - 2 hospitals with the best scores."""
        held = list(replies)
        self.num_nodes_to_select = len(held) - self.num_malicious_nodes - 2
        return super().aggregate_train(server_round, held)


class LightQFedAvg(QFedAvg):
    """Flower's QFedAvg without its garbage collection of the whole process at every reply."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """New weights w - sum(delta_k) / sum(h_k), with Flower's delta and h."""
        held = list(replies)
        _, metrics = FedAvg.aggregate_train(self, server_round, held)
        if not held or self.current_arrays is None:
            return None, metrics
        names, sent = list(self.current_arrays), self.current_arrays.to_numpy_ndarrays()
        rate, summed, total = 1.0 / self.client_learning_rate, [np.zeros_like(values) for values in sent], 0.0
        for reply in held:
            (arrays,) = reply.content.array_records.values()
            trained = [arrays[name].numpy() for name in names]
            deltas, height = compute_delta_and_h(
                sent, trained, self.q, rate, get_train_loss(reply, self.train_loss_key)
            )
            summed, total = [a + b for a, b in zip(summed, deltas, strict=True)], total + height
        moved = zip(names, sent, summed, strict=True)
        return ArrayRecord({name: Array((w - d / total).astype(w.dtype)) for name, w, d in moved}), metrics
