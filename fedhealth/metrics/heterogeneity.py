"""Whether the hospitals differ in an effect: a score test of the interaction of hospital and feature, from their sums.

The score test compares the gradients that the hospitals have at the common optimum, where only their sum is 0. It needs no
fit with interactions, and of the hospitals no more than gradient and Hessian.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
SMALLEST_EIGENVALUE = 1e-8
"""Of a matrix with a diagonal of 1: less is rounding, so that the direction has no information."""
SMALLEST_SHARE = 1e-10
"""Of the largest entry of a diagonal: less is rounding, so that the column is constant."""


def score_test(gradients: Doubles, hessians: Doubles, places: Sequence[int]) -> tuple[float, int]:
    """The statistic and the degrees of freedom of the test that the coefficients at `places` are the same everywhere.

    Rao 1948, "Large sample tests of statistical hypotheses concerning several parameters", section 4; where the gradients do
    not add up to 0, because of a penalty, the C(alpha) statistic of Neyman 1959, to which it then is equal. Under the
    hypothesis the statistic has a chi-squared distribution with these degrees of freedom, if the hospitals are large.

    Parameters
    ----------
    gradients : (num_hospitals, num_coefficients) of the summed log loss at the common optimum.
    hessians : (num_hospitals, num_coefficients, num_coefficients).
    """
    known = _invert(hessians.sum(axis=0))
    own = hessians[:, places]
    blocks = own.reshape(-1, hessians.shape[-1])
    expected = blocks @ known @ gradients.sum(axis=0)
    scores = gradients[:, places].ravel() - expected
    information = -blocks @ known @ blocks.T
    width = len(places)
    for number, block in enumerate(own):
        at = slice(number * width, (number + 1) * width)
        information[at, at] += block[:, places]
    eigenvalues, vectors, scale = _decompose(information, like=np.abs(own[:, range(width), places]).ravel())
    used = eigenvalues > SMALLEST_EIGENVALUE
    projected = vectors[:, used].T @ (scale * scores)
    return float((projected**2 / eigenvalues[used]).sum()), int(used.sum())


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """The probability that a chi-squared variable is larger; 1 without a degree of freedom.

    The upper incomplete gamma function by its recurrence (Abramowitz & Stegun 1964, 6.5.22 and 26.4.4-26.4.5).
    """
    if degrees == 0 or statistic <= 0:
        return 1.0
    half = statistic / 2
    shape, tail = (1.0, math.exp(-half)) if degrees % 2 == 0 else (0.5, math.erfc(math.sqrt(half)))
    while shape < degrees / 2:
        tail += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(tail, 1.0)


def _invert(matrix: Doubles) -> Doubles:
    """The inverse on the directions that have information."""
    eigenvalues, vectors, scale = _decompose(matrix, like=np.diag(matrix))
    used = eigenvalues > SMALLEST_EIGENVALUE
    half = scale[:, np.newaxis] * vectors[:, used]
    inverse: Doubles = half / eigenvalues[used] @ half.T
    return inverse


def _decompose(matrix: Doubles, like: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Eigenvalues and vectors of a symmetric matrix whose rows and columns were multiplied by the scale that is returned.

    The scale gives a matrix with the diagonal `like` a diagonal of 1.
    """
    least = SMALLEST_SHARE * max(float(like.max(initial=0.0)), np.finfo(float).tiny)
    scale = np.where(like > least, 1 / np.sqrt(np.maximum(like, least)), 0.0)
    eigenvalues, vectors = np.linalg.eigh(scale[:, np.newaxis] * (matrix + matrix.T) / 2 * scale)
    return eigenvalues, vectors, scale
