"""Keras' seeded initial weights without TensorFlow: `keras.initializers.GlorotUniform(seed)` of the TensorFlow backend.

TensorFlow draws from Philox 4x32 with ten rounds (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1,
2, 3"), whose key and counter come from the seed.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""Numbers of 32 bits, in 64 so that products fit."""
MULTIPLIERS, KEY_STEPS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
SEEDING_KEY = (0x3EC8F720, 0x02461E29)
LARGEST_SEED = 2**31 - 2
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
FRACTION, ONE = np.uint32(0x7FFFFF), np.uint32(127 << 23)


def glorot_uniform(num_inputs: int, num_outputs: int, seed: int) -> NDArray[np.float32]:
    """A kernel (num_inputs, num_outputs): Glorot and Bengio 2010, equation 16."""
    size = num_inputs * num_outputs
    limit = np.float32(np.sqrt(3 / ((num_inputs + num_outputs) / 2)))
    uniform: NDArray[np.float32] = draw_uniform(size, seed) * (limit - -limit) - limit
    return uniform.reshape(num_inputs, num_outputs)


def draw_uniform(size: int, seed: int) -> NDArray[np.float32]:
    """The first numbers from 0 to below 1 of `tf.random.stateless_uniform` with the seed (`seed`, 0), shape (size,)."""
    counter = np.array([[seed % LARGEST_SEED], [0], [0], [0]], dtype=np.uint64)
    mixed = _philox(counter, SEEDING_KEY)[:, 0]
    blocks = -(-size // 4)
    places, rest = np.arange(blocks, dtype=np.uint64), np.ones(blocks, dtype=np.uint64)
    counters = np.stack([places, 0 * rest, mixed[2] * rest, mixed[3] * rest])
    words = _philox(counters, (int(mixed[0]), int(mixed[1]))).T.reshape(-1)[:size].astype(np.uint32)
    return (words & FRACTION | ONE).view(np.float32) - np.float32(1)


def _philox(counters: Words, key: tuple[int, int]) -> Words:
    """Four random words for each counter: (4, num_counters) -> the same shape."""
    first, second = key
    one, two, three, four = counters
    for _ in range(10):
        left, right = one * np.uint64(MULTIPLIERS[0]), three * np.uint64(MULTIPLIERS[1])
        one, two, three, four = (
            (right >> HALF) ^ two ^ np.uint64(first),
            right & LOW,
            (left >> HALF) ^ four ^ np.uint64(second),
            left & LOW,
        )
        first, second = (first + KEY_STEPS[0]) & 0xFFFFFFFF, (second + KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([one, two, three, four])
