"""Model selection on validation patients, who are used neither for training nor for testing.

Early stopping, the best round, calibration and the threshold; all computed from histograms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from flwr.app import ArrayRecord
from msgspec import structs
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_array
from fedhealth.common.risk import USUAL_THRESHOLD
from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.bins import BIN_LOG_ODDS
from fedhealth.metrics.clinical import youden_threshold
from fedhealth.metrics.histogram import ScoreHistogram, compute_metrics
from fedhealth.metrics.many_histograms import ManyHistograms
from fedhealth.metrics.many_rows import ManyRows
from fedhealth.models.recalibration import fit_temperature, temperature_scale, undo_class_weights
from fedhealth.server.checkpoints import Best, Checkpoint
from fedhealth.server.records import (
    Evaluation,
    Histograms,
    ModelSelection,
    PooledMetrics,
    Rates,
    RatesByHospital,
    RoundRecord,
    pool,
)
from fedhealth.transport.protocol.fields import encode_arrays

Evaluate = Callable[[ArrayRecord, RoundRecord], Evaluation]
"""(weights, record of the round that they come from) -> the hospitals' evaluation of these weights."""
Change = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]


@dataclass(frozen=True)
class FinalModel:
    """The final weights, their evaluation, and how they were selected (None if they are those of the last round)."""

    weights: ArrayRecord
    evaluation: Evaluation
    choices: ModelSelection | None = None


def find_best(best: Best | None, evaluation: Evaluation, weights: ArrayRecord) -> Best | None:
    """The best round so far, given the evaluation of a new round and its weights.

    A round without an evaluation, or without any hospital in common with the best round's, is ignored.
    """
    losses = sum_losses(evaluation.validation)
    if not losses or (best and not losses.keys() & best.losses.keys()):
        return best
    if best is None or is_lower(losses, best.losses):
        return Best(evaluation.record.round_num, weights, losses)
    return replace(best, rounds_since=best.rounds_since + 1)


def sum_losses(histograms: Histograms) -> dict[str, float]:
    """Hospital -> log loss (nats) summed over its patients, in the order of names."""
    if isinstance(histograms, ManyHistograms):
        return dict(sorted(histograms.losses().items()))
    return {name: histogram.log_loss for name, histogram in sorted(histograms.items())}


def is_lower(losses: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Whether the summed loss is lower, over the hospitals that evaluated both times."""
    both = sorted(losses.keys() & before.keys())
    return sum(losses[name] for name in both) < sum(before[name] for name in both)


def is_enough(best: Best | None, patience: int) -> bool:
    """Whether `patience` is exhausted, so that the rounds end."""
    return best is not None and 0 < patience <= best.rounds_since


def could_be_enough(best: Best | None, patience: int) -> bool:
    """Whether the next evaluation could exhaust `patience`."""
    return best is not None and 0 < patience <= best.rounds_since + 1


def choose_final_model(
    evaluate: Evaluate, settings: FederationSettings, checkpoint: Checkpoint, rounds: Sequence[RoundRecord]
) -> FinalModel:
    """The final model; `evaluate` is called if its weights differ from those of every evaluated round."""
    best = checkpoint.best
    weights, round_num = (best.weights, best.round_num) if best else (checkpoint.weights, checkpoint.round_num)
    weights = correct_weights(weights, checkpoint.class_weights)
    evaluation = Evaluation(rounds[round_num - 1], checkpoint.histograms, checkpoint.validation_histograms)
    if not settings.validation_share and not settings.class_weights:
        return FinalModel(weights, evaluation)
    if round_num != checkpoint.round_num or not evaluation.tested:
        evaluation = evaluate(weights, evaluation.record)
    choices = ModelSelection(
        best_round=best.round_num if best else None,
        stopped=is_enough(best, settings.patience),
        class_weights=checkpoint.class_weights,
        evaluation=evaluation.record,
    )
    final = FinalModel(weights, evaluation, choices)
    if settings.calibrate == "temperature":
        final = calibrate(evaluate, weights, evaluation, choices)
    return choose_threshold(final) if settings.threshold == "youden" else final


def calibrate(evaluate: Evaluate, weights: ArrayRecord, before: Evaluation, choices: ModelSelection) -> FinalModel:
    """The model scaled by one temperature, fitted to the validation patients of all hospitals."""
    held = pool(before.validation)
    temperature = fit_temperature(held.positives, held.negatives, BIN_LOG_ODDS)
    scaled = change_weights(weights, partial(temperature_scale, temperature=temperature))
    after = evaluate(scaled, before.record)
    uncalibrated = PooledMetrics(before.record.pooled, before.record.validation)
    choices = structs.replace(choices, evaluation=after.record, temperature=temperature, uncalibrated=uncalibrated)
    return FinalModel(scaled, after, choices)


def choose_threshold(final: FinalModel) -> FinalModel:
    """The same model with the threshold that maximises Youden's index on the validation patients."""
    found = youden_threshold(pool(final.evaluation.validation))
    threshold = USUAL_THRESHOLD if found is None else found
    at_threshold = measure_rates(final.evaluation.tested, threshold)
    choices = final.choices and structs.replace(final.choices, threshold=threshold, at_threshold=at_threshold)
    return replace(final, choices=choices)


def measure_rates(tested: Histograms, threshold: float) -> RatesByHospital:
    """Accuracy, sensitivity and specificity on the test patients at a threshold."""

    def rates(histogram: ScoreHistogram) -> Rates:
        metrics = compute_metrics(histogram, threshold)
        return Rates(metrics.accuracy, metrics.sensitivity, metrics.specificity)

    if isinstance(tested, ManyHistograms):
        columns = tested.metrics(threshold).columns
        kept = {name: columns[name] for name in Rates.__struct_fields__}
        return RatesByHospital(rates(pool(tested)), ManyRows(list(tested), kept, Rates))
    by_hospital = {name: rates(histogram) for name, histogram in tested.items()}
    return RatesByHospital(rates(pool(tested)), by_hospital)


def correct_weights(weights: ArrayRecord, class_weights: tuple[float, float] | None) -> ArrayRecord:
    """The weights, corrected if the model was trained with class weights, so that risks are calibrated to the prevalence."""
    return change_weights(weights, partial(undo_class_weights, used=class_weights)) if class_weights else weights


def change_weights(weights: ArrayRecord, change: Change) -> ArrayRecord:
    """The same weights after `change`, under the same names."""
    changed = change([read_array(array) for array in weights.values()])
    return encode_arrays(dict(zip(weights, changed, strict=True)))
