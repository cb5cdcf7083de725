"""NumPy's generators for many seeds at a fifth of the time, bit for bit those of `numpy.random.default_rng`.

To seed a generator takes 15 to 25 microseconds, more than a hospital's training in a batch. Here the seeding (SeedSequence,
after O'Neill 2015, "Developing a seed_seq alternative") runs over all seeds in arrays, and one generator takes one state
after the other. What it draws is left to NumPy.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint32]
POOL = 4
"""Words of SeedSequence's pool; a seed may not have more."""
INIT_A, MULT_A, INIT_B, MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
MIX_LEFT, MIX_RIGHT, SHIFT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16)
PCG_MULT = 0x2360ED051FC65DA44385DF649FCCF645
ALL_128 = 2**128 - 1


def seeded_generators(start: Sequence[int], lasts: ArrayLike) -> Iterator[np.random.Generator]:
    """For each of `lasts` the generator `default_rng([*start, last])`; it is one object, whose state changes.

    All numbers are from 0 to 2^32 - 1, and `start` has three at most.
    """
    ends = np.asarray(lasts, dtype=np.uint32)
    words = [np.full_like(ends, number) for number in start] + [ends]
    generator = np.random.Generator(np.random.PCG64(0))
    numbers = {"state": 0, "inc": 0}
    whole = {"bit_generator": "PCG64", "state": numbers, "has_uint32": 0, "uinteger": 0}
    bits = generator.bit_generator
    for seed, step in _pcg_seeds(words + [np.zeros_like(ends)] * (POOL - len(words))):
        increment = (step << 1 | 1) & ALL_128
        numbers["inc"] = increment
        numbers["state"] = ((increment + seed) * PCG_MULT + increment) & ALL_128
        bits.state = whole
        yield generator


def _pcg_seeds(words: Sequence[Words]) -> Iterator[tuple[int, int]]:
    """The two numbers of 128 bits with which SeedSequence seeds PCG64, for each seed of `POOL` words."""
    constants = _hash_constants(INIT_A, MULT_A)
    pool = [_hash(word, *next(constants)) for word in words]
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                pool[target] = _mix(pool[target], _hash(pool[source], *next(constants)))
    constants = _hash_constants(INIT_B, MULT_B)
    drawn = [_hash(pool[place % POOL], *next(constants)).astype(np.uint64) for place in range(2 * POOL)]
    halves = [(drawn[place] | drawn[place + 1] << np.uint64(32)).tolist() for place in range(0, 2 * POOL, 2)]
    for high, low, high_step, low_step in zip(*halves, strict=True):
        yield high << 64 | low, high_step << 64 | low_step


def _hash_constants(first: int, factor: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    """The two constants of each hash in turn."""
    while True:
        following = first * factor & 0xFFFFFFFF
        yield np.uint32(first), np.uint32(following)
        first = following


def _hash(words: Words, before: np.uint32, after: np.uint32) -> Words:
    mixed: Words = (words ^ before) * after
    return mixed ^ mixed >> SHIFT


def _mix(one: Words, other: Words) -> Words:
    mixed: Words = MIX_LEFT * one - MIX_RIGHT * other
    return mixed ^ mixed >> SHIFT
