"""The federation as a Flower `ServerApp` that receives sums, weights and histograms from hospitals, never patients' rows.

It does not import TensorFlow and has no model of its own.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from fedhealth.common.array_codec import read_arrays
from fedhealth.config.federation import FederationSettings, fewest_flags, fewest_hospitals
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.metrics.subgroups import find_divisions
from fedhealth.server.admission import OPEN, Admission
from fedhealth.server.beginning import begin_run, final_queries, to_scale
from fedhealth.server.checkpoints import Checkpoint, ResumeState
from fedhealth.server.events import Listeners, OnEvent, RunFinished, RunStarted
from fedhealth.server.exact_fit import add_sums, exact_fit, tabulate
from fedhealth.server.feasibility import ask_feasibility
from fedhealth.server.finalization import Queries
from fedhealth.server.model_selection import choose_final_model, could_be_enough, is_enough
from fedhealth.server.participation import Roster, RoundPolicy
from fedhealth.server.records import RoundRecord
from fedhealth.server.round_state import add_evaluation, add_training
from fedhealth.server.rounds import GuardedStrategy
from fedhealth.server.run_writer import RunWriter
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.setup_queries import SetupQueries
from fedhealth.server.strategies.newton import has_converged
from fedhealth.transport.protocol.evaluation import encode_evaluate_config
from fedhealth.transport.protocol.finalization import FinalRequest, encode_final_request
from fedhealth.transport.protocol.training import encode_train_config

MAX_WAIT = 3600.0
"""Seconds to wait for missing hospitals."""
GRACE_SECONDS = 10.0
"""How long to wait, after the rounds, for absent hospitals before the final model is sent for the last time."""
NO_WRITER = RunWriter()
NO_OBJECTS: Mapping[str, str] = {}


def make_server_app(
    *listeners: OnEvent,
    writer: RunWriter = NO_WRITER,
    admission: Admission = OPEN,
    max_wait: float = MAX_WAIT,
    past: ResumeState | None = None,
    schema: Schema | None = None,
) -> ServerApp:
    """The ServerApp; its parameters are those of `federate`."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        settings = FederationSettings.from_run_config(context.run_config)
        federate(
            grid, settings, *listeners, writer=writer, admission=admission, max_wait=max_wait, past=past, schema=schema
        )

    return server_app


def federate(
    grid: Grid,
    settings: FederationSettings,
    *listeners: OnEvent,
    writer: RunWriter = NO_WRITER,
    admission: Admission = OPEN,
    max_wait: float = MAX_WAIT,
    past: ResumeState | None = None,
    schema: Schema | None = None,
    strategy: Strategy | None = None,
    objects: Mapping[str, str] = NO_OBJECTS,
) -> None:
    """Run the federation: wait for the hospitals, run the rounds, and send the final model to every hospital.

    With --feasibility the hospitals are only asked what they have.

    Parameters
    ----------
    listeners : called with each event of the run, on this thread; they cannot change the run.
    writer : writes the records and checkpoints of the run.
    admission : decides who may join; once the rounds begin, only members that have not been dropped.
    max_wait : seconds to wait for missing hospitals, before the rounds and in each round.
    past : state of the interrupted run that is resumed; None for a new run.
    schema : the columns; None: those of the heart disease data.
    strategy : aggregates the weights; None: the strategy of the settings.
    objects : name of the Python object that was given for a setting, by setting; the run record stores it.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, two have the same name, or too few can take part or train in a round.
    """
    inform, schema = Listeners(*listeners).inform, schema or heart_disease()
    if settings.feasibility:
        queries = SetupQueries(grid, settings, settings.hospitals, max_wait, inform, admission=admission)
        found = ask_feasibility(queries, schema, settings.min_count)
        inform(found)
        writer.feasibility_known(found)
        return
    before = past.seconds if past else 0.0
    begun = begin_run(grid, settings, schema, past, strategy, max_wait=max_wait, inform=inform, admission=admission)
    past, start = begun.state, begun.state.checkpoint
    since = time.perf_counter() - before
    dataset = "+".join(sorted({member.source for member in start.members}))
    started = RunStarted(
        settings,
        schema,
        start.members,
        dataset,
        start.evaluated_rounds,
        objects,
        start.left_out,
        past.rounds,
        start.roster,
    )
    writer.run_started(started)
    inform(started)
    roster = make_roster(settings, start, OPEN if start.roster else admission, inform, max_wait)
    grid, secured, begin = begun.grid, begun.secured, [past]
    del past, start, begun  # otherwise the first weights would stay in memory to the end
    checkpoint, rounds = run_rounds(grid, settings, begin.pop(), roster, writer=writer, inform=inform)
    final = final_queries(grid, secured, settings, checkpoint, grace=min(GRACE_SECONDS, max_wait))
    finished = finalize_run(started, checkpoint, rounds, final)
    finished = replace(finished, seconds=time.perf_counter() - since)
    writer.run_finished(finished)
    inform(finished)


