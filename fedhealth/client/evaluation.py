"""The evaluation of weights in one hospital: histograms of predicted risk, for the test and the validation patients."""

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.local_model import require_risks
from fedhealth.client.participation import Participation
from fedhealth.common.errors import RunError
from fedhealth.data.patients import Patients
from fedhealth.metrics.histogram import score_histogram
from fedhealth.models.local_training import Weights
from fedhealth.models.recalibration import undo_class_weights
from fedhealth.transport.protocol import evaluation, training
from fedhealth.transport.protocol.fields import Scale

Risks = NDArray[np.float32]


def try_to_evaluate(
    part: Participation, request: training.TrainRequest, weights: Weights, risks: Risks | None
) -> evaluation.EvaluateReply | None:
    """The evaluation of the weights of a train request, corrected for its class weights.

    `risks` are those of the test patients, if they are known. None if the evaluation fails: the training goes on, and the
    server asks for the evaluation alone, to which an error is the reply.
    """
    corrected = undo_class_weights(weights, request.class_weights) if request.class_weights else weights
    try:
        return count_risks(part, corrected, request.scale, risks)
    except RunError:
        return None


def count_risks(
    part: Participation, weights: Weights, scale: Scale | None, risks: Risks | None = None
) -> evaluation.EvaluateReply:
    """The histograms under these weights; `risks` are those of the test patients, if they are known."""
    standardisation, split = part.standardisation(scale), part.split

    def count(patients: Patients, risks: Risks | None) -> evaluation.Histogram:
        if risks is None:
            risks = part.model.predict(weights, patients, standardisation)
        histogram = score_histogram(require_risks(risks), patients.labels)
        return evaluation.Histogram(histogram.num_examples, **vars(histogram))

    held = split.validation
    return evaluation.EvaluateReply(count(split.test, risks), count(held, None) if held else None)
