"""Predicted risks: the usual threshold, and log odds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

USUAL_THRESHOLD = 0.5
"""A patient is predicted positive from this risk on, unless a run has chosen another."""
SMALLEST_RISK = 1e-7
"""Risks are clipped to [1e-7, 1 - 1e-7] before a logarithm is taken, as Keras does in the log loss."""


def log_odds(risks: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Risks -> log odds in float64, of the same shape."""
    clipped = np.clip(risks.astype(np.float64), SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.log(clipped) - np.log1p(-clipped)
