"""The limit on a hospital's update (--max-update-norm)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Named = Mapping[str, NDArray[Any]]
"""Weights by name."""


def clip_update(weights: Named, before: Named, longest: float) -> tuple[Named, float | None]:
    """Clip the update from the weights `before` to `weights` to an L2 norm of `longest` over all weights together.

    Returns
    -------
    The clipped weights, and the update's norm before clipping; None if it was not clipped.
    """
    steps = {name: values.astype(np.float64) - before[name] for name, values in weights.items()}
    norm = math.sqrt(sum(float(np.sum(step**2)) for step in steps.values()))
    if norm <= longest:
        return weights, None
    return {
        name: (before[name] + step * (longest / norm)).astype(before[name].dtype) for name, step in steps.items()
    }, norm
