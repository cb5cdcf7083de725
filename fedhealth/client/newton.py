"""A hospital's part in Newton's method: sums over its training patients, and what must hold before they are sent."""

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fedhealth.client.local_model import read_request, require_finite
from fedhealth.client.participation import Participation
from fedhealth.common.errors import RunError
from fedhealth.models.local_training import Weights
from fedhealth.models.newton_sums import (
    PATIENT_INFORMATION,
    eliminate_intercept,
    pack_hessian,
    sum_newton,
    sum_score_products,
)
from fedhealth.transport.protocol import training
from fedhealth.transport.protocol.newton import GRADIENT, HESSIAN, PRODUCTS, take_coefficients

NAMED = 3
"""Number of columns, or pairs of columns, that a refusal names: a server shows the first 200 characters."""


def require_disclosable(part: Participation) -> None:
    """Raise a `RunError` that names the columns if a sum would rest on fewer than `min_count` patients.

    At coefficients of 0 the Hessian is a quarter of the counts of patients by code and by pair of codes, and the gradient
    counts the ill among them. Sums that the server never sees singly are not refused.
    """
    if not part.sums_are_masked and (small := part.small_cells):
        named = ", ".join(" with ".join(columns) for columns in small[:NAMED])
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        raise RunError(
            f"newton would disclose counts below --min-count {part.min_count} ({named}{more}); leave such columns out, use "
            "another strategy, or lower --min-count here and at the server"
        )


def sum_up(part: Participation, request: training.TrainRequest, *, final: bool = False) -> RecordDict:
    """The mean loss, and gradient and Hessian summed over the training patients, at the coefficients of the request.

    With private intercepts, the hospital's own is eliminated from them. `final`: also the outer products of the patients'
    scores, which disclose as much as the Hessian.
    """
    require_disclosable(part)
    settings, patients = part.settings, part.split.train
    inputs = part.model.prepare_exact(patients, part.standardisation(request.scale))
    log_odds = inputs @ _read_coefficients(request, inputs.shape[1])
    weights = np.array(request.class_weights or (1.0, 1.0))[patients.labels.astype(int)]
    rows = log_odds, inputs, patients.labels.astype(np.float64), weights
    precision = settings.intercept_prior * PATIENT_INFORMATION if settings.personalise == "intercept" else None
    sums = sum_newton(*rows) if precision is None else eliminate_intercept(*rows, precision)
    require_finite(*sums)
    arrays = {GRADIENT: sums.gradient, HESSIAN: pack_hessian(sums.hessian)}
    if final:
        arrays[PRODUCTS] = pack_hessian(sum_score_products(*rows, precision))
    return training.encode_train_reply(training.TrainReply(arrays, len(patients), sums.loss / len(patients)))


def fit_sums(part: Participation, content: RecordDict) -> RecordDict:
    """The sums at the final coefficients, for standard errors and for the comparison of hospitals."""
    if part.settings.strategy != "newton":
        raise RunError(
            "the server asks for the sums of an exact fit, which its own settings exclude (no --strategy newton)"
        )
    return sum_up(part, read_request(training.decode_train_request, content), final=True)


def to_weights(part: Participation, request: training.TrainRequest) -> Weights:
    """The coefficients of a request as the model's weights, which are those that the server evaluates."""
    shapes = list(part.model.shapes.values())
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = np.split(_read_coefficients(request, sum(sizes)), np.cumsum(sizes)[:-1])
    return [values.reshape(shape).astype(np.float32) for values, shape in zip(parts, shapes, strict=True)]


def _read_coefficients(request: training.TrainRequest, size: int) -> NDArray[np.float64]:
    try:
        return take_coefficients(request.weights, size)
    except ValueError as error:
        raise RunError(str(error)) from None
