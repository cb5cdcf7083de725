"""The coordinator's lines of a run: header, one line per round, the final table and its footnotes."""

import itertools
import math
from collections.abc import Sequence

from fedhealth.common.text_table import format_table
from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.histogram import Metrics
from fedhealth.reporting.console.final_text import FEW_PATIENTS, MANY
from fedhealth.reporting.format import POOLED, number
from fedhealth.reporting.selection_text import selection_lines
from fedhealth.server.events import Paused, RunFinished, RunStarted
from fedhealth.server.records import TOGETHER, Member, RoundRecord

MOST_LISTED = 100
"""Of hospitals that are left out so many have a line each."""
SYNTHETIC = "SYNTHETIC patients, simulated from published statistics; no result describes real people"
SOURCES = {"synthetic": SYNTHETIC, "own": "the hospitals' own files"}
SCALINGS = {"federated": "over all hospitals", "reference": "with fixed constants", "local": "within each hospital"}
HEADINGS = ("hospital", "patients", "test patients", "loss", "accuracy", "AUROC", "sensitivity", "specificity", "Brier")


def describe_source(source: str) -> str:
    """Text for a data source such as `uci` or `own+synthetic`."""
    return " + ".join(SOURCES.get(name, f"{name} (Heart Disease data)") for name in source.split("+"))


