"""What is said of a run, as plain functions: header, one line per round, the table at the end, what a hospital answers."""

import math
from collections.abc import Sequence

from fedhealth.common.text_table import format_table
from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.histogram import Metrics
from fedhealth.reporting.console.final_text import FEW_PATIENTS, MANY
from fedhealth.reporting.format import number
from fedhealth.reporting.selection_text import chosen_lines
from fedhealth.server.events import Paused, RunFinished, RunStarted
from fedhealth.server.records import Member, RoundRecord

SYNTHETIC = "SYNTHETIC patients, invented from published statistics: no result below is about real people"
SOURCES = {"synthetic": SYNTHETIC, "own": "the hospitals' own files"}
HEADINGS = ("hospital", "patients", "tested", "loss", "accuracy", "AUROC", "sensitivity", "specificity", "Brier")


def describe_source(source: str) -> str:
    """A data source in words, such as `uci` or `own+synthetic`."""
    return " + ".join(SOURCES.get(name, f"{name} (Heart Disease data)") for name in source.split("+"))


def count(number: int, noun: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def round_line(record: RoundRecord, rounds: int, hospitals: int) -> str:
    """One aligned line per round: metrics of all test patients together."""
    width, asked = len(str(rounds)), len(record.asked) or hospitals
    answered = asked - len(set(record.left_out) & set(record.asked) if record.asked else record.left_out)
    train_loss = "" if record.train_loss is None else f"training loss {number(record.train_loss)}, "
    metrics = (
        f"loss {number(record.pooled.loss)}   AUROC {number(record.pooled.auroc)}   "
        f"accuracy {number(record.pooled.accuracy, 2)}"
        f"{f'   validation loss {number(record.validation.loss)}' if record.validation else ''}"
        if record.hospitals or record.left_out
        else f"{train_loss}not evaluated"
    )
    return f"round {record.round_num:>{width}}/{rounds}   {metrics}   hospitals {answered}/{asked}   {record.seconds:.2f} s"


def round_notes(record: RoundRecord) -> list[str]:
    """Who gave no answer and why, how much of the federation that is, and whose step was cut."""
    lines = [f"         cut: the step of {name}, from a norm of {norm:.3g}" for name, norm in record.clipped.items()]
    lines += [f"         left out: {name} ({reason})" for name, reason in record.left_out.items()]
    if record.left_out_share:
        lines.append(
            f"         this round's weights have not seen {record.left_out_share:.0%} of the training patients"
        )
    return lines


def paused_line(paused: Paused) -> str:
    """Why nothing moves, and for how long it may last."""
    missing = "; ".join(f"{name}: {reason}" for name, reason in sorted(paused.missing.items()))
    return (
        f"round {paused.round_num} waits: {paused.trained} of the {paused.needed} hospitals that it needs have trained "
        f"({missing}); giving up in {paused.seconds_left:.0f} s"
    )


def header_lines(began: RunStarted) -> list[str]:
    """What is about to happen, on whose data."""
    settings = began.settings
    names = ", ".join(f"{member.name} ({member.patients})" for member in began.members)
    sizes = sorted(member.patients for member in began.members)
    if len(sizes) > MANY:
        names = (
            f"{len(sizes):,}, of {'to'.join(f' {size} ' for size in sorted({sizes[0], sizes[-1]})).strip()} patients"
        )
    train, held, test = (
        sum(getattr(m, f"{part}_patients") for m in began.members) for part in ("train", "validation", "test")
    )
    return [
        f"data: {describe_source(began.dataset)}",
        f"hospitals: {names}",
        f"patients: {_patients_text(train, held, test, settings.private)}; no row leaves a hospital",
        f"training: {settings.model}, {settings.strategy}, {count(settings.rounds, 'round')} of "
        f"{count(settings.local_epochs, 'local epoch')}, batches of {settings.batch_size}, "
        f"learning rate {settings.local_learning_rate:g}, {settings.scaling} scaling, seed {settings.seed}",
        *choice_lines(settings),
        *([f"privacy: {promise(settings, began.members)}"] if settings.private else []),
        *([f"going on after round {began.done}"] if began.done else []),
    ]


def _patients_text(train: int, held: int, test: int, private: bool) -> str:
    if private:
        return f"about {train} to train on (noisy counts)"
    return f"{train} to train on, {f'{held} to choose on, ' if held else ''}{test} held out for evaluation"


def promise(settings: FederationSettings, members: Sequence[Member]) -> str:
    """What differential privacy promises, in words that need no statistics."""
    epsilon = max(member.epsilon or 0.0 for member in members)
    return (
        f"epsilon {epsilon:.3g}, delta {settings.dp_delta:g} for each patient: seeing all that leaves the hospitals changes "
        f"the odds that he took part by a factor of {math.exp(epsilon):.3g} at most, but for a chance of "
        f"{settings.dp_delta:g}"
    )


def choice_lines(settings: FederationSettings) -> list[str]:
    """What will be chosen, if anything."""
    chosen = []
    if settings.patience:
        chosen.append(f"the best round (at most {count(settings.patience, 'round')} without a better one)")
    if settings.calibrate == "temperature":
        chosen.append("a temperature for the risks")
    if settings.threshold == "youden":
        chosen.append("the risk from which a patient is called ill")
    lines = [f"chosen on patients that are neither trained nor tested on: {', '.join(chosen)}"] if chosen else []
    if settings.class_weights:
        lines.append("class weights: ill and healthy patients count alike in training; the risks are corrected for it")
    return lines


def table_text(finished: RunFinished, terminal: bool) -> str:
    """Metrics of the final model per hospital, all tested patients together in the last line."""
    last = finished.final
    patients = {member.name: member.patients for member in finished.members}
    listed = last.hospitals if len(last.hospitals) <= MANY else {}
    lines = [_table_line(name, patients[name], metrics) for name, metrics in listed.items()]
    pooled = _table_line("all together", sum(patients[name] for name in last.hospitals), last.pooled)
    return format_table(HEADINGS, [*lines, pooled], text_columns=1, terminal=terminal, total=True)


def _table_line(name: str, patients: int, metrics: Metrics) -> tuple[str, ...]:
    values = (metrics.loss, metrics.accuracy, metrics.auroc, metrics.sensitivity, metrics.specificity, metrics.brier)
    return (name, str(patients), str(metrics.num_examples), *(number(value) for value in values))


def footnotes(finished: RunFinished) -> list[str]:
    """What a careful reader of the table should know."""
    last = finished.final
    notes = chosen_lines(finished.choices, len(finished.rounds))
    notes += ["metrics are of the tested patients, who were never trained on, at a risk threshold of 0.5"]
    if last.pooled.auroc_bound is not None and not finished.settings.private:
        notes.append(
            f"AUROC of all together is exact to within {last.pooled.auroc_bound:.4f} (it comes from histograms)"
        )
    if finished.settings.private:
        notes.append(
            "under differential privacy all counts of patients carry noise, and risks are told in 10 groups: every "
            "figure is rough, and the more so the fewer patients stand behind it"
        )
    notes += [f"{name} is not in the table: {reason}" for name, reason in _absent(last).items()]
    if len(last.hospitals) > MANY:
        return [*notes, _spread_note(last)]
    for name, metrics in last.hospitals.items():
        fewer, word = min((metrics.num_ill, "ill"), (metrics.num_examples - metrics.num_ill, "healthy"))
        if fewer == 0:
            notes.append(f"AUROC of {name} is n/a: it tested no {word} patient")
        elif fewer < FEW_PATIENTS:
            notes.append(f"AUROC of {name} says little: it rests on {count(fewer, f'{word} patient')}")
    return notes


def _spread_note(last: RoundRecord) -> str:
    """How different many hospitals are, in one line."""
    own = sorted(metrics.auroc for metrics in last.hospitals.values() if metrics.auroc is not None)
    if not own:
        return f"no one of the {len(last.hospitals):,} hospitals has an AUROC of its own"
    low, middle, high = (own[round(share * (len(own) - 1))] for share in (0.05, 0.5, 0.95))
    return (
        f"the hospitals' own AUROC: median {middle:.3f}, nine in ten between {low:.3f} and {high:.3f} (each says little: few "
        "patients); all of them are in summary.json"
    )


def pace_line(finished: RunFinished) -> str:
    """How fast a simulation was; a hospital-round is one hospital's training in one round, with what evaluation it had."""
    seconds = sum(record.seconds for record in finished.rounds)
    trained = sum(len(record.asked) or len(finished.members) for record in finished.rounds)
    return f"{trained:,} hospital-rounds, {trained / seconds:,.0f} per second"


def _absent(last: RoundRecord) -> dict[str, str]:
    return {name: reason for name, reason in last.left_out.items() if name not in last.hospitals}
