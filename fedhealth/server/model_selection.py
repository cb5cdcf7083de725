"""What a run chooses on validation patients, who are neither trained nor tested on.

When to stop, which round's weights to keep, and how to correct the risks that come of them; from histograms alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fedhealth.common.array_codec import read_array
from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.clinical import bin_log_odds, youden_threshold
from fedhealth.metrics.histogram import USUAL_THRESHOLD, add_histograms
from fedhealth.models.recalibration import fit_temperature, temperature_scale, undo_class_weights
from fedhealth.server.events import Best, Checkpoint, ModelSelection, RoundRecord

Evaluate = Callable[[ArrayRecord, RoundRecord], RoundRecord]
"""Lets the hospitals evaluate weights; gives the record of the round that they came of, with what they found."""
Change = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]


class StopRounds(Exception):  # noqa: N818  # as StopIteration: an end, no error
    """Ends the loop of Flower's strategy, which has no other way out; raised when a round is wholly told and kept."""


def find_best(best: Best | None, record: RoundRecord, weights: ArrayRecord) -> Best | None:
    """The best round so far, after the round of this record came to these weights.

    A round without an evaluation, or with nobody's who evaluated the best one, neither wins nor counts.
    """
    losses = {name: histogram.log_loss for name, histogram in sorted(record.validation_histograms.items())}
    if not losses or (best and not losses.keys() & best.losses.keys()):
        return best
    if best is None or is_lower(losses, best.losses):
        return Best(record.round_num, weights, losses)
    return replace(best, rounds_since=best.rounds_since + 1)


def is_lower(losses: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Whether the loss is lower, over those hospitals that evaluated both times: who is away must not decide it."""
    both = sorted(losses.keys() & before.keys())
    return sum(losses[name] for name in both) < sum(before[name] for name in both)


def is_enough(best: Best | None, patience: int) -> bool:
    """Whether the rounds end here."""
    return best is not None and 0 < patience <= best.rounds_since


def choose_final_model(
    evaluate: Evaluate, settings: FederationSettings, checkpoint: Checkpoint, rounds: Sequence[RoundRecord]
) -> tuple[ArrayRecord, ModelSelection | None]:
    """The weights to keep, and what was chosen, with the evaluation of just these weights."""
    best = checkpoint.best
    weights, round_num = (best.weights, best.round_num) if best else (checkpoint.weights, checkpoint.round_num)
    weights = correct_weights(weights, checkpoint.class_weights)
    if not settings.validation_share and not settings.class_weights:
        return weights, None
    record = rounds[round_num - 1]
    if not record.histograms:  # only the last round's are kept
        record = evaluate(weights, record)
    stopped = is_enough(best, settings.patience)
    choices = ModelSelection(record, best.round_num if best else None, stopped, checkpoint.class_weights)
    if settings.calibrate == "temperature":
        weights, choices = calibrate(evaluate, weights, choices)
    if settings.threshold == "youden":
        found = youden_threshold(add_histograms(choices.evaluation.validation_histograms.values()))
        choices = replace(choices, threshold=USUAL_THRESHOLD if found is None else found)
    return weights, choices


def calibrate(evaluate: Evaluate, weights: ArrayRecord, choices: ModelSelection) -> tuple[ArrayRecord, ModelSelection]:
    """The weights with one temperature for all hospitals, fitted to the validation patients of all of them."""
    before = choices.evaluation
    held = add_histograms(before.validation_histograms.values())
    temperature = fit_temperature(held.positives, held.negatives, bin_log_odds())
    softer = change_weights(weights, partial(temperature_scale, temperature=temperature))
    after = evaluate(softer, before)
    return softer, replace(choices, evaluation=after, temperature=temperature, uncalibrated=before)


def correct_weights(weights: ArrayRecord, class_weights: tuple[float, float] | None) -> ArrayRecord:
    """The weights whose risks mean what they say, of a model that was trained with class weights."""
    return change_weights(weights, partial(undo_class_weights, used=class_weights)) if class_weights else weights


def change_weights(weights: ArrayRecord, change: Change) -> ArrayRecord:
    """The same weights after `change`, under the same names."""
    changed = change([read_array(array) for array in weights.values()])
    return ArrayRecord({name: Array(values) for name, values in zip(weights, changed, strict=True)})
