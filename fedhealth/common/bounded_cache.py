"""A cache of the least-recently-used kind, owned by an object."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """At most `size` values by key; a new one replaces the least recently used. Not thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        """Number of cached values."""
        return len(self._values)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`; calls `make` if it is not cached. An exception of `make` is not cached."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value
