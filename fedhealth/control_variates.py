"""SCAFFOLD's control variates: the direction in which a hospital drifts, so that it can be taken out of its steps.

Karimireddy et al. 2020, "SCAFFOLD: stochastic controlled averaging for federated learning", algorithm 1, option II.
Whoever knows the weights that a hospital got and gave back can compute its new variate, so it need not travel.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Weights = Sequence[NDArray[np.float32]]


def count_steps(num_patients: int, batch_size: int, num_epochs: int) -> int:
    """Gradient steps of one round."""
    return num_epochs * -(-num_patients // batch_size)


def control_change(
    shared: Weights, sent: Weights, trained: Weights, steps: int, learning_rate: float
) -> list[NDArray[np.float32]]:
    """How a hospital's variate changes in a round: c_i' - c_i = (x - y) / (K * eta) - c.

    Parameters
    ----------
    shared : the federation's variate c.
    sent, trained : global weights x and local weights y.
    """
    scale = np.float32(1 / (steps * learning_rate))
    return [(before - after) * scale - mean for before, after, mean in zip(sent, trained, shared, strict=True)]
