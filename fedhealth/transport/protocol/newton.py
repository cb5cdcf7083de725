"""Newton's method: the train request with the coefficients in float64, and the reply with sums over patients.

The records are those of `training`; only their arrays have other names. The coefficients are those of the inputs, then
the intercept. The Hessian is sent as its upper triangle, row by row. `FIT_SUMS` is the same request after the last round;
its reply also has the outer products of the patients' scores, summed and packed like the Hessian.
"""

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fedhealth.transport.protocol.fields import Weights, encode_arrays

COEFFICIENTS, GRADIENT, HESSIAN, PRODUCTS = "coefficients", "gradient", "hessian", "score-products"
FIT_SUMS = "query.fit_sums"


def encode_coefficients(coefficients: NDArray[np.float64]) -> ArrayRecord:
    """The arrays of a request."""
    return encode_arrays({COEFFICIENTS: coefficients})


def take_coefficients(weights: Weights, size: int) -> NDArray[np.float64]:
    """The decoded arrays of a request; raises a `ValueError` unless they are `size` coefficients in float64."""
    found = weights.get(COEFFICIENTS)
    if found is None or len(weights) > 1 or found.dtype != np.float64 or found.shape != (size,):
        raise ValueError("the server's weights are invalid: they are not the coefficients of this model")
    return found


def reply_arrays(size: int, *, final: bool = False) -> ArrayRecord:
    """Arrays with the names, types and shapes of a reply for `size` coefficients, in a round or to `FIT_SUMS` (`final`)."""
    triangle = size * (size + 1) // 2
    shapes = {GRADIENT: size, HESSIAN: triangle, **({PRODUCTS: triangle} if final else {})}
    return ArrayRecord({name: Array(np.zeros(shape)) for name, shape in shapes.items()})
