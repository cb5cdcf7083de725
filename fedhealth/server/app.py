"""The federation as a Flower `ServerApp` that asks hospitals for sums, weights and histograms, never for rows.

It imports no TensorFlow and has no model. What a run looks like on a screen or on disk is elsewhere.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from fedhealth.common.array_codec import read_arrays
from fedhealth.config.federation import FederationSettings, fewest_flags, fewest_hospitals
from fedhealth.data.preprocessing import Standardisation
from fedhealth.server.checkpoints import Checkpoint, ResumeState
from fedhealth.server.events import Dropped, Listeners, OnEvent, RunFinished, RunStarted
from fedhealth.server.finalization import FinalQuestions
from fedhealth.server.model_selection import choose_final_model, find_best, is_enough
from fedhealth.server.participation import OPEN, Admission, Roster, RoundPolicy
from fedhealth.server.records import Evaluation, RoundRecord
from fedhealth.server.rounds import GuardedStrategy
from fedhealth.server.run_writer import RunWriter
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.setup import Setup, require_same_members
from fedhealth.server.strategies.registry import make_strategy
from fedhealth.transport.protocol.evaluation import encode_evaluate_config
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.finalization import FinalRequest, encode_final_request
from fedhealth.transport.protocol.training import encode_train_config

MAX_WAIT = 3600.0
"""Seconds to wait for missing hospitals."""
GRACE_SECONDS = 10.0
"""How long the final model waits for a hospital that is away when the rounds are over."""
NOWHERE = RunWriter()
NO_OBJECTS: Mapping[str, str] = {}


def make_server_app(
    *listeners: OnEvent,
    writer: RunWriter = NOWHERE,
    admission: Admission = OPEN,
    max_wait: float = MAX_WAIT,
    past: ResumeState | None = None,
) -> ServerApp:
    """The app; see `federate`."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        settings = FederationSettings.from_run_config(context.run_config)
        federate(grid, settings, *listeners, writer=writer, admission=admission, max_wait=max_wait, past=past)

    return server_app


def federate(
    grid: Grid,
    settings: FederationSettings,
    *listeners: OnEvent,
    writer: RunWriter = NOWHERE,
    admission: Admission = OPEN,
    max_wait: float = MAX_WAIT,
    past: ResumeState | None = None,
    strategy: Strategy | None = None,
    objects: Mapping[str, str] = NO_OBJECTS,
) -> None:
    """One run, from the first hospital that joins, or from where it was interrupted, to the final model in all of them.

    Parameters
    ----------
    listeners : informed of everything that happens, on this thread; none of them can change the run.
    writer : keeps the run.
    admission : from the first round on admits the members only, and none that was dropped.
    max_wait : seconds to wait for missing hospitals, before the rounds and in each of them.
    past : what an interrupted run has behind it.
    strategy : combines the weights; without one the settings name it.
    objects : setting -> name of the object in its place, for the record.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, two have one name, or too few can take part or train in a round.
    """
    inform = Listeners(*listeners).inform
    dropped = past.checkpoint.dropped if past else {}
    for name, reason in dropped.items():
        admission.expel(name, reason)
        inform(Dropped(name, reason))
    setup = Setup(grid, settings, settings.hospitals - len(dropped), max_wait, inform, admission=admission)
    members = setup.collect_members()
    begun = time.perf_counter()
    if past:
        require_same_members(members, past.checkpoint.members, dropped)
        past = past.without(setup.left_out)
    else:
        admission.admit_only(member.name for member in members)
        past = ResumeState(first_checkpoint(setup, settings, strategy))
    start = past.checkpoint
    dataset = "+".join(sorted({member.source for member in start.members}))
    started = RunStarted(settings, start.members, dataset, start.round_num, objects, start.left_out)
    writer.run_started(started)
    inform(started)
    roster = make_roster(settings, start, admission, inform, max_wait)
    checkpoint, rounds = run_rounds(grid, settings, past, roster, writer=writer, inform=inform)
    finished = close_run(grid, started, checkpoint, rounds, grace=min(GRACE_SECONDS, max_wait))
    finished = replace(finished, seconds=time.perf_counter() - begun)
    writer.run_finished(finished)
    inform(finished)


