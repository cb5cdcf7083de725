"""A hospital's part in Newton's method: sums over its training patients, and what must hold before they are sent."""

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fedhealth.client.local_model import read_request, require_finite
from fedhealth.client.participation import Participation
from fedhealth.common.errors import RunError
from fedhealth.models.newton_sums import PATIENT_INFORMATION, eliminate_intercept, pack_hessian, sum_newton
from fedhealth.transport.protocol import training
from fedhealth.transport.protocol.newton import GRADIENT, HESSIAN, take_coefficients

NAMED = 3
"""Number of columns, or pairs of columns, that a refusal names: a server shows the first 200 characters."""


def require_disclosable(part: Participation) -> None:
    """Raise a `RunError` that names the columns if a sum would rest on fewer than `min_count` patients.

    At coefficients of 0 the Hessian is a quarter of the counts of patients by code and by pair of codes, and the gradient
    counts the ill among them.
    """
    if part.settings.secure_aggregation:  # the server cannot read this hospital's sums
        return
    if small := part.small_cells:
        named = ", ".join(" with ".join(columns) for columns in small[:NAMED])
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        raise RunError(
            f"newton would disclose counts below --min-count {part.min_count} ({named}{more}); drop or merge such columns, "
            "lower --min-count here and at the server, or use another strategy"
        )


def train(part: Participation, content: RecordDict) -> RecordDict:
    """The mean loss, and gradient and Hessian summed over the training patients, at the global coefficients.

    With private intercepts, the hospital's own is eliminated from them.
    """
    require_disclosable(part)
    settings, patients = part.settings, part.split.train
    request = read_request(training.decode_train_request, content)
    inputs = part.model.prepare_exact(patients, part.standardisation(request.scale))
    log_odds = inputs @ _read_coefficients(request, inputs.shape[1])
    labels = patients.labels.astype(np.float64)
    weights = np.array(request.class_weights or (1.0, 1.0))[patients.labels.astype(int)]
    if settings.personalise == "intercept":
        precision = settings.intercept_prior * PATIENT_INFORMATION
        sums = eliminate_intercept(log_odds, inputs, labels, weights, precision)
    else:
        sums = sum_newton(log_odds, inputs, labels, weights)
    require_finite(*sums)
    arrays = {GRADIENT: sums.gradient, HESSIAN: pack_hessian(sums.hessian)}
    return training.encode_train_reply(training.TrainReply(arrays, len(patients), sums.loss / len(patients)))


def _read_coefficients(request: training.TrainRequest, size: int) -> NDArray[np.float64]:
    try:
        return take_coefficients(request.weights, size)
    except ValueError as error:
        raise RunError(str(error)) from None
