"""Noise that nobody can foresee, for differential privacy.

It comes from the operating system and never from the federation's seed: who knows the noise can take it off again.
"""

import secrets
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class NoiseSource:
    """A hospital's own source of noise; a `seed` makes it repeatable, which is for studies on public data and tests only."""

    def __init__(self, seed: int | Sequence[int] | None = None) -> None:
        self._generator = np.random.default_rng(seed)
        self._below: Callable[[int], int] = secrets.randbelow if seed is None else self._seeded_below

    def gaussian(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Independent standard normals."""
        return self._generator.standard_normal(shape, dtype=np.float32)

    def choose(self, num_patients: int, share: float) -> NDArray[np.int32]:
        """Places of some of the patients: each is chosen with probability `share`, whoever else is (Poisson sampling)."""
        return np.flatnonzero(self._generator.random(num_patients) < share).astype(np.int32)

    def discrete_laplace(self, epsilon: float) -> int:
        """A whole number k with probability proportional to exp(-epsilon |k|), drawn exactly, without floating point.

        Canonne, Kamath & Steinke 2020, "The discrete Gaussian for differential privacy", algorithm 2. Added to a count,
        it makes that count epsilon-differentially private (Ghosh, Roughgarden & Sundararajan 2009); with floating-point
        noise the last bits would give it away (Mironov 2012). `epsilon` is rounded down to a multiple of 2**-20: more noise.
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