def first_checkpoint(setup: Setup, settings: FederationSettings, strategy: Strategy | None) -> Checkpoint:
    """Where a new run starts: what the hospitals agree on before the first round, and who is left out of the run."""
    standardisation, class_weights, weights = setup.agree()
    return Checkpoint(
        round_num=0,
        standardisation=standardisation,
        class_weights=class_weights,
        weights=weights,
        strategy=strategy or make_strategy(settings, len(setup.members)),
        members=setup.members,
        strikes={},
        dropped=setup.left_out,
    )


def make_roster(
    settings: FederationSettings, start: Checkpoint, admission: Admission, inform: OnEvent, max_wait: float
) -> Roster:
    """The members of the run, with what is held against them at this checkpoint."""
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
    """The rounds that are still to run; the last checkpoint and the records of all rounds."""
    checkpoint, rounds = past.checkpoint, list(past.rounds)
    strategy = GuardedStrategy(checkpoint, roster)
    scale = to_scale(checkpoint.standardisation)
    train_config = encode_train_config(scale, checkpoint.class_weights)
    evaluate_config = encode_evaluate_config(scale)
    while checkpoint.round_num < settings.rounds and not is_enough(checkpoint.best, settings.patience):
        evaluation = strategy.run_round(grid, checkpoint.round_num + 1, train_config, evaluate_config)
        rounds.append(evaluation.record)
        checkpoint = next_checkpoint(checkpoint, strategy, roster, evaluation, settings.patience)
        writer.round_finished(evaluation.record)
        inform(evaluation.record)
        writer.keep_checkpoint(checkpoint)
    return checkpoint, rounds


def next_checkpoint(
    before: Checkpoint, strategy: GuardedStrategy, roster: Roster, evaluation: Evaluation, patience: int
) -> Checkpoint:
    """Where the run stands after a round."""
    return replace(
        before,
        round_num=evaluation.record.round_num,
        weights=strategy.arrays,
        strikes=dict(roster.strikes),
        dropped=dict(roster.dropped),
        histograms=evaluation.tested,
        validation_histograms=evaluation.validation,
        best=find_best(before.best, evaluation, strategy.arrays) if patience else None,
    )


def close_run(
    grid: Grid, started: RunStarted, checkpoint: Checkpoint, rounds: Sequence[RoundRecord], grace: float = 0.0
) -> RunFinished:
    """After the rounds: choose the final model, ask what it is worth, and give it to every hospital.

    It waits `grace` seconds for one that is away.
    """
    settings, scale = started.settings, to_scale(checkpoint.standardisation)
    staying = [member for member in checkpoint.members if member.name not in checkpoint.dropped]
    hospitals = FinalQuestions(grid, staying, scale, settings.round_timeout, grace)
    model = choose_final_model(hospitals.evaluate, settings, checkpoint, rounds)
    threshold = model.choices.threshold if model.choices else None
    final = encode_final_request(FinalRequest(read_arrays(model.weights), scale, threshold))
    subgroups = hospitals.ask_subgroups(final, settings.min_count) if settings.subgroups else None
    importance = hospitals.ask_importance(final) if settings.importance else None
    verdicts, unreached = hospitals.hand_out(final)
    return RunFinished(
        settings,
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
        verdicts=verdicts,
        unreached=unreached,
        objects=started.objects,
        left_out=started.left_out,
    )


def to_scale(standardisation: Standardisation | None) -> Scale | None:
    """The standardisation as the protocol has it; None if each hospital uses its own."""
    return Scale(**vars(standardisation)) if standardisation else None
