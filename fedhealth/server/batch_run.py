"""A simulation whose hospitals compute in blocks, from its setup to its final model: what `app.federate` does over a grid."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp import Grid
from msgspec import structs
from numpy.typing import NDArray

from fedhealth.config.federation import FederationSettings
from fedhealth.data.schema import Schema
from fedhealth.metrics.many_histograms import join_columns
from fedhealth.metrics.many_subgroups import disclosed_rows
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance, combine_many_importance
from fedhealth.metrics.subgroups import Divisions, Subgroups
from fedhealth.server.admission import OPEN
from fedhealth.server.app import finalize_run, goes_on, keep_record, make_roster
from fedhealth.server.batch_rounds import BatchRounds, evaluate_batch
from fedhealth.server.batch_setup import BatchMembers, agree, describe_members
from fedhealth.server.beginning import to_scale
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.events import Dropped, Listeners, OnEvent, RunStarted
from fedhealth.server.participation import Roster
from fedhealth.server.records import Evaluation, RoundRecord, pooled_metrics
from fedhealth.server.reply_validation import TOO_FEW
from fedhealth.server.round_state import add_evaluation, add_training
from fedhealth.server.run_writer import RunWriter
from fedhealth.server.strategies.registry import make_strategy
from fedhealth.transport.process_calls import Calls
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.finalization import decode_final_request
from fedhealth.transport.protocol.training import TrainReply, encode_train_config


def federate_batch(
    calls: Calls, grid: Grid, settings: FederationSettings, schema: Schema, writer: RunWriter, *listeners: OnEvent
) -> None:
    """Run the federation of all hospitals that `calls` reaches; `grid` has one node, for Flower's strategies.

    Raises
    ------
    RunError
        Two hospitals have the same name, or too few can take part or train in a round.
    """
    inform, begun = Listeners(*listeners).inform, time.perf_counter()
    batch = describe_members(calls, settings)
    for name, reason in batch.left_out.items():
        inform(Dropped(name, reason))
    start = first_checkpoint(batch, settings, schema)
    dataset = "+".join(sorted({member.source for member in start.members}))
    started = RunStarted(settings, schema, start.members, dataset, left_out=start.left_out)
    writer.run_started(started)
    inform(started)
    roster = make_roster(settings, start, OPEN, inform, max_wait=0.0)
    rounds = BatchRounds(start, roster, batch)
    checkpoint, records = run_whole_rounds(grid, settings, start, rounds, roster, writer=writer, inform=inform)
    finished = finalize_run(started, checkpoint, records, BatchQueries(batch, to_scale(start.standardisation)))
    finished = replace(finished, seconds=time.perf_counter() - begun)
    writer.run_finished(finished)
    inform(finished)


def run_whole_rounds(
    grid: Grid,
    settings: FederationSettings,
    start: Checkpoint,
    rounds: BatchRounds,
    roster: Roster,
    *,
    writer: RunWriter,
    inform: OnEvent,
) -> tuple[Checkpoint, list[RoundRecord]]:
    """Run the rounds, each with its training and its evaluation; returns the last checkpoint and all records."""
    checkpoint, records = start, list[RoundRecord]()
    scale = to_scale(start.standardisation)
    train_config = encode_train_config(scale, start.class_weights)
    while goes_on(checkpoint, settings):
        evaluation = rounds.run_round(grid, checkpoint.round_num + 1, train_config)
        checkpoint = add_training(checkpoint, evaluation.record, rounds.arrays, roster)
        checkpoint = add_evaluation(checkpoint, evaluation, roster, settings.patience)
        keep_record(evaluation.record, records, writer, inform)
    return checkpoint, records


def first_checkpoint(batch: BatchMembers, settings: FederationSettings, schema: Schema) -> Checkpoint:
    """The state of the run before its first round, including the hospitals that are left out."""
    standardisation, class_weights, weights = agree(batch, settings, schema)
    return Checkpoint(
        round_num=0,
        standardisation=standardisation,
        class_weights=class_weights,
        weights=weights,
        strategy=make_strategy(settings, len(batch.members)),
        members=batch.members,
        strikes={},
        dropped=batch.left_out,
    )


@dataclass(frozen=True)
class BatchQueries:
    """The queries about the final model, to all hospitals of a batch; see `finalization.Queries`."""

    batch: BatchMembers
    scale: Scale | None

    def evaluate(self, weights: ArrayRecord, record: RoundRecord) -> Evaluation:
        """The evaluation of `weights`, a model made in the round of `record`."""
        tested, held = evaluate_batch(self.batch, weights, self.scale)
        return Evaluation(structs.replace(record, **pooled_metrics(tested, held)), tested, held)

    def query_subgroups(self, final: RecordDict, divisions: Divisions, least: int) -> Subgroups:
        """The outcomes by subgroup, of groups of at least `least` patients."""
        numbers, counts = zip(*self._ask("subgroups", final), strict=True)
        names, order = self._names(numbers)
        disclosed = disclosed_rows(names, {group: each[order] for group, each in join_columns(counts).items()})
        return Subgroups(disclosed=disclosed, missing={}, divisions=divisions)

    def query_importance(self, final: RecordDict, features: Sequence[str]) -> Importance:
        """Permutation importance in each hospital that has enough test patients, and combined over these hospitals."""
        replies = self._ask("importance", final)
        names, order = self._names([numbers for numbers, _ in replies])
        sent = set(names)
        missing = {member.name: TOO_FEW for member in self.batch.members if member.name not in sent}
        pairs = {member.name: member.test_pairs for member in self.batch.members if member.name in sent}
        drops = np.concatenate([drops for _, drops in replies])[order] if replies else np.empty((0, len(features)))
        return combine_many_importance(features, names, drops, [pairs[name] for name in names], missing)

    def query_fit_sums(self, request: RecordDict, size: int) -> tuple[dict[str, TrainReply], dict[str, str]]:
        """Nothing: hospitals that compute in blocks fit no exact model."""
        return {}, {}

    def send_final_model(self, final: RecordDict) -> tuple[dict[str, dict[str, PairedComparison]], tuple[str, ...]]:
        """Nothing: simulated hospitals share no comparison, and none is absent."""
        return {}, ()

    def _ask(self, method: str, final: RecordDict) -> list[tuple[NDArray[np.int64], Any]]:
        """The hospitals' replies, block by block."""
        weights = list(decode_final_request(final).weights.values())
        return [each for replies in self.batch.calls.call(method, weights, self.scale) for each in replies]

    def _names(self, numbers: Sequence[NDArray[np.int64]]) -> tuple[list[str], NDArray[np.intp]]:
        """The names of the hospitals with these numbers, in order, and the places at which they stood."""
        places = self.batch.to_places(numbers) if numbers else np.empty(0, dtype=np.intp)
        order = np.argsort(places)
        return [self.batch.members[place].name for place in places[order].tolist()], order
