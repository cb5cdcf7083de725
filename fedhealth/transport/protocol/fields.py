"""Parts that several messages share: records, weights, standardisation and round number.

A decoder raises only `ValueError`. For a reply, its text says what is wrong with what the hospital sent; for a request,
it names the server's value and contains no other values than bounds, so a hospital may send it to the server.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedhealth.common.array_codec import make_array, read_arrays
from fedhealth.data.schema import LARGEST_NUMBER
from fedhealth.transport.records import fill

Weights = Mapping[str, NDArray[Any]]
"""Weights by name, in the model's order; decoded ones are read-only views of the message's bytes."""

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
ROUND, NUM_EXAMPLES = "server-round", "num-examples"
MEANS, STDS = "means", "stds"
SMALLEST_STD = 1e-6
"""In the feature's unit; `data.preprocessing` returns no smaller standard deviation."""
NO_MEANS = "the server's means are invalid: there are none"
"""The error for a request without a standardisation, if the hospital needs one."""
UNREADABLE = (ValueError, TypeError, KeyError, EOFError, OSError, OverflowError)
"""Exceptions that reading an untrusted array may raise."""


@dataclass(frozen=True)
class Scale:
    """Means and standard deviations of the numeric features, in the order of `Schema.numbers` and their units."""

    means: tuple[float, ...]
    stds: tuple[float, ...]


def action(message_type: str) -> str:
    """A query's name in a `ClientApp`: `describe` for the message type `query.describe`."""
    return message_type.removeprefix("query.")


# --- replies ----------------------------------------------------------------------------------------------------------


def take_records(
    content: RecordDict, kinds: Mapping[str, type[ArrayRecord | ConfigRecord | MetricRecord]]
) -> list[Any]:
    """The records of these names and kinds; raises a `ValueError` if there are others or one is missing."""
    records = [content.get(key) for key in kinds]
    if len(content) != len(kinds) or not all(map(isinstance, records, kinds.values())):
        raise ValueError(f"it sent {list_names(content)} instead of {' and '.join(kinds)}")
    return records


def list_names(names: Iterable[str]) -> str:
    """The names separated by commas, or "nothing"."""
    return ", ".join(names) or "nothing"


def take_counts(record: MetricRecord, keys: Sequence[str]) -> list[int]:
    """Integers of any sign under exactly these keys."""
    counts: list[Any] = [record.get(key) for key in keys]
    if len(record) != len(keys) or not is_list(counts, int):
        raise ValueError(f"it must send exactly the integers {', '.join(keys)}")
    return counts


def is_list(values: object, kind: type) -> bool:
    """Whether `values` is a list with elements of exactly this type; a bool is not an int here."""
    return isinstance(values, list) and all(type(value) is kind for value in values)


def encode_arrays(weights: Weights) -> ArrayRecord:
    """Weights as Flower's record."""
    return fill(ArrayRecord(), {name: make_array(values) for name, values in weights.items()})


def decode_arrays(record: ArrayRecord, whose: str = "its") -> dict[str, NDArray[Any]]:
    """Weights by name; raises a `ValueError` if they cannot be read or are not finite."""
    try:
        weights = read_arrays(record)
    except UNREADABLE:
        raise ValueError(f"{whose} weights are invalid: they cannot be read") from None
    if not all(each.dtype.kind in "fiu" and _are_finite(each) for each in weights.values()):
        raise ValueError(f"{whose} weights are invalid: not all are finite")
    return weights


def _are_finite(values: NDArray[Any]) -> bool:
    """Whether all are finite, without an array of answers: NaN is the least and the largest of any values."""
    return values.size == 0 or bool(np.isfinite(values.min()) and np.isfinite(values.max()))


# --- requests ---------------------------------------------------------------------------------------------------------


def encode_scale(scale: Scale | None) -> dict[str, Any]:
    """The standardisation as values of a config; empty if each hospital has its own."""
    return {MEANS: list(scale.means), STDS: list(scale.stds)} if scale else {}


def decode_scale(config: ConfigRecord) -> Scale | None:
    """The standardisation of a config; None if it has none."""
    if MEANS not in config and STDS not in config:
        return None
    scale = Scale(decode_means(config), _decode_numbers(config, STDS, SMALLEST_STD))
    if len(scale.means) != len(scale.stds):
        raise ValueError(f"the server's {STDS} are invalid: {len(scale.means)} numbers are needed")
    return scale


def decode_means(config: ConfigRecord) -> tuple[float, ...]:
    """The federation's means of the numeric features."""
    return _decode_numbers(config, MEANS, -LARGEST_NUMBER)


def take_config(content: RecordDict, *others: str) -> ConfigRecord:
    """The config of a request, which may have the records `others` besides it."""
    config = content.get(CONFIG)
    if not isinstance(config, ConfigRecord):
        raise ValueError("the server's message is invalid: it has no config")
    if set(content) - {CONFIG, *others}:
        raise ValueError("the server's message is invalid: it has unexpected records")
    return config


def decode_weights(content: RecordDict, key: str = ARRAYS) -> dict[str, NDArray[Any]]:
    """A request's weights by name; raises a `ValueError` if they cannot be read or are not finite."""
    record = content.get(key)
    if not isinstance(record, ArrayRecord):
        raise ValueError("the server's weights are invalid: they are not those of this model")
    return decode_arrays(record, "the server's")


def decode_round(config: ConfigRecord) -> int:
    """The round number of a request, from 1."""
    round_num = config.get(ROUND)
    if type(round_num) is not int or not 1 <= round_num < 2**31:
        raise ValueError("the server's message is invalid: it has no round number")
    return round_num


def find_round(content: RecordDict) -> int:
    """The round number of any message; 0 if it has none."""
    config = content.get(CONFIG)
    round_num = config.get(ROUND) if isinstance(config, ConfigRecord) else None
    return round_num if type(round_num) is int else 0


def is_number(value: object, low: float, high: float) -> bool:
    """Whether `value` is an int or a float from `low` to `high`; False for NaN and bool."""
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]


def _decode_numbers(config: ConfigRecord, key: str, smallest: float) -> tuple[float, ...]:
    """Values from `smallest` to `LARGEST_NUMBER`; whether there is one for each number of the schema is not checked."""
    values: Any = config.get(key)
    if not isinstance(values, list):
        raise ValueError(f"the server's {key} are invalid: they are no list of numbers")
    if not all(is_number(value, smallest, LARGEST_NUMBER) for value in values):
        raise ValueError(f"the server's {key} are invalid: not all are numbers from {smallest:g} to {LARGEST_NUMBER:g}")
    return tuple(map(float, values))
