"""The rounds as Flower sees them: a `ServerApp` that asks hospitals for sums, weights and histograms, never for rows.

Light on purpose: no TensorFlow, no model. What a run looks like on a screen or on disk is told to `on_event` and
stands elsewhere.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.server.events import (
    Checkpoint,
    Dropped,
    Event,
    Member,
    OnEvent,
    ResumeState,
    RoundRecord,
    RunFinished,
    RunStarted,
)
from fedhealth.server.finalization import ask_for_subgroups, ask_importance, evaluate_model, hand_out
from fedhealth.server.model_selection import StopRounds, choose_final_model, correct_weights, find_best, is_enough
from fedhealth.server.rounds import GuardedStrategy, RoundPolicy
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.setup import Setup, require_same_members
from fedhealth.server.strategies.registry import make_strategy


def make_server_app(*listeners: OnEvent, max_wait: float = 3600.0, past: ResumeState | None = None) -> ServerApp:
    """The app; the `listeners` hear of everything that happens, one after the other, on the app's thread."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        settings = FederationSettings.from_run_config(context.run_config)
        federate(grid, settings, lambda event: tell(listeners, event), max_wait, past)

    return server_app


def tell(listeners: Iterable[OnEvent], event: Event) -> None:
    """Let all hear of it, one after the other."""
    for listener in listeners:
        listener(event)


def federate(
    grid: Grid, settings: FederationSettings, on_event: OnEvent, max_wait: float, past: ResumeState | None = None
) -> None:
    """One run, from the first hospital that joins, or from where it was interrupted, to the final model in all of them.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, two have one name, or too few train in a round.
    """
    dropped = past.checkpoint.dropped if past else {}
    for name, reason in dropped.items():
        on_event(Dropped(name, reason))
    wanted, validates = settings.hospitals - len(dropped), settings.validation_share > 0
    setup = Setup(grid, wanted, max_wait, on_event, validates=validates, private=settings.private)
    members = setup.collect_members()
    if past:
        require_same_members(members, past.checkpoint.members, dropped)
        members = list(past.checkpoint.members)
    started = time.perf_counter()
    dataset = "+".join(sorted({member.source for member in members}))
    on_event(RunStarted(settings, members, dataset, past.checkpoint.round_num if past else 0))
    past = past or ResumeState(first_checkpoint(setup, settings, members))
    checkpoint, rounds = run_rounds(grid, settings, on_event, max_wait, past)
    run = RunFinished(settings, members, dataset, checkpoint.weights, checkpoint.standardisation, rounds, seconds=0.0)
    finished = close_run(grid, run, checkpoint)
    on_event(replace(finished, seconds=time.perf_counter() - started))


def close_run(grid: Grid, run: RunFinished, checkpoint: Checkpoint) -> RunFinished:
    """After the rounds: choose the final model, ask what it is worth, and give it to every hospital that is still here."""
    settings, scale, timeout = run.settings, run.standardisation, run.settings.round_timeout
    staying = [member for member in run.members if member.name not in checkpoint.dropped]

    def evaluate(weights: ArrayRecord, record: RoundRecord) -> RoundRecord:
        return evaluate_model(grid, staying, weights, to_config(scale), record, timeout=timeout)

    weights, choices = choose_final_model(evaluate, settings, checkpoint, run.rounds)
    threshold = choices.threshold if choices else None
    config = ConfigRecord({**to_config(scale), **({} if threshold is None else {"threshold": threshold})})
    final = RecordDict({"arrays": weights, "config": config})
    return replace(
        run,
        weights=weights,
        choices=choices,
        subgroups=ask_for_subgroups(grid, staying, final, settings),
        importance=ask_importance(grid, staying, final, timeout=timeout) if settings.importance else None,
        verdicts=hand_out(grid, staying, final, timeout=timeout),
    )


def first_checkpoint(setup: Setup, settings: FederationSettings, members: Sequence[Member]) -> Checkpoint:
    """Where a new run starts: what the hospitals agree on before the first round."""
    return Checkpoint(
        round_num=0,
        standardisation=setup.agree_on_standardisation(settings),
        class_weights=setup.agree_on_class_weights(settings),
        weights=setup.ask_for_initial_weights(),
        strategy=make_strategy(settings),
        members=members,
        strikes={},
        dropped={},
    )


def run_rounds(
    grid: Grid, settings: FederationSettings, on_event: OnEvent, max_wait: float, past: ResumeState
) -> tuple[Checkpoint, list[RoundRecord]]:
    """The rounds that are still to run; the last checkpoint and the records of all rounds."""
    checkpoint, rounds = past.checkpoint, list(past.rounds)
    tested, held = checkpoint.histograms, checkpoint.validation_histograms
    rounds[-1:] = [replace(last, histograms=tested, validation_histograms=held) for last in rounds[-1:]]

    def keep_round(event: Event) -> None:
        nonlocal checkpoint
        on_event(event)
        if isinstance(event, RoundRecord):
            rounds[-1:] = [replace(last, histograms={}, validation_histograms={}) for last in rounds[-1:]]
            rounds.append(event)
            best = find_best(checkpoint.best, event, recorder.arrays) if settings.patience else None
            checkpoint = replace(
                checkpoint,
                round_num=event.round_num,
                weights=recorder.arrays,
                strikes=dict(recorder.strikes),
                dropped=dict(recorder.dropped),
                histograms=event.histograms,
                validation_histograms=event.validation_histograms,
                best=best,
            )
            on_event(checkpoint)
            if is_enough(best, settings.patience):
                raise StopRounds

    rules = RoundPolicy(
        settings.min_hospitals, settings.strikes, settings.max_update_norm, settings.round_timeout, max_wait
    )
    plan = RoundSchedule(settings.rounds, settings.evaluate_every, settings.fraction, settings.seed)
    correct = partial(correct_weights, class_weights=checkpoint.class_weights)
    recorder = GuardedStrategy(past.checkpoint, rules, keep_round, plan, correct)
    config, weighed = to_config(checkpoint.standardisation), checkpoint.class_weights
    train_config = ConfigRecord({**config, **({"class-weights": list(weighed)} if weighed else {})})
    left = 0 if is_enough(checkpoint.best, settings.patience) else settings.rounds - checkpoint.round_num
    with contextlib.suppress(StopRounds):
        recorder.start(
            grid=grid,
            initial_arrays=checkpoint.weights,
            num_rounds=left,
            timeout=settings.round_timeout,
            train_config=train_config,
            evaluate_config=ConfigRecord(dict(config)),
        )
    return checkpoint, rounds


def to_config(standardisation: Standardisation | None) -> ConfigRecord:
    """What every train, evaluate and finish message says of the standardisation; nothing if each has its own."""
    if standardisation is None:
        return ConfigRecord()
    return ConfigRecord({"means": list(standardisation.means), "stds": list(standardisation.stds)})
