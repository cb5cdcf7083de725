"""Recalibration of a trained model's log odds by an intercept or a temperature.

Both are applied to the weights of the last layer (kernel, bias), so the shapes of the model do not change.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERCEPT_PRIOR = 0.3
"""Precision of the normal prior on a hospital's intercept: mean 0, standard deviation 1.8 log odds."""
PREVALENCE_PRIOR = 100.0
"""Weight, in patients, of the prior that a new hospital's prevalence is the training prevalence. Chosen by leave-one-out over
the training hospitals; without a prior the estimate runs to 0 or 1, and the log loss is worse than without correction."""
MOST_STEPS = 50
MOST_ITERATIONS = 1000
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4), 161))
"""The temperatures that are tried: 0.25 to 4 in steps of 1.7 %."""


def fit_intercept(
    log_odds: NDArray[np.floating], labels: NDArray[np.floating], prior: float = INTERCEPT_PRIOR
) -> float:
    """The posterior mode of an intercept added to `log_odds` (num_patients,), by Newton's method.

    The prior keeps it finite if all patients are ill, and small if there are few patients.
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
    """The temperature with the smallest log loss on a histogram (counts per bin, log odds of the bins); 1 if it is empty.

    Guo et al. 2017, "On calibration of modern neural networks", section 4.2; here from binned counts instead of scores.
    """
    if not positives.sum() + negatives.sum():
        return 1.0
    scaled = log_odds[np.newaxis] / TEMPERATURES[:, np.newaxis]
    losses = (positives * np.logaddexp(0, -scaled) + negatives * np.logaddexp(0, scaled)).sum(axis=1)
    return float(TEMPERATURES[int(np.argmin(losses))])


def fit_prevalence(
    log_odds: NDArray[np.floating], trained: float, prior: float = PREVALENCE_PRIOR
) -> tuple[float, float]:
    """The prevalence among patients, estimated from their `log_odds` (num_patients,) without labels.

    Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities", section
    2.2 (EM), here with a Beta prior at the training prevalence `trained` that weighs as much as `prior` patients. Valid
    if, given the label, the features have the same distribution here as in training.

    Returns
    -------
    The prevalence, and the shift of all log odds that adapts risks to it.
    """
    base, prevalence = np.log(trained / (1 - trained)), trained
    for _ in range(MOST_ITERATIONS):
        move = float(np.log(prevalence / (1 - prevalence)) - base)
        risks = 1 / (1 + np.exp(-(np.asarray(log_odds, dtype=np.float64) + move)))
        before, prevalence = prevalence, float(risks.sum() + prior * trained) / (len(risks) + prior)
        if abs(prevalence - before) < 1e-9:
            break
    return prevalence, float(np.log(prevalence / (1 - prevalence)) - base)


def class_weights(num_healthy: int, num_ill: int) -> tuple[float, float]:
    """Weights (healthy, ill) that balance the classes, with mean weight 1; both 1 if a class is missing.

    Counts are summed over the federation: with its own counts, each hospital would train for another prevalence.
    """
    if not num_healthy or not num_ill:
        return 1.0, 1.0
    total = num_healthy + num_ill
    return total / (2 * num_healthy), total / (2 * num_ill)


def undo_class_weights(weights: Sequence[NDArray[np.float32]], used: tuple[float, float]) -> list[NDArray[np.float32]]:
    """The model with its log odds shifted back to the true prevalence (Elkan 2001, theorem 2)."""
    return shift_log_odds(weights, by=float(np.log(used[0] / used[1])))


def shift_log_odds(weights: Sequence[NDArray[np.float32]], by: float) -> list[NDArray[np.float32]]:
    """The same model with `by` added to every log odds."""
    return [*weights[:-1], (weights[-1] + by).astype(np.float32)]


def temperature_scale(weights: Sequence[NDArray[np.float32]], temperature: float) -> list[NDArray[np.float32]]:
    """The same model with every log odds divided by `temperature`."""
    return [*weights[:-2], *((weight / temperature).astype(np.float32) for weight in weights[-2:])]
