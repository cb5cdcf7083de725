"""What a hospital reads in its own terminal: its answers, and what the final model is worth to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flwr.app import Message

from fedhealth.common.text_table import format_table
from fedhealth.data.schema import FEATURE_NAMES
from fedhealth.metrics.histogram import check_histogram, compute_metrics, score_histogram
from fedhealth.metrics.paired_comparison import comparison_sentence
from fedhealth.metrics.ranking import exact_auroc
from fedhealth.reporting.console.final_text import FEW_PATIENTS, largest_drops
from fedhealth.reporting.format import number
from fedhealth.transport.protocol.evaluation import EVALUATE, decode_evaluate_reply, decode_evaluate_request
from fedhealth.transport.protocol.finalization import IMPORTANCE, SUBGROUPS, decode_importance, decode_subgroups
from fedhealth.transport.protocol.setup import DESCRIBE

if TYPE_CHECKING:
    from fedhealth.client.personalization import Outcome


HEADINGS = ("accuracy", "AUROC", "Brier", "loss")
PERSONAL = {"intercept": "personal (a bias of its own)", "finetune": "personal (trained further here)"}


def own_importance_line(reply: Message) -> str:
    """What the final model goes by among a hospital's own test patients, as this hospital has just told the server."""
    importance = decode_importance(reply.content)
    if importance is None:
        return "what the model goes by here stays here: few test patients are ill, or few healthy (--min-count)"
    told = largest_drops(dict(zip(FEATURE_NAMES, importance.drops, strict=True)))
    return f"here, the model goes by {told} ... (AUROC lost when a feature is shuffled)"


def outcome_lines(outcome: "Outcome") -> list[str]:
    """The models beside each other, on the hospital's own test patients, and the verdicts in plain words."""
    ill, patients = int(outcome.labels.sum()), len(outcome.labels)
    how = outcome.models["global"].settings.personalise
    names = {"global": "global model", "personal": PERSONAL.get(how, ""), "alone": "your patients alone"}
    rows = [(names[model], *_metrics(outcome, model)) for model in outcome.models]
    table = format_table((f"on your {patients} test patients", *HEADINGS), rows, text_columns=1, terminal=False)
    lines = ["", *table.splitlines()]
    lines += [comparison_sentence(model, verdict) for model, verdict in outcome.verdicts.items()]
    if "alone" not in outcome.models:
        lines.append(
            "no comparison: the model of your patients alone diverged; a lower --learning-rate at the server helps"
        )
    few, word = min((ill, "ill"), (patients - ill, "healthy"))
    if few < FEW_PATIENTS:
        lines.append(f"AUROC says little here: {few} of the test patients {'is' if few == 1 else 'are'} {word}")
    return lines


def _metrics(outcome: "Outcome", model: str) -> Sequence[str]:
    risks = outcome.risks[model]
    own = compute_metrics(score_histogram(risks, outcome.labels))
    values = (own.accuracy, exact_auroc(risks, outcome.labels), own.brier, own.loss)
    return ["n/a" if value is None else f"{value:.3f}" for value in values]


def client_line(message: Message, reply: Message) -> str | None:
    """What a hospital reads about one of its own answers; None where there is nothing to tell."""
    kind = message.metadata.message_type
    if reply.has_error():
        return f"could not answer {kind}; the federation goes on without this answer"
    if kind == DESCRIBE:
        return "ready; waiting for the other hospitals"
    if kind == SUBGROUPS:
        told = decode_subgroups(reply.content)
        return f"told how own test patients fare by sex and age band: {', '.join(told) or 'no group is large enough'}"
    if kind == IMPORTANCE:
        return own_importance_line(reply)
    if kind != EVALUATE:
        return None
    request, tested = decode_evaluate_request(message.content), decode_evaluate_reply(reply.content).tested
    own = compute_metrics(check_histogram(**vars(tested)))
    which = "final model" if request.final else f"round {request.round_num:>3}"
    return (
        f"{which}   own test patients: loss {number(own.loss)}   AUROC {number(own.auroc)}   "
        f"accuracy {number(own.accuracy, 2)}"
    )
