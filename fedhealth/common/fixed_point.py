"""Real numbers as whole numbers, so that a sum is the same in any order, in the clear and under masks modulo 2^64."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCALE = 2.0**32
"""A weight counts in steps of 2^-32."""
LIMIT = 128.0
"""A weight from here on is refused: its sum could be too large for 64 bits."""
MOST_EXAMPLES = 2**24
"""A sum of 64 bits has room for the weights of fewer patients than this."""
REAL_WORDS = 3
"""Words of a real number: its whole part, and two words of 32 bits behind the point."""
REAL_LIMIT = 2.0**55
"""A real number from here on is refused: 64 bits have room for the sum of 256 such numbers."""
HALF = 2.0**32


def weigh(values: NDArray[Any], num_examples: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """`rint(values * SCALE) * num_examples`, same shape; the values must be within `LIMIT`."""
    product = np.multiply(values, SCALE, dtype=np.float64)
    whole: NDArray[np.int64] = np.rint(product, out=product if product.ndim else None).astype(np.int64)
    whole *= num_examples
    return whole


def weighted_mean(sums: NDArray[np.int64], num_examples: int) -> NDArray[np.float64]:
    """The mean of values whose sum over all examples is `sums`, which `weigh` has made; within 2^-33 of the real one."""
    mean: NDArray[np.float64] = (sums // num_examples + sums % num_examples / num_examples) / SCALE
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
