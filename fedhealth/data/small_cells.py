"""Cells of the cross-tables of one hospital's patients that hold too few of them to be disclosed."""

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.patients import Patients
from fedhealth.data.schema import Column, Schema


def find_small_cells(
    schema: Schema, patients: Patients, min_count: int, *, missing_indicators: bool = True
) -> list[tuple[str, ...]]:
    """The columns, and pairs of columns, with a cell of at least one and fewer than `min_count` patients.

    The cells of a category are its codes and "missing", those of a number "known" and, if the model has indicators of
    missing values, "missing": without them a missing number adds 0 to every sum. The outcome has two. A pair of columns that
    contains a column which is listed itself is left out.
    """
    names = [*schema.feature_names, schema.outcome.name]
    columns = [
        _levels(column, patients.features[:, place], missing_indicators) for place, column in enumerate(schema.features)
    ]
    columns.append(np.stack([patients.labels == 0, patients.labels == 1], axis=1))
    levels = np.hstack(columns).astype(np.float64)
    counts = levels.T @ levels  # exact: they are far below 2^53
    small = (counts > 0) & (counts < min_count)
    starts = np.cumsum([0, *(each.shape[1] for each in columns[:-1])])
    table = np.logical_or.reduceat(np.logical_or.reduceat(small, starts, axis=0), starts, axis=1)
    single = np.diag(table).copy()
    table[single] = table[:, single] = False
    pairs = zip(*np.nonzero(np.triu(table)), strict=True)
    return [(names[place],) for place in np.flatnonzero(single)] + [(names[one], names[other]) for one, other in pairs]


def _levels(column: Column, values: NDArray[np.float64], missing_indicators: bool) -> NDArray[np.bool_]:
    """Which patient has which level of a column (num_patients, num_levels)."""
    missing = np.isnan(values)[:, np.newaxis]
    if column.is_number:
        return np.hstack([~missing, missing]) if missing_indicators else ~missing
    return np.hstack([values[:, np.newaxis] == np.array(list(column.codes)), missing])
