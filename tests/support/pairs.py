"""The AUROC as it is defined, slowly enough to be trusted and fast enough for loops."""

import numpy as np
from numpy.typing import NDArray


def pairwise_auroc(labels: NDArray[np.float32], risks: NDArray[np.floating]) -> float:
    """Share of pairs of an ill and a healthy patient in which the ill one has the higher risk; ties count half."""
    ill, healthy = risks[labels > 0.5, np.newaxis], risks[labels <= 0.5]
    return float(np.mean((ill > healthy) + 0.5 * (ill == healthy)))
