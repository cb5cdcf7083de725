"""Evaluation: the request with the weights, and the reply with score histograms.

Flower's strategies build the request from the weights and the config of `encode_evaluate_config`, and add the round
number. `encode_evaluate_request` makes the same message without a strategy.
"""

import math
from dataclasses import dataclass
from typing import Any

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
    take_config,
    take_records,
)

EVALUATE = "evaluate"
FINAL = "final"
VALIDATION = "validation"
POSITIVES, NEGATIVES = "positives", "negatives"
LOG_LOSS, SQUARED_ERROR = "log-loss", "squared-error"


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of ill and healthy patients by bin of predicted risk, and two sums over patients, not validated."""

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

    tested: Histogram
    validation: Histogram | None = None


def encode_evaluate_config(scale: Scale | None) -> ConfigRecord:
    """The config of an evaluate request without the round number, which the strategy adds."""
    return ConfigRecord(encode_scale(scale))


def encode_evaluate_request(request: EvaluateRequest) -> RecordDict:
    """The request `EVALUATE`."""
    config = encode_evaluate_config(request.scale)
    config[ROUND] = request.round_num
    if request.final:
        config[FINAL] = True
    return RecordDict({ARRAYS: encode_arrays(request.weights), CONFIG: config})


def decode_evaluate_request(content: RecordDict) -> EvaluateRequest:
    """The decoded request; names and shapes of the weights are not checked."""
    config = take_config(content, ARRAYS)
    scale, round_num, final = decode_scale(config), decode_round(config), config.get(FINAL, False)
    if not isinstance(final, bool):
        raise ValueError("the server's message is invalid: its final is neither true nor false")
    return EvaluateRequest(decode_weights(content), round_num, scale, final)


def encode_evaluate_reply(reply: EvaluateReply) -> RecordDict:
    """The reply to `EVALUATE`."""
    histograms = {METRICS: reply.tested, VALIDATION: reply.validation}
    return RecordDict({key: _encode_histogram(each) for key, each in histograms.items() if each is not None})


def decode_evaluate_reply(content: RecordDict) -> EvaluateReply:
    """The decoded histograms; number of bins, signs and sums are not checked."""
    keys = (METRICS, VALIDATION) if VALIDATION in content else (METRICS,)
    return EvaluateReply(*map(_decode_histogram, take_records(content, dict.fromkeys(keys, MetricRecord))))


def _encode_histogram(histogram: Histogram) -> MetricRecord:
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
    keys = (NUM_EXAMPLES, POSITIVES, NEGATIVES, LOG_LOSS, SQUARED_ERROR)
    values: list[Any] = [record.get(key) for key in keys]
    if len(record) != len(keys) or None in values:
        raise ValueError(f"a histogram must have exactly the keys {', '.join(keys)}")
    num_examples, positives, negatives, *sums = values
    if type(num_examples) is not int:
        raise ValueError(f"its {NUM_EXAMPLES} is not an integer")
    if not all(type(each) is float and math.isfinite(each) for each in sums):
        raise ValueError("the sum of log loss or of squared error is not finite")
    return Histogram(num_examples, _decode_bins(positives), _decode_bins(negatives), *sums)


def _decode_bins(values: object) -> NDArray[np.int64]:
    bins = np.asarray(values)
    if bins.ndim != 1 or bins.dtype.kind != "i":
        raise ValueError("a bin is not a count of patients")
    return bins
