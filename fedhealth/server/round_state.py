"""The state of a run after the training and after the evaluation of a round."""

from dataclasses import replace

from flwr.app import ArrayRecord

from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.model_selection import find_best
from fedhealth.server.participation import Roster
from fedhealth.server.records import Evaluation, RoundRecord


def add_training(before: Checkpoint, record: RoundRecord, weights: ArrayRecord, roster: Roster) -> Checkpoint:
    """The state after the training of a round: its new weights, and its record without metrics."""
    return replace(
        before,
        round_num=record.round_num,
        weights=weights,
        strikes=dict(roster.strikes),
        dropped=dict(roster.dropped),
        histograms={},
        validation_histograms={},
        unevaluated=record,
    )


def add_evaluation(checkpoint: Checkpoint, evaluation: Evaluation, roster: Roster, patience: int) -> Checkpoint:
    """The state after the evaluation of the round of this checkpoint."""
    return replace(
        checkpoint,
        strikes=dict(roster.strikes),
        dropped=dict(roster.dropped),
        histograms=evaluation.tested,
        validation_histograms=evaluation.validation,
        best=find_best(checkpoint.best, evaluation, checkpoint.weights) if patience else None,
        unevaluated=None,
    )
