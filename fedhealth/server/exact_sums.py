"""The weighted mean of the hospitals' weights from integer sums: any order of the replies gives the same bits.

Each reply is added as it comes and is not kept, so memory does not grow with the number of hospitals.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from numpy.typing import NDArray

from fedhealth.common import fixed_point
from fedhealth.common.array_codec import make_array
from fedhealth.common.fixed_point import LIMIT, MOST_EXAMPLES
from fedhealth.server.records import Member
from fedhealth.transport.messages import SERVER_NODE_ID
from fedhealth.transport.protocol.fields import ARRAYS, NUM_EXAMPLES, Weights
from fedhealth.transport.protocol.training import TRAIN, TrainReply, encode_train_reply
from fedhealth.transport.records import fill

TOO_MANY_EXAMPLES = f"there are {MOST_EXAMPLES} or more training patients in all hospitals together"
THE_MEAN = (FedAvg, FedProx)
"""Strategies whose new global weights are the mean."""
OF_THE_MEAN = (*THE_MEAN, FedAvgM, FedAdam, FedYogi, FedAdagrad)
"""Strategies that use the replies only for their mean, weighted by patients. Subclasses may use more."""
BLOCK = 64 * 1024
"""Weights that are added at a time."""


class ExactSum:
    """Sums of `rint(weight * SCALE) * num_examples`, in int64."""

    def __init__(self) -> None:
        self.num_examples = 0
        self._sums: dict[str, NDArray[np.int64]] = {}
        """As `fixed_point.add_shifted` adds them."""

    def add(self, weights: Weights, num_examples: int) -> None:
        """Add the weights of one hospital.

        Raises
        ------
        ValueError
            A weight is too large, or there are too many examples; then nothing is added.
        """
        if self.num_examples + num_examples >= MOST_EXAMPLES:
            raise ValueError(TOO_MANY_EXAMPLES)
        if not all(values.size == 0 or -LIMIT < values.min() <= values.max() < LIMIT for values in weights.values()):
            raise ValueError(f"one of its weights is not between -{LIMIT:g} and {LIMIT:g}")
        self.num_examples += num_examples
        for name, values in weights.items():
            if name not in self._sums:
                self._sums[name] = np.zeros(values.shape, np.int64)
            sums = self._sums[name].reshape(-1)
            for block, part in _blocks(values):
                fixed_point.add_shifted(sums[block], part, num_examples)

    def add_many(self, weights: Weights, counts: NDArray[np.int64]) -> None:
        """Add the weights of several hospitals (num_hospitals, *shape) with these numbers of examples (num_hospitals,).

        They must be within `find_within`, and not too many together.
        """
        self.num_examples += int(counts.sum())
        for name, values in weights.items():
            if name not in self._sums:
                self._sums[name] = np.zeros(values.shape[1:], np.int64)
            fixed_point.add_all_shifted(self._sums[name].reshape(-1), values.reshape(len(counts), -1), counts)

    def mean(self, types: Mapping[str, str] | None = None) -> dict[str, NDArray[Any]]:
        """The mean of the weights, weighted by examples; within 2^-33 of that of the weights that were added.

        It is rounded to `types`, by name; without them it is in float64.
        """
        return {name: self._mean(sums, types[name] if types else "float64") for name, sums in self._sums.items()}

    def take_means(self, types: Mapping[str, str]) -> Iterator[tuple[str, NDArray[Any]]]:
        """The items of `mean`, each when it is needed; its sum is then given up, so that both need less memory."""
        for name in tuple(self._sums):
            yield name, self._mean(self._sums.pop(name), types[name])

    def _mean(self, sums: NDArray[np.int64], dtype: str) -> NDArray[Any]:
        mean, total = np.empty(sums.shape, dtype), self.num_examples
        flat = mean.reshape(-1)
        for block, part in _blocks(sums):
            flat[block] = fixed_point.weighted_mean(fixed_point.shift_back(part, total), total)
        return mean


def _blocks(values: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The values in C order, block by block: what is computed of one needs little memory, however large the array is."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        yield block, flat[block]


def find_within(weights: Weights, num_hospitals: int) -> NDArray[np.bool_]:
    """Which hospitals' weights (num_hospitals, *shape) are all within the limits, (num_hospitals,)."""
    within = np.ones(num_hospitals, np.bool_)
    for values in weights.values():
        rows = values.reshape(num_hospitals, -1)
        within &= (rows.min(axis=1, initial=0) > -LIMIT) & (rows.max(axis=1, initial=0) < LIMIT)
    return within


def uses_only_the_mean(strategy: Strategy) -> bool:
    """Whether a strategy may get one reply with the mean instead of all replies."""
    return (
        isinstance(strategy, FedAvg)
        and type(strategy) in OF_THE_MEAN
        and strategy.weighted_by_key == NUM_EXAMPLES
        and strategy.train_metrics_aggr_fn is aggregate_metricrecords
    )


def find_too_many(members: Sequence[Member]) -> set[int]:
    """The hospitals, in the order of names, from which on the training patients of all together are too many."""
    total, over = 0, set()
    for member in sorted(members, key=lambda member: member.name):
        total += member.train_patients
        if total >= MOST_EXAMPLES:
            over.add(member.node_id)
    return over


def weighted_mean(values: Mapping[int, tuple[float, int]]) -> float | None:
    """The mean of values, each with its number of examples, added in the order given; None if there are none."""
    total = sum(count for _, count in values.values())
    return sum(value * (count / total) for value, count in values.values()) if total else None


def aggregate_mean(
    strategy: Strategy, round_num: int, total: ExactSum, types: Mapping[str, str], loss: float | None
) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """The new global weights by a strategy that uses only the mean; of FedAvg and FedProx they are the mean itself."""
    if type(strategy) in THE_MEAN:
        return take_mean(total, types), None
    return strategy.aggregate_train(round_num, [mean_reply(total, types, loss)])


def mean_reply(total: ExactSum, types: Mapping[str, str], loss: float | None) -> Message:
    """One reply instead of all: the mean of their weights, and all their examples; see `take_mean`."""
    content = encode_train_reply(TrainReply({}, total.num_examples, loss))
    content[ARRAYS] = take_mean(total, types)
    return Message(content, dst_node_id=SERVER_NODE_ID, message_type=TRAIN)


def take_mean(total: ExactSum, types: Mapping[str, str]) -> ArrayRecord:
    """The mean of the weights, in the types of the model's; the sums in `total` are given up."""
    return fill(ArrayRecord(), [(name, make_array(mean)) for name, mean in total.take_means(types)])
