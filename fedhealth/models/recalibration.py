"""Corrections of a trained model's log odds: one number that moves them, or one that stretches them.

Both live in the weights of the last layer (kernel, bias), so a corrected model is still a model of the same shape.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERCEPT_PRIOR = 0.3
"""Precision of the belief that a hospital needs no intercept of its own: a normal with standard deviation 1.8 log odds."""
PREVALENCE_BELIEF = 100.0
"""So many patients' worth of belief that a new hospital's prevalence is the federation's; found by leaving each training
hospital out in turn (log loss without any belief is worse than without the correction: the estimate then runs to 0 or 1)."""
MOST_STEPS = 50
MOST_ITERATIONS = 1000
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4), 161))
"""The temperatures that are tried: a quarter to four, each 1.7 % more than the last."""


def fit_intercept(
    log_odds: NDArray[np.floating], labels: NDArray[np.floating], prior: float = INTERCEPT_PRIOR
) -> float:
    """The most probable intercept on top of `log_odds` (num_patients,), by Newton's method.

    The prior keeps it finite in a hospital whose patients are all ill, and small in one with few patients.
    """
    intercept = 0.0
    for _ in range(MOST_STEPS):
        risks = 1 / (1 + np.exp(-(np.asarray(log_odds, dtype=np.float64) + intercept)))
        slope = float((risks - labels).sum()) + prior * intercept
        step = slope / (float((risks * (1 - risks)).sum()) + prior)
        intercept -= step
        if abs(step) < 1e-9:
            break
    return intercept


def fit_temperature(positives: NDArray[np.int64], negatives: NDArray[np.int64], log_odds: NDArray[np.float64]) -> float:
    """The temperature with the least log loss on a histogram (counts per bin, log odds of the bins); 1 for nobody.

    Guo et al. 2017, "On calibration of modern neural networks", section 4.2; here from summed bins, never from scores.
    """
    if not positives.sum() + negatives.sum():
        return 1.0
    scaled = log_odds[np.newaxis] / TEMPERATURES[:, np.newaxis]
    losses = (positives * np.logaddexp(0, -scaled) + negatives * np.logaddexp(0, scaled)).sum(axis=1)
    return float(TEMPERATURES[int(np.argmin(losses))])


def fit_prevalence(
    log_odds: NDArray[np.floating], trained: float, belief: float = PREVALENCE_BELIEF
) -> tuple[float, float]:
    """How many of some patients are ill, from their `log_odds` (num_patients,) alone: no label is needed.

    Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities", section 2.2
    (EM), here with a Beta prior at the prevalence `trained` of those the model learnt from. Right as far as the ill look
    alike here and there, and so do the healthy.

    Returns
    -------
    The prevalence, and what to add to every log odds so that risks fit it.
    """
    base, prevalence = np.log(trained / (1 - trained)), trained
    for _ in range(MOST_ITERATIONS):
        move = float(np.log(prevalence / (1 - prevalence)) - base)
        risks = 1 / (1 + np.exp(-(np.asarray(log_odds, dtype=np.float64) + move)))
        before, prevalence = prevalence, float(risks.sum() + belief * trained) / (len(risks) + belief)
        if abs(prevalence - before) < 1e-9:
            break
    return prevalence, float(np.log(prevalence / (1 - prevalence)) - base)


def class_weights(num_healthy: int, num_ill: int) -> tuple[float, float]:
    """Weights (healthy, ill) that make both classes count alike and the mean weight 1; both 1 if a class is missing.

    Counts are the federation's sums: with each hospital's own, each would train for another prevalence.
    """
    if not num_healthy or not num_ill:
        return 1.0, 1.0
    total = num_healthy + num_ill
    return total / (2 * num_healthy), total / (2 * num_ill)


def undo_class_weights(weights: Sequence[NDArray[np.float32]], used: tuple[float, float]) -> list[NDArray[np.float32]]:
    """The model with its log odds moved back to the true prevalence (Elkan 2001, theorem 2)."""
    return shift_log_odds(weights, by=float(np.log(used[0] / used[1])))


def shift_log_odds(weights: Sequence[NDArray[np.float32]], by: float) -> list[NDArray[np.float32]]:
    """The same model with `by` added to every log odds."""
    return [*weights[:-1], (weights[-1] + by).astype(np.float32)]


def temperature_scale(weights: Sequence[NDArray[np.float32]], temperature: float) -> list[NDArray[np.float32]]:
    """The same model with every log odds divided by `temperature`."""
    return [*weights[:-2], *((weight / temperature).astype(np.float32) for weight in weights[-2:])]