def count(number: int, noun: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def round_line(record: RoundRecord, rounds: int, hospitals: int) -> str:
    """One aligned line per round: pooled metrics of the test patients."""
    width, asked = len(str(rounds)), len(record.asked) or hospitals
    answered = asked - len(set(record.left_out) & set(record.asked) if record.asked else record.left_out)
    answered = 0 if TOGETHER in record.left_out else answered
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
    """Lines below a round: clipped updates, hospitals left out and why, their share of the training patients."""
    lines = [f"         clipped: the update of {name} (norm {norm:.3g})" for name, norm in record.clipped.items()]
    lines += [
        f"         no sum: {reason}" if name == TOGETHER else f"         left out: {name} ({reason})"
        for name, reason in itertools.islice(record.left_out.items(), MOST_LISTED)
    ]
    if len(record.left_out) > MOST_LISTED:
        lines.append(f"         left out: {len(record.left_out) - MOST_LISTED:,} more (reasons: history.jsonl)")
    if record.left_out_share and TOGETHER not in record.left_out:
        lines.append(f"         trained without {record.left_out_share:.0%} of the training patients")
    return lines


def paused_line(paused: Paused) -> str:
    """How many hospitals a paused round needs, which are missing and why, and when the server gives up."""
    if TOGETHER in paused.missing:
        return (
            f"round {paused.round_num} is waiting: a sum needs all hospitals ({paused.missing[TOGETHER]}); "
            f"timeout in {paused.seconds_left:.0f} s"
        )
    missing = "; ".join(f"{name}: {reason}" for name, reason in sorted(paused.missing.items()))
    return (
        f"round {paused.round_num} is waiting: {paused.trained} of the {paused.needed} required hospitals "
        f"({paused.needed_for}) have trained ({missing}); timeout in {paused.seconds_left:.0f} s"
    )


def header_lines(started: RunStarted) -> list[str]:
    """Data, hospitals, patients and settings of a run that starts."""
    settings = started.settings
    names = ", ".join(f"{member.name} ({member.patients})" for member in started.members)
    sizes = sorted(member.patients for member in started.members)
    if len(sizes) > MANY:
        names = f"{len(sizes):,}, of {' to '.join(str(size) for size in sorted({sizes[0], sizes[-1]}))} patients each"
    train, held, test = (
        sum(getattr(m, f"{part}_patients") for m in started.members) for part in ("train", "validation", "test")
    )
    roster = started.roster
    if roster:
        names = f"{', '.join(roster.names)}; their figures are not disclosed, only sums over all of them"
    return [
        f"data: {describe_source(started.dataset)}",
        f"hospitals: {names}",
        *([f"secure aggregation: roster {roster.shown_digest}; each hospital shows the same digits"] if roster else []),
        f"patients: {_patients_text(train, held, test, settings.private)}; no row leaves a hospital",
        f"training: {settings.model}, {settings.strategy}, {count(settings.rounds, 'round')} of "
        f"{count(settings.local_epochs, 'local epoch')}, batches of {settings.batch_size}, "
        f"learning rate {settings.local_learning_rate:g}, inputs standardised {SCALINGS[settings.scaling]}, "
        f"seed {settings.seed}",
        *planned_selection_lines(settings),
        *([f"privacy: {privacy_guarantee(settings, started.members)}"] if settings.private else []),
        *([f"resuming after round {started.done}"] if started.done else []),
    ]


def _patients_text(train: int, held: int, test: int, private: bool) -> str:
    if private:
        return f"about {train} for training (noisy counts)"
    return f"{train} for training, {f'{held} for validation, ' if held else ''}{test} for testing"


def privacy_guarantee(settings: FederationSettings, members: Sequence[Member]) -> str:
    """The (epsilon, delta) guarantee of the hospital with the largest epsilon, as a bound on odds."""
    epsilon = max(member.epsilon or 0.0 for member in members)
    return (
        f"epsilon {epsilon:.3g}, delta {settings.dp_delta:g} for each patient: whoever sees everything that leaves the "
        f"hospitals can change the odds that a patient is in the data by a factor of at most {math.exp(epsilon):.3g}, "
        f"except with probability {settings.dp_delta:g}"
    )


def planned_selection_lines(settings: FederationSettings) -> list[str]:
    """What the run will select on validation patients, and its class weights; empty for the default settings."""
    selected = []
    if settings.patience:
        selected.append(f"the best round (stops after {count(settings.patience, 'round')} without a better one)")
    if settings.calibrate == "temperature":
        selected.append("a temperature for the risks")
    if settings.threshold == "youden":
        selected.append("the decision threshold")
    how = "selected on validation patients (not used for training or testing)"
    lines = [f"{how}: {', '.join(selected)}"] if selected else []
    if settings.class_weights:
        lines.append(
            "class weights: ill and healthy patients have equal total weight in training; risks are corrected for it"
        )
    return lines


def table_text(finished: RunFinished, terminal: bool) -> str:
    """Metrics of the final model per hospital; the last line pools all test patients."""
    last = finished.final
    patients = {member.name: member.patients for member in finished.members}
    listed = last.hospitals if len(last.hospitals) <= MANY and not finished.roster else {}
    lines = [_table_line(name, patients[name], metrics) for name, metrics in listed.items()]
    pooled = _table_line(POOLED, sum(patients[name] for name in last.hospitals), last.pooled)
    return format_table(HEADINGS, [*lines, pooled], text_columns=1, terminal=terminal, total=True)


def _table_line(name: str, patients: int, metrics: Metrics) -> tuple[str, ...]:
    values = (metrics.loss, metrics.accuracy, metrics.auroc, metrics.sensitivity, metrics.specificity, metrics.brier)
    return (name, str(patients), str(metrics.num_examples), *(number(value) for value in values))


def footnotes(finished: RunFinished) -> list[str]:
    """Notes to the table: selection, threshold, precision, and figures that rest on few patients."""
    last = finished.final
    notes = selection_lines(finished.choices, len(finished.rounds))
    notes += [
        "metrics are measured on test patients, who were not used for training; accuracy, sensitivity and specificity at a "
        "risk threshold of 0.5"
    ]
    if last.pooled.auroc_bound is not None and not finished.settings.private:
        notes.append(
            f"the pooled AUROC is computed from histograms; its error is at most {last.pooled.auroc_bound:.4f}"
        )
    if finished.settings.private:
        notes.append(
            "under differential privacy counts of patients are noisy and risks are grouped into 10 bins: all figures are "
            "approximate, those of few patients most"
        )
    absent = {**finished.left_out, **_absent(last)}
    notes += [f"{name} is not in the table: {reason}" for name, reason in itertools.islice(absent.items(), MOST_LISTED)]
    if len(absent) > MOST_LISTED:
        notes.append(f"{len(absent) - MOST_LISTED:,} more are not in the table (reasons: summary.json)")
    notes += [f"{name} was away at the end and has no final model" for name in finished.unreached]
    if len(last.hospitals) > MANY:
        return [*notes, _spread_note(last)]
    for name, metrics in last.hospitals.items():
        fewer, word = min((metrics.num_ill, "ill"), (metrics.num_examples - metrics.num_ill, "healthy"))
        if fewer == 0:
            notes.append(f"AUROC of {name} is n/a: no test patient is {word}")
        elif fewer < FEW_PATIENTS:
            notes.append(f"AUROC of {name} is unreliable: only {count(fewer, f'{word} test patient')}")
    return notes


def _spread_note(last: RoundRecord) -> str:
    """Median and 5th to 95th percentile of the hospitals' AUROC, in one line."""
    own = sorted(metrics.auroc for metrics in last.hospitals.values() if metrics.auroc is not None)
    if not own:
        return f"none of the {len(last.hospitals):,} hospitals has an AUROC: each lacks ill or healthy test patients"
    low, middle, high = (own[round(share * (len(own) - 1))] for share in (0.05, 0.5, 0.95))
    return (
        f"AUROC by hospital: median {middle:.3f}, 5th to 95th percentile {low:.3f} to {high:.3f} (unreliable with "
        "few patients); all values: summary.json"
    )


def pace_line(finished: RunFinished) -> str:
    """Speed of a simulation; a hospital-round is one hospital's training, and evaluation if any, in one round."""
    seconds = sum(record.seconds for record in finished.rounds)
    hospitals = len(finished.roster.names if finished.roster else finished.members)
    trained = sum(len(record.asked) or hospitals for record in finished.rounds)
    return f"{trained:,} hospital-rounds, {trained / seconds:,.0f} per second"


def _absent(last: RoundRecord) -> dict[str, str]:
    return {name: reason for name, reason in last.left_out.items() if name not in last.hospitals}
