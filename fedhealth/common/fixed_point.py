"""Real numbers as whole numbers, so that a sum is the same in any order, in the clear and under masks modulo 2^64."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCALE = 2.0**32
"""A weight counts in steps of 2^-32."""
LIMIT = 128.0
"""A weight from here on is refused: its sum could be too large for 64 bits."""
SHIFT = 1.5 * 2.0**20
"""Added to a weight, it makes a number between 2^20 and 2^21; see `_shift`."""
SHIFT_BITS = int(np.float64(SHIFT).view(np.int64))
"""The bits of `SHIFT` as a whole number."""
MOST_EXAMPLES = 2**24
"""A sum of 64 bits has room for the weights of fewer patients than this."""
REAL_WORDS = 3
"""Words of a real number: its whole part, and two words of 32 bits behind the point."""
REAL_LIMIT = 2.0**55
"""A real number from here on is refused: 64 bits have room for the sum of 256 such numbers."""
HALF = 2.0**32


def weigh(values: NDArray[Any], num_examples: int) -> NDArray[np.int64]:
    """`rint(values * SCALE) * num_examples`, same shape; the values must be within `LIMIT`."""
    whole = _shift(values)
    whole -= SHIFT_BITS
    whole *= num_examples
    return whole


def add_shifted(sums: NDArray[np.int64], values: NDArray[Any], num_examples: int) -> None:
    """Add `weigh(values, num_examples)`, and `SHIFT_BITS` for each example, to `sums` modulo 2^64, which is faster."""
    whole = _shift(values)
    whole *= num_examples
    sums += whole


def add_all_shifted(sums: NDArray[np.int64], values: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """As `add_shifted`, of several at once: `values` are (num_sums, n), `counts` (num_sums,), `sums` (n,)."""
    whole = _shift(values)
    whole *= counts[:, np.newaxis]
    sums += whole.sum(axis=0)


def shift_back(sums: NDArray[np.int64], num_examples: int) -> NDArray[np.int64]:
    """The sums of `weigh` from those of `add_shifted`, over all examples."""
    shifted_by = SHIFT_BITS * num_examples % 2**64
    return (sums.view(np.uint64) - np.uint64(shifted_by)).view(np.int64)


def _shift(values: NDArray[Any]) -> NDArray[np.int64]:
    """`rint(values * SCALE) + SHIFT_BITS` without a conversion to whole numbers, which takes a third of the time of a sum.

    These are the bits of `values + SHIFT`: from 2^20 to 2^21 a float64 number and the next are 2^-32 apart, and a sum is
    rounded to the nearest one, a half to the even one, as `rint` does.
    """
    shifted = values.astype(np.float64)
    shifted += SHIFT
    return shifted.view(np.int64)


def weighted_mean(sums: NDArray[np.int64], num_examples: int) -> NDArray[np.float64]:
    """The mean of values whose sum over all examples is `sums`, which `weigh` has made; within 2^-33 of the real one."""
    whole = sums // num_examples
    mean: NDArray[np.float64] = (whole + (sums - whole * num_examples) / num_examples) / SCALE  # faster than `%`
    return mean


def split_reals(values: ArrayLike) -> NDArray[np.uint64]:
    """Real numbers (n,) as words (n, REAL_WORDS) modulo 2^64, to the nearest 2^-64; all words have the number's sign.

    Raises
    ------
    ValueError
        A number is not finite or too large.
    """
    reals = np.asarray(values, dtype=np.float64)
    if not np.all(np.abs(reals) < REAL_LIMIT):
        raise ValueError(f"a sum is not between -{REAL_LIMIT:g} and {REAL_LIMIT:g}")
    digits, whole = np.modf(reals)  # both with the number's sign, and exact
    rest, upper = np.modf(digits * HALF)
    lower = np.rint(rest * HALF)
    return np.stack([whole, upper, lower], axis=-1).astype(np.int64).view(np.uint64)


def join_reals(words: NDArray[np.uint64]) -> list[float]:
    """The real numbers of summed words (n, REAL_WORDS), each the nearest float to the exact sum."""
    signed = np.ascontiguousarray(words).view(np.int64).tolist()
    return [float(Fraction((whole << 64) + (upper << 32) + lower, 1 << 64)) for whole, upper, lower in signed]
