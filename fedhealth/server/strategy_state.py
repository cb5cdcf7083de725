"""The state of a strategy between rounds as named arrays, for a checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_array

ARRAY = (np.ndarray, np.generic)
"""NumPy turns an array without dimensions into a scalar when it computes with it."""
Arrays = dict[str, NDArray[Any]]


def take_state(strategy: Strategy) -> tuple[dict[str, str], Arrays]:
    """A strategy's state between rounds: the kind of each attribute, and the arrays of all of them.

    The state of Flower's strategies is in attributes that are None before the first round, and then arrays, lists or
    dictionaries of arrays, or an `ArrayRecord`; all other attributes are settings.
    """
    kinds, arrays = {}, dict[str, NDArray[Any]]()
    for name, value in vars(strategy).items():
        prefix = f"strategy/{name}"
        if isinstance(value, ARRAY):
            kinds[name], arrays[prefix] = "array", np.asarray(value)
        elif isinstance(value, ArrayRecord):
            kinds[name] = "record"
            arrays |= {f"{prefix}/{key}": read_array(array) for key, array in value.items()}
        elif isinstance(value, list) and value and all(isinstance(item, ARRAY) for item in value):
            kinds[name] = "list"
            arrays |= {f"{prefix}/{number:06}": np.asarray(item) for number, item in enumerate(value)}
        elif isinstance(value, dict) and value and all(isinstance(item, ARRAY) for item in value.values()):
            kinds[name] = "dict"
            arrays |= {f"{prefix}/{key}": np.asarray(item) for key, item in value.items()}
    return kinds, arrays


def give_state(strategy: Strategy, kinds: Mapping[str, str], arrays: Arrays) -> None:
    """Restore in a new strategy the state that `take_state` returned."""
    for name, kind in kinds.items():
        if name not in vars(strategy):
            raise ValueError(f"{type(strategy).__name__} has no attribute {name}")
        prefix = f"strategy/{name}/"
        parts = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        match kind:
            case "array":
                value: Any = arrays[prefix.removesuffix("/")]
            case "record":
                value = ArrayRecord({key: Array(part) for key, part in parts.items()})
            case "list":
                value = [parts[key] for key in sorted(parts)]
            case _:
                value = parts
        setattr(strategy, name, value)
