"""Evaluation: the request with the weights, and the reply with score histograms.

Flower's strategies build the request from the weights and the config of `encode_evaluate_config`, and add the round
number. `encode_evaluate_request` makes the same message without a strategy.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedhealth.common.array_codec import make_array, read_array
from fedhealth.transport.protocol.fields import (
    ARRAYS,
    CONFIG,
    NUM_EXAMPLES,
    ROUND,
    UNREADABLE,
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
from fedhealth.transport.records import fill

EVALUATE = "evaluate"
FINAL = "final"
TESTED, VALIDATION = "tested", "validation"
BINS = "bins"
"""The counts of both histograms: arrays (2, number of bins), ill patients first, in the smallest type that holds them.

A `MetricRecord` would check every count for its type.
"""
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
    both = {TESTED: reply.tested, VALIDATION: reply.validation}
    sent = {key: each for key, each in both.items() if each is not None}
    bins = fill(ArrayRecord(), {key: make_array(_pack_bins(each)) for key, each in sent.items()})
    return fill(RecordDict(), {**{key: _encode_sums(each) for key, each in sent.items()}, BINS: bins})


def decode_evaluate_reply(content: RecordDict) -> EvaluateReply:
    """The decoded histograms; number of bins, signs and sums are not checked."""
    keys = (TESTED, VALIDATION) if VALIDATION in content else (TESTED,)
    *sums, bins = take_records(content, {**dict.fromkeys(keys, MetricRecord), BINS: ArrayRecord})
    if set(bins) != set(keys):
        raise ValueError(f"its {BINS} must be those of {' and '.join(keys)}")
    return EvaluateReply(*(_decode_histogram(each, bins[key]) for key, each in zip(keys, sums, strict=True)))


def _encode_sums(histogram: Histogram) -> MetricRecord:
    sums = {LOG_LOSS: float(histogram.log_loss), SQUARED_ERROR: float(histogram.squared_error)}
    return fill(MetricRecord(), {NUM_EXAMPLES: histogram.num_examples, **sums})


def _pack_bins(histogram: Histogram) -> NDArray[Any]:
    counts = np.stack([histogram.positives, histogram.negatives])
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def _decode_histogram(record: MetricRecord, bins: Array) -> Histogram:
    keys = (NUM_EXAMPLES, LOG_LOSS, SQUARED_ERROR)
    values: list[Any] = [record.get(key) for key in keys]
    if len(record) != len(keys) or None in values:
        raise ValueError(f"a histogram must have exactly the keys {', '.join(keys)}")
    num_examples, *sums = values
    if type(num_examples) is not int:
        raise ValueError(f"its {NUM_EXAMPLES} is not an integer")
    if not all(type(each) is float and math.isfinite(each) for each in sums):
        raise ValueError("the sum of log loss or of squared error is not finite")
    return Histogram(num_examples, *_decode_bins(bins), *sums)


def _decode_bins(array: Array) -> NDArray[np.int64]:
    """(2, number of bins); an unsigned count above the largest int64 becomes negative, which is refused later."""
    try:
        bins = read_array(array)
    except UNREADABLE:
        raise ValueError("its histogram cannot be read") from None
    if bins.ndim != 2 or len(bins) != 2 or bins.dtype.kind not in "iu":
        raise ValueError("a bin is not a count of patients")
    return bins.astype(np.int64)
