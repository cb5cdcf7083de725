"""Training: the request with the global weights, and the reply with the local ones.

Flower's strategies build the request from the global weights and the config of `encode_train_config`, and add the round
number and FedProx's mu. `encode_train_request` makes the same message without a strategy.

A request may also ask for the evaluation of the global weights, which are those of the round before; the reply then has the
records of an evaluate reply, too.
"""

import math
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedhealth.transport.protocol.evaluation import BINS, TESTED, VALIDATION, EvaluateReply, encode_evaluate_reply
from fedhealth.transport.protocol.fields import (
    ARRAYS,
    CONFIG,
    METRICS,
    NUM_EXAMPLES,
    ROUND,
    Scale,
    Weights,
    decode_arrays,
    decode_round,
    decode_scale,
    decode_weights,
    encode_arrays,
    encode_scale,
    is_number,
    take_config,
    take_records,
)
from fedhealth.transport.records import fill

TRAIN = "train"
EVALUATES = "evaluates"
CORRECTION = "correction"
CLASS_WEIGHTS, PROXIMAL_MU = "class-weights", "proximal-mu"
TRAIN_LOSS = "train-loss"
LARGEST_MU = 100.0
"""Largest valid mu of FedProx."""
SMALLEST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT = 0.5, 1e4
"""Weights that balance the classes are never smaller, and larger only if fewer than 1 patient in 20,000 is of a class."""


@dataclass(frozen=True, eq=False)
class TrainRequest:
    """The global weights and the parameters of local training."""

    weights: Weights
    round_num: int
    """From 1."""
    scale: Scale | None = None
    """None if each hospital has its own."""
    class_weights: tuple[float, float] | None = None
    """Weights of a healthy and an ill patient in the loss; None: both 1."""
    proximal_mu: float = 0.0
    """FedProx's mu; 0: no proximal term."""
    correction: Weights | None = None
    """SCAFFOLD's correction c - c_i, which is added to every gradient."""
    evaluates: bool = False
    """Whether the reply should include the evaluation of the global weights, corrected for the class weights."""


@dataclass(frozen=True, eq=False)
class TrainReply:
    """The local weights; the loss is None under differential privacy."""

    weights: Weights
    num_examples: int
    train_loss: float | None = None


def encode_train_config(scale: Scale | None, class_weights: tuple[float, float] | None = None) -> ConfigRecord:
    """The config of a train request without the round number and FedProx's mu, which the strategy adds."""
    weighed = {CLASS_WEIGHTS: list(class_weights)} if class_weights else {}
    return ConfigRecord({**encode_scale(scale), **weighed})


def with_evaluation(config: ConfigRecord) -> ConfigRecord:
    """A copy of the config of a train request that also asks for the evaluation of the global weights."""
    return fill(ConfigRecord(), {**config, EVALUATES: True})


def encode_train_request(request: TrainRequest) -> RecordDict:
    """The request `TRAIN`."""
    config = encode_train_config(request.scale, request.class_weights)
    if request.proximal_mu:
        config[PROXIMAL_MU] = request.proximal_mu
    if request.evaluates:
        config[EVALUATES] = True
    config[ROUND] = request.round_num
    content = RecordDict({ARRAYS: encode_arrays(request.weights), CONFIG: config})
    return content if request.correction is None else add_correction(content, request.correction)


def add_correction(content: RecordDict, correction: Weights) -> RecordDict:
    """A copy of the train request `content` with SCAFFOLD's correction."""
    return RecordDict({**content, CORRECTION: encode_arrays(correction)})


def decode_train_request(content: RecordDict) -> TrainRequest:
    """The decoded request; names and shapes of the weights are not checked."""
    config = take_config(content, ARRAYS, CORRECTION)
    if not isinstance(evaluates := config.get(EVALUATES, False), bool):
        raise ValueError(f"the server's message is invalid: its {EVALUATES} is neither true nor false")
    return TrainRequest(
        scale=decode_scale(config),
        round_num=decode_round(config),
        weights=decode_weights(content),
        proximal_mu=_decode_proximal_mu(config),
        correction=decode_weights(content, CORRECTION) if CORRECTION in content else None,
        class_weights=_decode_class_weights(config),
        evaluates=evaluates,
    )


def encode_train_reply(reply: TrainReply) -> RecordDict:
    """The reply to `TRAIN`."""
    loss = {} if reply.train_loss is None else {TRAIN_LOSS: float(reply.train_loss)}
    metrics = fill(MetricRecord(), {NUM_EXAMPLES: reply.num_examples, **loss})
    return fill(RecordDict(), {ARRAYS: encode_arrays(reply.weights), METRICS: metrics})


def add_evaluation(content: RecordDict, evaluated: EvaluateReply) -> RecordDict:
    """A copy of the train reply `content` with the evaluation of the global weights."""
    return fill(RecordDict(), {**content, **encode_evaluate_reply(evaluated)})


def split_train_reply(content: RecordDict) -> tuple[RecordDict, RecordDict | None]:
    """The records of the training, and those of the evaluation (None if there are none), not checked."""
    keys = content.keys() & {TESTED, VALIDATION, BINS}
    trained = fill(RecordDict(), {key: record for key, record in content.items() if key not in keys})
    return trained, fill(RecordDict(), {key: content[key] for key in content if key in keys}) if keys else None


def decode_train_reply(content: RecordDict) -> TrainReply:
    """Finite weights of any name and shape, an integer number of patients, and a finite loss or None."""
    arrays, metrics = take_records(content, {ARRAYS: ArrayRecord, METRICS: MetricRecord})
    num_examples, loss = metrics.get(NUM_EXAMPLES), metrics.get(TRAIN_LOSS)
    if set(metrics) - {NUM_EXAMPLES, TRAIN_LOSS} or type(num_examples) is not int:
        raise ValueError(f"it must send exactly an integer {NUM_EXAMPLES} and, without privacy, {TRAIN_LOSS}")
    if loss is not None and not (type(loss) is float and math.isfinite(loss)):
        raise ValueError("its training loss is not finite")
    return TrainReply(decode_arrays(arrays), num_examples, loss)


def _decode_proximal_mu(config: ConfigRecord) -> float:
    proximal_mu: Any = config.get(PROXIMAL_MU, 0.0)
    if not is_number(proximal_mu, 0, LARGEST_MU):
        raise ValueError(f"the server's proximal-mu is invalid: a number from 0 to {LARGEST_MU:g} is needed")
    return float(proximal_mu)


def _decode_class_weights(config: ConfigRecord) -> tuple[float, float] | None:
    if CLASS_WEIGHTS not in config:
        return None
    values, low, high = config[CLASS_WEIGHTS], SMALLEST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT
    if not isinstance(values, list) or len(values) != 2 or not all(is_number(value, low, high) for value in values):
        raise ValueError(f"the server's class-weights are invalid: two numbers from {low:g} to {high:g} are needed")
    return float(values[0]), float(values[1])
