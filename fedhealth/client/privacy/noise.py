"""Unpredictable noise for differential privacy.

It is seeded by the operating system, never by the federation's seed: whoever knows the noise can subtract it.
"""

import secrets
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class NoiseSource:
    """A hospital's own source of noise; a `seed` makes it reproducible, for tests and studies on public data only."""

    def __init__(self, seed: int | Sequence[int] | None = None) -> None:
        self._generator = np.random.default_rng(seed)
        self._below: Callable[[int], int] = secrets.randbelow if seed is None else self._seeded_below

    def gaussian(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Independent standard normals."""
        return self._generator.standard_normal(shape, dtype=np.float32)

    def choose(self, num_patients: int, share: float) -> NDArray[np.int32]:
        """Indices of sampled patients: each independently with probability `share` (Poisson sampling)."""
        return np.flatnonzero(self._generator.random(num_patients) < share).astype(np.int32)

    def discrete_laplace(self, epsilon: float) -> int:
        """An integer k with probability proportional to exp(-epsilon |k|), sampled exactly, without floating point.

        Canonne, Kamath & Steinke 2020, "The discrete Gaussian for differential privacy", algorithm 2. A count plus this
        noise is epsilon-differentially private (Ghosh, Roughgarden & Sundararajan 2009); the low bits of floating-point
        noise would disclose the count (Mironov 2012). `epsilon` is rounded down to a multiple of 2**-20, which adds
        noise.
        """
        top, bottom = max(1, int(epsilon * 2**20)), 2**20  # epsilon = top / bottom
        while True:
            start = self._below(bottom)
            if not self._bernoulli_exp(start, bottom):
                continue
            whole = 0
            while self._bernoulli_exp(1, 1):
                whole += 1
            size, negative = (start + bottom * whole) // top, bool(self._below(2))
            if size or not negative:
                return -size if negative else size

    def _bernoulli_exp(self, top: int, bottom: int) -> bool:
        """True with probability exp(-top / bottom), for 0 <= top <= bottom (algorithm 1 of the same paper)."""
        place = 1
        while self._below(bottom * place) < top:
            place += 1
        return place % 2 == 1

    def _seeded_below(self, limit: int) -> int:
        return int(self._generator.integers(limit))
