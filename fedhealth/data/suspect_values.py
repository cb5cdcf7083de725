"""Numbers inside the valid range that may stand for a missing value, such as 99 for a heart rate that was not measured."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.data.schema import Schema

USUAL_CODES = (7, 8, 9, 77, 88, 99)
"""What coding manuals take for "refused", "does not apply" and "not known" in columns of one and two digits."""
FAR, FAR_FOR_A_USUAL_CODE = 4.0, 1.5
"""Standard deviations between a value and the mean of all others. With these there is no warning about the four UCI
hospitals, and one about at most 2 in 100 random samples of 17 to 150 of their patients."""
FEWEST, LEAST_SHARE = 3, 0.05
"""Patients with the value, and their share of those whose value is known."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio."""
SHOWN_FROM = 5
"""Patients from which on the value is printed: the default of `client.py --min-count`."""


def find_suspect_values(schema: Schema, values: pd.DataFrame) -> list[str]:
    """One warning for each value that many patients share and that is far from all other values of its column."""
    return [
        describe_suspect(name, value, count, len(values))
        for name in (column.name for column in schema.numbers if not column.codes)
        if name in values
        for value, count in find_suspects(values[name].to_numpy(dtype=np.float64))
    ]


def find_suspects(column: NDArray[np.float64]) -> list[tuple[float, int]]:
    """(value, number of patients) of every suspect value of a column; NaN = missing."""
    known = column[~np.isnan(column)]
    least = math.ceil(max(FEWEST, LEAST_SHARE * len(known)))
    if not may_share(known, least):
        return []
    values, counts = np.unique(known, return_counts=True)
    shared = zip(values[counts >= least].tolist(), counts[counts >= least].tolist(), strict=True)
    return [(value, count) for value, count in shared if is_far(value, known[known != value])]


def may_share(known: NDArray[np.float64], least: int) -> bool:
    """Whether `least` numbers may be equal; usually not, which costs a tenth of the time that sorting takes.

    Equal numbers have equal hashes (Knuth, The Art of Computer Programming, volume 3, section 6.4: Fibonacci hashing).
    """
    hashes = (known + 0.0).view(np.uint64) * GOLDEN >> np.uint64(54)  # -0 becomes 0
    return bool((np.bincount(hashes.view(np.int64)) >= least).any())


def is_far(value: float, others: NDArray[np.float64]) -> bool:
    """Whether a value is too far from the others to be one of them; 0 is a measurement (no ST depression)."""
    if value == 0 or len(others) < FEWEST or not others.std():
        return False
    distance = abs(value - others.mean()) / others.std()
    return bool(distance >= (FAR_FOR_A_USUAL_CODE if value in USUAL_CODES else FAR))


def describe_suspect(name: str, value: float, count: int, total: int) -> str:
    """The warning; it prints the value only if so many patients have it that it discloses none of them."""
    what = f"{value:g} stands" if count >= SHOWN_FROM else "one value stands"
    return (
        f"{name}: {what} in {count} of {total} rows, far from all others; if it means that the value is not known, "
        "leave these cells empty"
    )
