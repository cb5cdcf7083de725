"""The recorder that wraps any strategy: it lets only sound replies through and tells what each round was.

What a round was, who took part and what the metrics of all test patients are is the same for every strategy and is found
out here, once.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedhealth.arrays import read_array
from fedhealth.errors import RunError
from fedhealth.metrics import Metrics, ScoreHistogram, add_histograms, compute_metrics, histogram_from_record

LONGEST_REASON = 200
"""Letters of a hospital's reason that are shown."""


@dataclass(frozen=True)
class RoundRecord:
    """What one round was.

    `hospitals` holds those that evaluated; `left_out` says of every other, and of those whose weights are missing from this
    round's model, why.
    """

    round_num: int
    seconds: float
    train_loss: float
    union: Metrics
    hospitals: Mapping[str, Metrics]
    left_out: Mapping[str, str]
    left_out_share: float
    """Share of the federation's training patients that this round's weights have not seen."""
    histograms: Mapping[str, ScoreHistogram] = field(default_factory=dict)
    """What the metrics were computed from, by hospital."""


class RoundRecorder(Strategy):
    """Wraps a strategy: it sees only replies that are sound, and `on_round` hears what each round was.

    Parameters
    ----------
    names : hospital name by node id; nobody else is asked or listened to.
    train_patients : number of training patients by node id, as the hospitals declared it.
    """

    def __init__(
        self,
        strategy: Strategy,
        names: Mapping[int, str],
        train_patients: Mapping[int, int],
        on_round: Callable[[RoundRecord], None],
    ) -> None:
        self._strategy = strategy
        self._names = names
        self._train_patients = train_patients
        self._on_round = on_round
        self._started = 0.0
        self._train_loss = 0.0
        self._global_arrays = ArrayRecord()
        self._left_out: dict[int, str] = {}

    def summary(self) -> None:
        """Log the wrapped strategy's settings."""
        self._strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every hospital that is here to train."""
        self._started, self._global_arrays = time.perf_counter(), arrays
        self._require_hospitals(server_round, grid)
        return self._to_members(self._strategy.configure_train(server_round, arrays, config, grid))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the strategy combine the weights of those who answered; a `RunError` if nobody did."""
        sound, self._left_out = self._sort_out(replies, self._check_trained)
        if not sound:
            reasons = "; ".join(f"{self._names[node]}: {reason}" for node, reason in self._left_out.items())
            raise RunError(f"round {server_round}: no hospital could train ({reasons})")
        arrays, metrics = self._strategy.aggregate_train(server_round, sound)
        self._train_loss = float(metrics["train-loss"]) if metrics else float("nan")  # type: ignore[arg-type]
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every hospital that is here to evaluate the new global weights."""
        self._require_hospitals(server_round, grid)
        return self._to_members(self._strategy.configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Add up the histograms and report the round."""
        histograms: dict[str, ScoreHistogram] = {}

        def keep_histogram(reply: Message) -> None:
            record = reply.content.metric_records["metrics"]
            histograms[self._names[reply.metadata.src_node_id]] = histogram_from_record(record)

        _, silent = self._sort_out(replies, keep_histogram)
        union = compute_metrics(add_histograms(histograms.values()))
        unseen = sum(self._train_patients[node] for node in self._left_out)
        self._on_round(
            RoundRecord(
                round_num=server_round,
                seconds=time.perf_counter() - self._started,
                train_loss=self._train_loss,
                union=union,
                hospitals={name: compute_metrics(histograms[name]) for name in sorted(histograms)},
                left_out={self._names[node]: reason for node, reason in {**silent, **self._left_out}.items()},
                left_out_share=unseen / sum(self._train_patients.values()),
                histograms=histograms,
            )
        )
        return MetricRecord({key: value for key, value in vars(union).items() if value is not None})

    def _require_hospitals(self, server_round: int, grid: Grid) -> None:
        # Flower's own sampling would wait for a hospital for ever and in silence.
        if not self._names.keys() & set(grid.get_node_ids()):
            raise RunError(f"round {server_round}: every hospital has left the federation")

    def _to_members(self, messages: Iterable[Message]) -> list[Message]:
        return [message for message in messages if message.metadata.dst_node_id in self._names]

    def _sort_out(
        self, replies: Iterable[Message], check: Callable[[Message], None]
    ) -> tuple[list[Message], dict[int, str]]:
        """Split replies into the sound ones, and the reason by node id for every hospital without one."""
        sound, reasons = [], dict.fromkeys(self._names, "not here")
        for reply in replies:
            node = reply.metadata.src_node_id
            if node not in self._names:
                continue
            try:
                if reply.has_error():
                    raise ValueError(readable(str(reply.error.reason)))
                check(reply)
            except (ValueError, KeyError, TypeError, EOFError, OSError) as problem:
                reasons[node] = f"no {problem}" if isinstance(problem, KeyError) else str(problem)
            else:
                sound.append(reply)
                del reasons[node]
        return sound, reasons

    def _check_trained(self, reply: Message) -> None:
        """A `ValueError` if the reply is not this hospital's weights: names, shapes, types, finite values, count."""
        arrays, metrics = reply.content.array_records["arrays"], reply.content.metric_records["metrics"]
        if _describe(arrays) != _describe(self._global_arrays):
            raise ValueError("its weights have other names, shapes or types than the model's")
        for array in arrays.values():
            values = read_array(array)
            if (str(values.dtype), values.shape) != (array.dtype, tuple(array.shape)):
                raise ValueError("its weights are not what they say they are")
            if not np.all(np.isfinite(values)):
                raise ValueError("its weights are not finite")
        declared = self._train_patients[reply.metadata.src_node_id]
        if metrics["num-examples"] != declared or not np.isfinite(metrics["train-loss"]):
            raise ValueError(f"it trained on {metrics['num-examples']} patients but declared {declared}")


def _describe(arrays: ArrayRecord) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, array.dtype, tuple(array.shape)) for name, array in arrays.items()]


def readable(text: str) -> str:
    """What another program sent, made fit for one line of a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST_REASON])