def make_roster(
    settings: FederationSettings, start: Checkpoint, admission: Admission, inform: OnEvent, max_wait: float
) -> Roster:
    """The members of the run, with their strikes at this checkpoint."""
    policy = RoundPolicy(
        settings.min_hospitals,
        settings.strikes,
        settings.max_update_norm,
        settings.round_timeout,
        max_wait,
        fewest_hospitals(settings),
        fewest_flags(settings),
    )
    schedule = RoundSchedule(settings.rounds, settings.evaluate_every, settings.fraction, settings.seed)
    return Roster(
        start.members, policy, schedule, inform, strikes=start.strikes, dropped=start.dropped, admission=admission
    )


def run_rounds(
    grid: Grid, settings: FederationSettings, past: ResumeState, roster: Roster, *, writer: RunWriter, inform: OnEvent
) -> tuple[Checkpoint, list[RoundRecord]]:
    """Run the remaining rounds; returns the last checkpoint and the records of all rounds.

    The train messages of a round also ask for the evaluation of the round before, so there is one exchange a round. The
    evaluation is asked for alone after the last round, before a round that may not take place, and before one that waits.
    """
    checkpoint, rounds = past.checkpoint, list(past.rounds)
    del past
    strategy = GuardedStrategy(checkpoint, roster)
    scale = to_scale(checkpoint.standardisation)
    train_config = encode_train_config(scale, checkpoint.class_weights)
    evaluate_config = encode_evaluate_config(scale)
    while goes_on(checkpoint, settings):
        round_num = checkpoint.round_num + 1
        evaluation = strategy.ask(grid, round_num, train_config, evaluate_config, checkpoint.unevaluated)
        if evaluation:
            checkpoint = add_evaluation(checkpoint, evaluation, roster, settings.patience)
            keep_record(evaluation.record, rounds, writer, inform)
        checkpoint = add_training(checkpoint, strategy.aggregate(round_num), strategy.arrays, roster)
        if may_end(checkpoint, settings) or not strategy.goes_on(grid, round_num):
            evaluation = strategy.evaluate(grid, round_num, evaluate_config)
            checkpoint = add_evaluation(checkpoint, evaluation, roster, settings.patience)
            keep_record(evaluation.record, rounds, writer, inform)
        writer.keep_checkpoint(checkpoint)
    return checkpoint, rounds


def goes_on(checkpoint: Checkpoint, settings: FederationSettings) -> bool:
    """Whether there is another round."""
    enough = is_enough(checkpoint.best, settings.patience) or has_converged(checkpoint.strategy)
    return checkpoint.round_num < settings.rounds and not enough


def may_end(checkpoint: Checkpoint, settings: FederationSettings) -> bool:
    """Whether the evaluation of this round may end the run, or its training has, as Newton's method at the optimum."""
    return has_converged(checkpoint.strategy) or could_be_enough(checkpoint.best, settings.patience)


def keep_record(record: RoundRecord, rounds: list[RoundRecord], writer: RunWriter, inform: OnEvent) -> None:
    """Add the complete record of a round to `rounds` and write it."""
    rounds.append(record)
    writer.round_finished(record)
    inform(record)


def finalize_run(
    started: RunStarted, checkpoint: Checkpoint, rounds: Sequence[RoundRecord], queries: Queries
) -> RunFinished:
    """Choose the final model, collect its subgroup counts and permutation importance, and send it to every hospital."""
    settings, scale = started.settings, to_scale(checkpoint.standardisation)
    model = choose_final_model(queries.evaluate, settings, checkpoint, rounds)
    threshold = model.choices.threshold if model.choices else None
    final = encode_final_request(FinalRequest(read_arrays(model.weights), scale, threshold))
    schema = started.schema
    divisions = find_divisions(schema) if settings.subgroups else {}
    subgroups = queries.query_subgroups(final, divisions, settings.min_count) if divisions else None
    importance = queries.query_importance(final, schema.feature_names) if settings.importance else None
    fit = add_sums(exact_fit(checkpoint.strategy, settings), settings, checkpoint, scale, queries)
    comparisons, unreached = queries.send_final_model(final)
    return RunFinished(
        settings,
        schema,
        started.members,
        started.dataset,
        model.weights,
        checkpoint.standardisation,
        rounds,
        seconds=0.0,
        histograms=model.evaluation.tested,
        choices=model.choices,
        subgroups=subgroups,
        importance=importance,
        comparisons=comparisons,
        unreached=unreached,
        objects=started.objects,
        left_out=started.left_out,
        roster=started.roster,
        fit=fit,
        odds_ratios=tabulate(fit, settings, schema, checkpoint.standardisation),
    )
