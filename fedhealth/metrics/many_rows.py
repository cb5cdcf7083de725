"""Values of very many hospitals, kept in columns: a tenth of the memory of an object for each hospital."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Row = TypeVar("Row")
ROWS_AT_ONCE = 4096
VERY_MANY = 2000
"""With more hospitals, files are compact, and the report has quantiles over hospitals instead of a line for each."""
Column = NDArray[np.float64] | NDArray[np.int64]


class ManyRows(Mapping[str, Row], Generic[Row]):
    """Hospital -> its row, made when it is asked for.

    Parameters
    ----------
    names : of the hospitals, each once.
    columns : name of a value -> the hospitals' values (num_hospitals,); NaN stands for None.
    make : a row of these values, given by name.
    """

    def __init__(self, names: Sequence[str], columns: Mapping[str, Column], make: Callable[..., Row]) -> None:
        self.columns = columns
        self._names = names
        self._make = make
        self._places: dict[str, int] = {}

    def __getitem__(self, name: str) -> Row:
        """The row of this hospital."""
        place = self._find_places()[name]
        return next(self._rows(place, place + 1))

    def __contains__(self, name: object) -> bool:
        """Whether there is a hospital of this name."""
        return name in self._find_places()

    def __iter__(self) -> Iterator[str]:
        """The names, in their order."""
        return iter(self._names)

    def __len__(self) -> int:
        """Number of hospitals."""
        return len(self._names)

    def _find_places(self) -> dict[str, int]:
        if not self._places:
            self._places = {each: place for place, each in enumerate(self._names)}
        return self._places

    def items(self) -> ItemsView[str, Row]:
        """(name, row) in the order of the names, without a look-up for each."""
        return _Items(self)

    def values(self) -> ValuesView[Row]:
        """The rows, as `rows` makes them."""
        return _Values(self)

    def rows(self) -> Iterator[Row]:
        """The rows, in the order of the names."""
        for first in range(0, len(self._names), ROWS_AT_ONCE):
            yield from self._rows(first, first + ROWS_AT_ONCE)

    def _rows(self, first: int, end: int) -> Iterator[Row]:
        lists = [_plain(column[first:end]) for column in self.columns.values()]
        for values in zip(*lists, strict=True):
            yield self._make(**dict(zip(self.columns, values, strict=True)))


class _Items(ItemsView[str, Row]):
    _mapping: ManyRows[Row]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        return zip(self._mapping, self._mapping.rows(), strict=True)


class _Values(ValuesView[Row]):
    _mapping: ManyRows[Row]

    def __iter__(self) -> Iterator[Row]:
        return self._mapping.rows()


def _plain(column: Column) -> list[int] | list[float | None]:
    """The values as Python's numbers; None instead of NaN."""
    values: list[int] | list[float | None] = column.tolist()
    if column.dtype.kind != "f" or not np.isnan(column).any():
        return values
    return [None if value != value else value for value in values]  # noqa: PLR0124  # only NaN differs from itself
