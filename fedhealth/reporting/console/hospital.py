"""A hospital's own lines: one per reply, and the comparison of the final model with a local one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flwr.app import Message

from fedhealth.common.text_table import format_table
from fedhealth.data.schema import Schema
from fedhealth.metrics.histogram import ScoreHistogram, compute_metrics, score_histogram
from fedhealth.metrics.paired_comparison import comparison_sentence
from fedhealth.metrics.ranking import exact_auroc
from fedhealth.reporting.console.final_text import FEW_PATIENTS, largest_drops
from fedhealth.reporting.format import number
from fedhealth.transport.protocol.evaluation import EVALUATE, decode_evaluate_reply, decode_evaluate_request
from fedhealth.transport.protocol.feasibility import FEASIBILITY
from fedhealth.transport.protocol.fields import find_round
from fedhealth.transport.protocol.finalization import IMPORTANCE, SUBGROUPS, decode_importance, decode_subgroups
from fedhealth.transport.protocol.masked_vectors import MASKED
from fedhealth.transport.protocol.newton import FIT_SUMS
from fedhealth.transport.protocol.roster import KEY, ROSTER, decode_key_reply, decode_roster
from fedhealth.transport.protocol.setup import (
    COUNTS_SUM,
    DESCRIBE,
    FIRST_MOMENTS,
    INITIAL_WEIGHTS,
    LABEL_COUNTS,
    SECOND_MOMENTS,
)
from fedhealth.transport.protocol.training import TRAIN, split_train_reply
from fedhealth.transport.tls.party_check import fingerprint

if TYPE_CHECKING:
    from fedhealth.client.personalization import Outcome


HEADINGS = ("accuracy", "AUROC", "Brier", "loss")
SETUP = (
    *(FEASIBILITY, DESCRIBE, KEY, ROSTER, COUNTS_SUM),
    *(FIRST_MOMENTS, SECOND_MOMENTS, LABEL_COUNTS, INITIAL_WEIGHTS),
)
"""A hospital that cannot reply to one of these is excluded from the run."""
SIMPLE_LINES = {
    DESCRIBE: "ready; waiting for the other hospitals",
    FIT_SUMS: "sent the sums for standard errors at the final coefficients",
    FEASIBILITY: "sent how many patients lack each value and have the outcome; this run trains no model",
}
"""Message -> the line about any reply to it."""
PERSONAL = {"intercept": "personal model (own intercept)", "finetune": "personal model (fine-tuned here)"}


def own_importance_line(schema: Schema, reply: Message) -> str:
    """The permutation importance that this hospital has just sent, or why it sent none."""
    importance = decode_importance(reply.content)
    if importance is None:
        return "sent no permutation importance: too few test patients are ill, or too few healthy (--min-count)"
    drops = largest_drops(dict(zip(schema.feature_names, importance.drops, strict=True)))
    return f"most important features on your test patients (drop in AUROC when permuted): {drops}"


def outcome_lines(outcome: "Outcome") -> list[str]:
    """The models on the hospital's own test patients as a table, their comparison, and a warning if a class is small."""
    ill, patients = int(outcome.labels.sum()), len(outcome.labels)
    how = outcome.models["global"].settings.personalise
    names = {"global": "global model", "personal": PERSONAL.get(how, ""), "alone": "local model (your patients only)"}
    rows = [(names[model], *_metrics(outcome, model)) for model in outcome.models]
    table = format_table((f"on your {patients} test patients", *HEADINGS), rows, text_columns=1, terminal=False)
    lines = ["", *table.splitlines()]
    lines += [comparison_sentence(model, comparison) for model, comparison in outcome.comparisons.items()]
    if "alone" not in outcome.models:
        lines.append("no comparison: the local model diverged; use a lower --learning-rate at the server")
    elif outcome.trained_on_only:
        lines.append(f"the local model has no AUROC: its training patients are all {outcome.trained_on_only}")
    few, word = min((ill, "ill"), (patients - ill, "healthy"))
    if few:
        lines.append("AUROC in this table is exact; that of the rounds, and of the server, comes from bins of risk")
    if few < FEW_PATIENTS:
        how_many = f"only {few}" if few else "none"
        lines.append(f"AUROC is unreliable here: {how_many} of the test patients {'is' if few == 1 else 'are'} {word}")
    return lines


def _metrics(outcome: "Outcome", model: str) -> Sequence[str]:
    risks = outcome.risks[model]
    own = compute_metrics(score_histogram(risks, outcome.labels))
    has_ranking = model != "alone" or not outcome.trained_on_only
    auroc = exact_auroc(risks, outcome.labels) if has_ranking else None
    values = (own.accuracy, auroc, own.brier, own.loss)
    return ["n/a" if value is None else f"{value:.3f}" for value in values]


def client_line(schema: Schema, message: Message, reply: Message) -> str | None:
    """The line to print about one of the hospital's own replies; None if there is none."""
    kind = message.metadata.message_type
    if reply.has_error():
        without = "this hospital cannot take part" if kind in SETUP else "the run continues without this reply"
        return f"could not reply to {kind}; {without}"
    if kind in SIMPLE_LINES or MASKED in reply.content:  # masked: sent again, to the same request
        return SIMPLE_LINES.get(kind)
    if kind in (KEY, ROSTER):
        return own_key_line(reply) if kind == KEY else roster_line(message)
    if kind == SUBGROUPS:
        sent = decode_subgroups(reply.content)
        return f"sent test results by subgroup: {', '.join(sent) or 'none, every group is too small'}"
    if kind == IMPORTANCE:
        return own_importance_line(schema, reply)
    return own_evaluation_line(message, reply) if kind in (TRAIN, EVALUATE) else None


def own_key_line(reply: Message) -> str | None:
    """The fingerprint of the hospital's certificate, for the other hospitals' --pin; None without TLS."""
    entry = decode_key_reply(reply.content)
    if not entry.certificate:
        return "secure aggregation without certificates: whoever controls this computer can read the masked numbers"
    return (
        f"secure aggregation: the line for the other hospitals' --pin is {fingerprint(entry.certificate)} {entry.name}"
    )


def roster_line(message: Message) -> str:
    """The roster that this hospital has accepted."""
    roster = decode_roster(message.content)
    return (
        f"secure aggregation: the server can read sums over {', '.join(roster.names)} only, as long as all of them show the "
        f"digits {roster.shown_digest}"
    )


def own_evaluation_line(message: Message, reply: Message) -> str | None:
    """The metrics of the evaluation that this hospital has just sent; None if it sent none with its training."""
    if message.metadata.message_type == TRAIN:
        _, content = split_train_reply(reply.content)
        which = f"round {find_round(message.content) - 1:>3}"
    else:
        content, request = reply.content, decode_evaluate_request(message.content)
        which = "final model" if request.final else f"round {request.round_num:>3}"
    if content is None:
        return None
    tested = decode_evaluate_reply(content).tested
    own = compute_metrics(ScoreHistogram(tested.positives, tested.negatives, tested.log_loss, tested.squared_error))
    return (
        f"{which}   own test patients: loss {number(own.loss)}   AUROC {number(own.auroc)}   "
        f"accuracy {number(own.accuracy, 2)}"
    )
