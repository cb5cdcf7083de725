"""AUROC from the risks themselves: inside a hospital and in studies. The risks are not sent."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def only_class(labels: ArrayLike) -> str:
    """`ill` or `healthy` if all of these patients are; empty if there are both.

    A model trained on patients of one class has learned no ranking: its AUROC would be that of its initial weights.
    """
    ill = np.asarray(labels) > 0.5
    return "ill" if ill.all() else "" if ill.any() else "healthy"


def exact_auroc(risks: ArrayLike, labels: ArrayLike) -> float | None:
    """Share of (ill, healthy) pairs that are in order, ties counting half; None with one class."""
    value = float(row_aurocs(np.asarray(risks)[np.newaxis], np.asarray(labels))[0])
    return None if np.isnan(value) else value


def row_aurocs(risks: NDArray[np.floating], labels: NDArray[Any]) -> NDArray[np.float64]:
    """AUROC (num_rows,) of the same patients by each row of `risks` (num_rows, num_patients); NaN with one class.

    From the ranks of the ill, tied ones counting as their middle (Hanley & McNeil 1982).
    """
    order = np.argsort(risks, axis=1)
    values, places = np.take_along_axis(risks, order, axis=1), np.arange(risks.shape[1])
    same_as_before = np.diff(values, axis=1, prepend=np.nan) == 0
    same_as_after = np.diff(values, axis=1, append=np.nan) == 0
    first = np.maximum.accumulate(np.where(same_as_before, 0, places), axis=1)
    last = np.minimum.accumulate(np.where(same_as_after, len(places), places)[:, ::-1], axis=1)[:, ::-1]
    is_ill = labels > 0.5
    num_ill, num_healthy = int(is_ill.sum()), int((~is_ill).sum())
    ranks_of_ill = ((first + last) / 2 * is_ill[order]).sum(axis=1)
    if not num_ill * num_healthy:
        return np.full(len(risks), np.nan)
    aurocs: NDArray[np.float64] = (ranks_of_ill - num_ill * (num_ill - 1) / 2) / (num_ill * num_healthy)
    return aurocs


def weighted_auroc(risks: ArrayLike, labels: ArrayLike, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUROC (num_draws,) with each patient counted `weights` (num_draws, num_patients) times; NaN with one class."""
    values, marks = np.asarray(risks), np.asarray(labels)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-1.0))
    ill = np.add.reduceat(weights[:, order] * (marks[order] > 0.5), starts, axis=1)
    healthy = np.add.reduceat(weights[:, order] * (marks[order] < 0.5), starts, axis=1)
    below = np.cumsum(healthy, axis=1) - healthy / 2
    pairs = ill.sum(axis=1) * healthy.sum(axis=1)
    ordered = (ill * below).sum(axis=1)
    auroc: NDArray[np.float64] = np.divide(ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return auroc
