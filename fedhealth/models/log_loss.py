"""Log loss and risk of log odds, in the type of the log odds."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


def log_losses(log_odds: NDArray[Float], labels: NDArray[Float]) -> NDArray[Float]:
    """Log loss (..., num_patients) in nats, without overflow for large log odds."""
    losses: NDArray[Float] = np.maximum(log_odds, 0) - log_odds * labels + np.log1p(np.exp(-np.abs(log_odds)))
    return losses


def sigmoid(log_odds: NDArray[Float]) -> NDArray[Float]:
    """Risks of these log odds, without overflow for large ones."""
    small = np.exp(-np.abs(log_odds))
    risks: NDArray[Float] = np.where(log_odds >= 0, 1, small) / (1 + small)
    return risks
