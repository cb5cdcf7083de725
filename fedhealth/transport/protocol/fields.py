"""What several messages have in common: how records are taken from a message, weights, and the server's settings.

A decoder raises a `ValueError` and nothing else. Its text for a reply says what the hospital sent; its text for a request
names the server's value and quotes nothing but bounds, so a hospital may send it back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_array
from fedhealth.data.schema import NUMBERS

Record = TypeVar("Record", ArrayRecord, ConfigRecord, MetricRecord)
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


def take_record(content: RecordDict, key: str, kind: type[Record]) -> Record:
    """The record of that name and kind, beside others."""
    record = content.get(key)
    if not isinstance(record, kind):
        raise ValueError(f"no {key!r}")
    return record


def take_only(content: RecordDict, kind: type[Record], *keys: str) -> list[Record]:
    """The records of these names, which must be the only ones of their kind."""
    records = {name: record for name, record in content.items() if isinstance(record, kind)}
    if set(records) != set(keys):
        raise ValueError(f"it sent {list_names(list(records))} where {_asked(keys)}")
    return [records[key] for key in keys]


def forbid_others(content: RecordDict, *keys: str) -> None:
    """Raise a `ValueError` if the reply has records beside these."""
    if set(content) - set(keys):
        raise ValueError(f"it sent {list_names(list(content))} where {_asked(keys)}")


def _asked(keys: Sequence[str]) -> str:
    return f"{' and '.join(keys)} {'was' if len(keys) == 1 else 'were'} asked for"


def list_names(names: list[str]) -> str:
    """Names in a line, or that there is none."""
    return ", ".join(names) or "nothing"


def take_count(record: MetricRecord, key: str) -> int:
    """A whole number of any sign."""
    if key not in record:
        raise ValueError(f"no {key!r}")
    if type(value := record[key]) is not int:
        raise ValueError(f"its {key} is no whole number")
    return value


def is_list(values: object, kind: type) -> bool:
    """Whether it is a list of this type only; bool is not int here."""
    return isinstance(values, list) and all(type(value) is kind for value in values)


def encode_arrays(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them."""
    return ArrayRecord({name: Array(values) for name, values in weights.items()})


def decode_arrays(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    """A reply's weights by name; all are finite numbers."""
    weights = {name: _read_numbers(array) for name, array in record.items()}
    if not all(np.all(np.isfinite(values)) for values in weights.values()):
        raise ValueError("its weights are not finite")
    return weights


def _read_numbers(array: Array) -> NDArray[Any]:
    try:
        values = read_array(array)
    except UNREADABLE as problem:
        raise ValueError(str(problem)) from None
    if values.dtype.kind not in "fiu" or (str(values.dtype), values.shape) != (array.dtype, tuple(array.shape)):
        raise ValueError("its weights are not what they say they are")
    return values


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
    try:
        weights = {name: _read_numbers(array) for name, array in record.items()}
    except ValueError:
        raise ValueError("the server's weights make no sense: they cannot be read") from None
    if not all(np.all(np.isfinite(values)) for values in weights.values()):
        raise ValueError("the server's weights make no sense: not all are finite")
    return weights


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
