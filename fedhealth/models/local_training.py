"""The arguments of every trainer: examples, orders and an objective. NumPy only; the Keras trainer is in `training.py`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.seeding import seeded_generators

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Examples:
    """Standardised inputs (num_patients, num_inputs) and labels (num_patients,) of some patients."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LocalObjective:
    """Changes to the plain log loss on a hospital's own patients."""

    proximal_mu: float = 0.0
    """Weight of the proximal term, mu / 2 * |w - w_start|^2 (FedProx: Li et al. 2020, equation 2)."""
    correction: Weights | None = None
    """Added to every gradient (SCAFFOLD: the federation's control variate minus the hospital's own)."""
    class_weights: tuple[float, float] = (1.0, 1.0)
    """Weight of a healthy and of an ill patient in the loss, the same in every hospital."""


@dataclass(frozen=True, eq=False)
class DpSgdBatches:
    """The steps of one call of the DP-SGD trainer.

    Attributes
    ----------
    batches : indices of the patients in each step's batch, which may be empty.
    noise : (num_steps, num_weights) standard normals.
    clip : clipping norm: the largest L2 norm of one patient's gradient.
    multiplier : noise multiplier: standard deviation of the noise on a sum of gradients, in units of `clip`.
    expected : expected batch size; sums are divided by it, whatever the batch's actual size.
    """

    batches: Sequence[NDArray[np.int32]]
    noise: NDArray[np.float32]
    clip: float
    multiplier: float
    expected: float


def split_first_layer(
    weights: Weights, inputs: NDArray[np.float32], places: Sequence[int]
) -> list[NDArray[np.float32]]:
    """What each feature adds to the first layer's sums: (..., num_units) for each of them.

    `inputs` are (..., num_inputs), `places` (num_inputs,) say from which feature each comes.
    """
    shape = (*inputs.shape[:-1], weights[0].shape[1])
    parts = [np.zeros(shape, dtype=np.float32) for _ in range(max(places) + 1)]
    for column, place in enumerate(places):  # not a matrix product, in which a row's rounding may depend on other rows
        parts[place] += inputs[..., column, np.newaxis] * weights[0][column]
    return parts


def finish_layers(weights: Weights, sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log odds (...,) from the first layer's sums (..., num_units), which are changed."""
    for place in range(2, len(weights), 2):
        sums = np.maximum(sums, 0, out=sums) @ weights[place] + weights[place + 1]
    return sums[..., 0]


def shuffled_orders(num_patients: int, num_epochs: int, seed: Sequence[int]) -> NDArray[np.int32]:
    """One random order of the patients per epoch (num_epochs, num_patients); the same `seed` gives the same orders."""
    generator = np.random.default_rng(list(seed))
    orders = [generator.permutation(num_patients) for _ in range(num_epochs)]
    return np.stack(orders).astype(np.int32)


def many_orders(
    num_patients: int, num_epochs: int, seed: Sequence[int], lasts: NDArray[np.uint32] | Sequence[int]
) -> NDArray[np.int32]:
    """Orders of hospitals of one size (num_hospitals, num_epochs, num_patients): `shuffled_orders` with [*seed, last]."""
    orders = np.empty((len(lasts), num_epochs, num_patients), dtype=np.int32)
    for place, generator in enumerate(seeded_generators(seed, lasts)):
        for epoch in range(num_epochs):
            orders[place, epoch] = generator.permutation(num_patients)
    return orders
