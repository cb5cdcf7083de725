"""What several messages have in common: how records are taken from a message, weights, and the server's settings.

A decoder raises a `ValueError` and nothing else. Its text for a reply says what the hospital sent; its text for a request
names the server's value and quotes nothing but bounds, so a hospital may send it back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_arrays
from fedhealth.data.schema import NUMBERS

Weights = Mapping[str, NDArray[Any]]
"""Weights by name, in the model's order; decoded ones are read-only views of the message's bytes."""

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
ROUND, NUM_EXAMPLES = "server-round", "num-examples"
MEANS, STDS = "means", "stds"
LARGEST_NUMBER = 1e6
"""No mean and no deviation of a patient's numbers is larger, whatever the unit."""
SMALLEST_STD = 1e-6
"""In the number's unit; `data.preprocessing` gives no smaller deviation."""
NO_MEANS = f"the server's means make no sense: {len(NUMBERS)} numbers are needed"
"""The fault of a request without a standardisation, where the hospital needs one."""
UNREADABLE = (ValueError, TypeError, KeyError, EOFError, OSError, OverflowError)
"""What reading another program's array may raise."""


@dataclass(frozen=True)
class Scale:
    """Means and standard deviations of the numbers, in `schema.NUMBERS` order and their units."""

    means: tuple[float, ...]
    stds: tuple[float, ...]


def action(message_type: str) -> str:
    """The part of a query's message type that a `ClientApp` registers: `describe` of `query.describe`."""
    return message_type.removeprefix("query.")


# --- replies ----------------------------------------------------------------------------------------------------------


def take_records(
    content: RecordDict, kinds: Mapping[str, type[ArrayRecord | ConfigRecord | MetricRecord]]
) -> list[Any]:
    """The records of these names and kinds, which must be all that there are."""
    records = [content.get(key) for key in kinds]
    if len(content) != len(kinds) or not all(map(isinstance, records, kinds.values())):
        asked = f"{' and '.join(kinds)} {'was' if len(kinds) == 1 else 'were'}"
        raise ValueError(f"it sent {list_names(content)} where {asked} asked for")
    return records


def list_names(names: Iterable[str]) -> str:
    """Names in a line, or that there is none."""
    return ", ".join(names) or "nothing"


def take_counts(record: MetricRecord, keys: Sequence[str]) -> list[int]:
    """Whole numbers of any sign, which must be all that there are."""
    counts: list[Any] = [record.get(key) for key in keys]
    if len(record) != len(keys) or not is_list(counts, int):
        raise ValueError(f"it sent no whole numbers {', '.join(keys)}, or others beside them")
    return counts


def is_list(values: object, kind: type) -> bool:
    """Whether it is a list of this type only; bool is not int here."""
    return isinstance(values, list) and all(type(value) is kind for value in values)


def encode_arrays(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them."""
    return ArrayRecord({name: Array(values) for name, values in weights.items()})


def decode_arrays(record: ArrayRecord, whose: str = "its") -> dict[str, NDArray[Any]]:
    """Weights by name; all are finite numbers."""
    try:
        weights = read_arrays(record)
    except UNREADABLE:
        raise ValueError(f"{whose} weights make no sense: they cannot be read") from None
    if not all(each.dtype.kind in "fiu" and np.all(np.isfinite(each)) for each in weights.values()):
        raise ValueError(f"{whose} weights make no sense: not all are finite")
    return weights


# --- requests ---------------------------------------------------------------------------------------------------------


def encode_scale(scale: Scale | None) -> dict[str, Any]:
    """The standardisation as values of a config; nothing if each hospital has its own."""
    return {MEANS: list(scale.means), STDS: list(scale.stds)} if scale else {}


def decode_scale(config: ConfigRecord) -> Scale | None:
    """The standardisation of a config; None if it has none."""
    if MEANS not in config and STDS not in config:
        return None
    return Scale(decode_means(config), _decode_numbers(config, STDS, SMALLEST_STD))


def decode_means(config: ConfigRecord) -> tuple[float, ...]:
    """The federation's means of the numbers."""
    return _decode_numbers(config, MEANS, -LARGEST_NUMBER)


def take_config(content: RecordDict, *others: str) -> ConfigRecord:
    """The settings of this one request, which may hold the records `others` beside them."""
    config = content.get(CONFIG)
    if not isinstance(config, ConfigRecord):
        raise ValueError("the server's message makes no sense: it has no config")
    if set(content) - {CONFIG, *others}:
        raise ValueError("the server's message makes no sense: it has records that it should not have")
    return config


def decode_weights(content: RecordDict, key: str = ARRAYS) -> dict[str, NDArray[Any]]:
    """A request's weights by name; all are finite numbers."""
    record = content.get(key)
    if not isinstance(record, ArrayRecord):
        raise ValueError("the server's weights make no sense: they are not those of this model")
    return decode_arrays(record, "the server's")


def decode_round(config: ConfigRecord) -> int:
    """The round that a request belongs to, from 1."""
    round_num = config.get(ROUND)
    if type(round_num) is not int or not 1 <= round_num < 2**31:
        raise ValueError("the server's message makes no sense: it has no round number")
    return round_num


def find_round(content: RecordDict) -> int:
    """The round that any message names; 0 if it names none."""
    config = content.get(CONFIG)
    round_num = config.get(ROUND) if isinstance(config, ConfigRecord) else None
    return round_num if type(round_num) is int else 0


def is_number(value: object, low: float, high: float) -> bool:
    """Whether it is an int or a float from `low` to `high`; NaN and bool are not."""
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]


def _decode_numbers(config: ConfigRecord, key: str, smallest: float) -> tuple[float, ...]:
    """One value for each of `schema.NUMBERS`, from `smallest` to `LARGEST_NUMBER`."""
    values: Any = config.get(key)
    if not isinstance(values, list) or len(values) != len(NUMBERS):
        raise ValueError(f"the server's {key} make no sense: {len(NUMBERS)} numbers are needed")
    if not all(is_number(value, smallest, LARGEST_NUMBER) for value in values):
        raise ValueError(
            f"the server's {key} make no sense: not all are numbers from {smallest:g} to {LARGEST_NUMBER:g}"
        )
    return tuple(map(float, values))
