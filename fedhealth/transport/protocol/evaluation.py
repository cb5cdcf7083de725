"""Evaluation: the request with the weights, and the reply with score histograms.

Flower's strategies build the request themselves, from the weights and the config of `encode_evaluate_config`, to which they
add the round number. `encode_evaluate_request` makes the same message without a strategy.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedhealth.transport.protocol.fields import (
    ARRAYS,
    CONFIG,
    METRICS,
    NUM_EXAMPLES,
    ROUND,
    Scale,
    Weights,
    decode_round,
    decode_scale,
    decode_weights,
    encode_arrays,
    encode_scale,
    forbid_others,
    is_list,
    take_config,
    take_only,
)

EVALUATE = "evaluate"
FINAL = "final"
VALIDATION = "validation"
POSITIVES, NEGATIVES = "positives", "negatives"
LOG_LOSS, SQUARED_ERROR = "log-loss", "squared-error"


class HistogramLike(Protocol):
    """What a score histogram is made of; `metrics.histogram.ScoreHistogram` is one."""

    @property
    def num_examples(self) -> int:
        """How many patients."""

    @property
    def positives(self) -> NDArray[np.int64]:
        """Ill patients by bin (num_bins,)."""

    @property
    def negatives(self) -> NDArray[np.int64]:
        """Healthy patients by bin (num_bins,)."""

    @property
    def log_loss(self) -> float:
        """Sum over patients, nats."""

    @property
    def squared_error(self) -> float:
        """Sum over patients."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of ill and healthy patients by bin of predicted risk, and two sums over patients, as they were sent."""

    num_examples: int
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    log_loss: float
    squared_error: float


@dataclass(frozen=True, eq=False)
class EvaluateRequest:
    """The global weights after a round; `final` marks the weights of the final model."""

    weights: Weights
    round_num: int
    scale: Scale | None = None
    final: bool = False


@dataclass(frozen=True, eq=False)
class EvaluateReply:
    """Score histograms of the test patients and, in a run with a validation set, of the validation patients."""

    tested: HistogramLike
    validation: HistogramLike | None = None


def encode_evaluate_config(scale: Scale | None) -> ConfigRecord:
    """The config of an evaluate request, but for the round number, which the strategy adds."""
    return ConfigRecord(encode_scale(scale))


def encode_evaluate_request(request: EvaluateRequest) -> RecordDict:
    """The request `EVALUATE`."""
    config = encode_evaluate_config(request.scale)
    config[ROUND] = request.round_num
    if request.final:
        config[FINAL] = True
    return RecordDict({ARRAYS: encode_arrays(request.weights), CONFIG: config})


def decode_evaluate_request(content: RecordDict) -> EvaluateRequest:
    """What to evaluate; names and shapes of the weights are not checked."""
    config = take_config(content, ARRAYS)
    scale, round_num, final = decode_scale(config), decode_round(config), config.get(FINAL, False)
    if not isinstance(final, bool):
        raise ValueError("the server's message makes no sense: its final is neither yes nor no")
    return EvaluateRequest(decode_weights(content), round_num, scale, final)


def encode_evaluate_reply(reply: EvaluateReply) -> RecordDict:
    """The reply to `EVALUATE`."""
    histograms = {METRICS: reply.tested, VALIDATION: reply.validation}
    return RecordDict({key: _encode_histogram(each) for key, each in histograms.items() if each is not None})


def decode_evaluate_reply(content: RecordDict) -> EvaluateReply:
    """Histograms as they were sent: number of bins, signs and sums are not checked."""
    keys = (METRICS, VALIDATION) if VALIDATION in content else (METRICS,)
    records = take_only(content, MetricRecord, *keys)
    forbid_others(content, *keys)
    return EvaluateReply(*map(_decode_histogram, records))


def _encode_histogram(histogram: HistogramLike) -> MetricRecord:
    return MetricRecord(
        {
            NUM_EXAMPLES: histogram.num_examples,
            POSITIVES: histogram.positives.tolist(),
            NEGATIVES: histogram.negatives.tolist(),
            LOG_LOSS: float(histogram.log_loss),
            SQUARED_ERROR: float(histogram.squared_error),
        }
    )


def _decode_histogram(record: MetricRecord) -> Histogram:
    keys = {NUM_EXAMPLES, POSITIVES, NEGATIVES, LOG_LOSS, SQUARED_ERROR}
    if missing := keys - set(record):
        raise ValueError(f"the histogram lacks {min(missing)}")
    if others := set(record) - keys:
        raise ValueError(f"the histogram has {min(others)}, which is no part of one")
    positives, negatives = _decode_bins(record[POSITIVES]), _decode_bins(record[NEGATIVES])
    num_examples, log_loss, squared_error = record[NUM_EXAMPLES], record[LOG_LOSS], record[SQUARED_ERROR]
    if type(num_examples) is not int:
        raise ValueError("the bins do not add up to num-examples")
    if type(log_loss) is not float or type(squared_error) is not float:
        raise ValueError("the sum of log loss or of squared error is no number")
    if not (math.isfinite(log_loss) and math.isfinite(squared_error)):
        raise ValueError("the sum of log loss or of squared error is out of range")
    return Histogram(num_examples, positives, negatives, log_loss, squared_error)


def _decode_bins(values: object) -> NDArray[np.int64]:
    if not is_list(values, int):
        raise ValueError("a bin is not a count of patients")
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise ValueError("a bin is not a count of patients") from None
