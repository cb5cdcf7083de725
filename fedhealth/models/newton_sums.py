"""Sums over patients for Newton's method on a logistic regression: loss, gradient and Hessian, in float64.

The coefficients are those of the inputs, then the intercept, which is that of a last input of ones.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedhealth.models.log_loss import log_losses, sigmoid

Doubles = NDArray[np.float64]
PATIENT_INFORMATION = 0.25
"""What one patient with a risk of 0.5 contributes to the information on an intercept: a prior of one patient's worth."""
MOST_STEPS = 200


class NewtonSums(NamedTuple):
    """Loss (nats), gradient (num_coefficients,) and Hessian (num_coefficients, num_coefficients), summed over patients."""

    loss: float
    gradient: Doubles
    hessian: Doubles


def with_ones(inputs: Doubles) -> Doubles:
    """The inputs (num_patients, num_inputs) with a last column of ones."""
    return np.column_stack([inputs, np.ones(len(inputs))])


def sum_newton(log_odds: Doubles, inputs: Doubles, labels: Doubles, patient_weights: Doubles) -> NewtonSums:
    """The sums of the weighted log loss at these log odds (num_patients,); `inputs` include the ones."""
    risks, losses = sigmoid(log_odds), log_losses(log_odds, labels)
    curvatures = patient_weights * risks * (1 - risks)
    return NewtonSums(
        float(losses @ patient_weights),
        inputs.T @ (patient_weights * (risks - labels)),
        inputs.T @ (curvatures[:, np.newaxis] * inputs),
    )


def fit_own_intercept(log_odds: Doubles, labels: Doubles, patient_weights: Doubles, precision: float) -> float:
    """The intercept that, added to `log_odds` (num_patients,), minimises weighted log loss + precision / 2 * intercept^2.

    Newton's method between bounds that always contain the minimum. With a precision of 0, all patients ill or all
    healthy, there is no minimum: the intercept ends at a bound.
    """
    intercept, high = 0.0, 30.0 + float(np.abs(log_odds).max())
    low = -high
    for _ in range(MOST_STEPS):
        risks = sigmoid(log_odds + intercept)
        slope = float((risks - labels) @ patient_weights) + precision * intercept
        low, high = (low, min(high, intercept)) if slope > 0 else (max(low, intercept), high)
        curvature = float((risks * (1 - risks)) @ patient_weights) + precision
        after = intercept - slope / curvature if curvature > 0 else low
        after = after if low <= after <= high else (low + high) / 2
        if abs(after - intercept) <= 1e-13 * max(1.0, abs(intercept)):
            return after
        intercept = after
    return intercept


def eliminate_intercept(
    log_odds: Doubles, inputs: Doubles, labels: Doubles, patient_weights: Doubles, precision: float
) -> NewtonSums:
    """The sums of the loss minimised over a private intercept, which is not in them.

    The intercept is fitted to the patients; the Hessian is the Schur complement of its row and column. Summed over
    hospitals they give the Newton step of the joint optimum over the coefficients and all private intercepts.
    """
    own = fit_own_intercept(log_odds, labels, patient_weights, precision)
    sums = sum_newton(log_odds + own, inputs, labels, patient_weights)
    cross = sums.hessian[-1]  # the private intercept multiplies the same ones as the common one
    hessian = sums.hessian - np.outer(cross, cross) / (cross[-1] + precision)
    return NewtonSums(sums.loss + precision / 2 * own**2, sums.gradient, (hessian + hessian.T) / 2)


def sum_score_products(
    log_odds: Doubles, inputs: Doubles, labels: Doubles, patient_weights: Doubles, precision: float | None = None
) -> Doubles:
    """The outer products of the patients' scores (num_coefficients, num_coefficients), summed over patients.

    They are the middle of the sandwich of robust standard errors (Huber 1967; White 1980, "A heteroskedasticity-consistent
    covariance matrix estimator", equation 3). With a precision, that of a private intercept's prior, each score is without
    its projection on the intercept's, so that the sandwich is the coefficients' part of that of coefficients and intercepts;
    the prior counts as one more score, with its precision as variance.
    """
    means = np.zeros(inputs.shape[1])
    if precision is not None:
        log_odds = log_odds + fit_own_intercept(log_odds, labels, patient_weights, precision)
        risks = sigmoid(log_odds)
        curvatures = patient_weights * risks * (1 - risks)
        means = curvatures @ inputs / (curvatures.sum() + precision)
    scores = (patient_weights * (sigmoid(log_odds) - labels))[:, np.newaxis] * (inputs - means)
    products: Doubles = scores.T @ scores + (precision or 0.0) * np.outer(means, means)
    return products


def pack_hessian(hessian: Doubles) -> Doubles:
    """The upper triangle of a symmetric matrix, row by row."""
    return hessian[np.triu_indices(len(hessian))]


def unpack_hessian(packed: Doubles, size: int) -> Doubles:
    """The symmetric matrix (size, size) of which `pack_hessian` packed the upper triangle."""
    hessian = np.zeros((size, size))
    hessian[np.triu_indices(size)] = packed
    return hessian + np.triu(hessian, 1).T
