"""What the server sends, checked before a hospital uses it; `replies.py` is the same at the other end.

Each fault is a `RunError`, whose text goes back to the server: it quotes nothing that the server did not say itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_array
from fedhealth.common.errors import RunError
from fedhealth.data.preprocessing import NUM_NUMBERS, SMALLEST_STD, Standardisation

LARGEST_NUMBER = 1e6
"""No mean and no deviation of a patient's numbers is larger, whatever the unit."""
LARGEST_PULL = 100.0
"""No pull of FedProx is stronger."""
SMALLEST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT = 0.5, 1e4
"""Weights that make both classes count alike are no smaller, and larger only if one patient in 20,000 is of a class."""
CORRECTION = "correction"
"""The record of a `train` message that holds SCAFFOLD's c - c_i."""
UNREADABLE = (ValueError, TypeError, KeyError, EOFError, OSError, OverflowError)
"""What reading another program's array may raise."""


def read_round(message: Message) -> int:
    """The 1-based round that a `train` or `evaluate` message is of."""
    round_num = read_config(message).get("server-round")
    if type(round_num) is not int or not 1 <= round_num < 2**31:
        raise RunError("the server's message makes no sense: it has no round number")
    return round_num


def read_means(message: Message) -> tuple[float, ...]:
    """The federation's means of the numbers, in `schema.NUMBERS` order."""
    return _read_numbers(message, "means", -LARGEST_NUMBER)


def read_standardisation(message: Message) -> Standardisation:
    """The federation's means and standard deviations."""
    return Standardisation(read_means(message), _read_numbers(message, "stds", SMALLEST_STD))


def read_weights(
    message: Message, shapes: Mapping[str, tuple[int, ...]], record: str = "arrays"
) -> list[NDArray[np.float32]]:
    """The global weights in the order of `shapes` (name -> shape), once they are known to be just that.

    `record` names another set of the same shapes.
    """
    arrays = message.content.get(record)
    if not isinstance(arrays, ArrayRecord) or set(arrays) != set(shapes):
        raise RunError("the server's weights make no sense: they are not those of this model")
    return [_read_weight(arrays[name], shape) for name, shape in shapes.items()]


def read_correction(message: Message, shapes: Mapping[str, tuple[int, ...]]) -> list[NDArray[np.float32]] | None:
    """What SCAFFOLD adds to every gradient, if the message asks for it."""
    return read_weights(message, shapes, CORRECTION) if CORRECTION in message.content else None


def read_proximal_mu(message: Message) -> float:
    """FedProx's pull back to the global weights; 0 for none."""
    proximal_mu = read_config(message).get("proximal-mu", 0.0)
    if type(proximal_mu) not in (int, float) or not 0 <= proximal_mu <= LARGEST_PULL:  # type: ignore[operator]
        raise RunError(f"the server's proximal-mu makes no sense: a number from 0 to {LARGEST_PULL:g} is needed")
    return float(proximal_mu)  # type: ignore[arg-type]


def read_class_weights(message: Message) -> tuple[float, float] | None:
    """How much a healthy and an ill patient count in training; None if that is not asked for."""
    if "class-weights" not in read_config(message):
        return None
    values: Any = read_config(message)["class-weights"]
    low, high = SMALLEST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT
    two = isinstance(values, list) and len(values) == 2
    if not two or not all(type(value) in (int, float) and low <= value <= high for value in values):
        raise RunError(f"the server's class-weights make no sense: two numbers from {low:g} to {high:g} are needed")
    return float(values[0]), float(values[1])


def read_threshold(message: Message) -> float | None:
    """The risk from which the final model calls a patient ill, if it was chosen."""
    threshold: Any = read_config(message).get("threshold")
    if threshold is not None and not (type(threshold) in (int, float) and 0 <= threshold <= 1):
        raise RunError("the server's threshold makes no sense: a number from 0 to 1 is needed")
    return None if threshold is None else float(threshold)


def read_config(message: Message) -> ConfigRecord:
    """The message's settings of this one question."""
    config = message.content.get("config")  # not `config_records`, which copies every record at every look
    if not isinstance(config, ConfigRecord):
        raise RunError("the server's message makes no sense: it has no config")
    return config


def _read_numbers(message: Message, key: str, smallest: float) -> tuple[float, ...]:
    """One value for each of `schema.NUMBERS`, from `smallest` to `LARGEST_NUMBER`."""
    values: Any = read_config(message).get(key)
    if not isinstance(values, list) or len(values) != NUM_NUMBERS:
        raise RunError(f"the server's {key} make no sense: {NUM_NUMBERS} numbers are needed")
    if not all(type(value) in (int, float) and smallest <= value <= LARGEST_NUMBER for value in values):
        raise RunError(f"the server's {key} make no sense: not all are numbers from {smallest:g} to {LARGEST_NUMBER:g}")
    return tuple(map(float, values))


def _read_weight(array: Array, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        values = read_array(array)
    except UNREADABLE:
        raise RunError("the server's weights make no sense: they cannot be read") from None
    if (values.dtype, values.shape) != (np.dtype(np.float32), shape):
        raise RunError("the server's weights make no sense: their types or shapes are not those of this model")
    if not np.all(np.isfinite(values)):
        raise RunError("the server's weights make no sense: not all are finite")
    return values
