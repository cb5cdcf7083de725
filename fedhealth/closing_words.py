"""What is said when the rounds are over: what the model goes by, and what it was worth to a hospital."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flwr.app import Message

from fedhealth.importance import Importance, rank_features
from fedhealth.metrics import compute_metrics, exact_auroc, score_histogram
from fedhealth.schema import FEATURE_NAMES
from fedhealth.tables import format_table
from fedhealth.verdict import Verdict, verdict_sentence

if TYPE_CHECKING:
    from fedhealth.own_models import Outcome

MOST_FEATURES = 5
"""Of the 13 features, so many are named on the screen; the report shows all."""
MANY = 20
"""More hospitals than this are not listed one by one."""
FEW_PATIENTS = 10
"""Fewer tested patients of one class than this, and an AUROC is mostly chance."""
HEADINGS = ("accuracy", "AUROC", "Brier", "loss")
PERSONAL = {"intercept": "personal (a bias of its own)", "finetune": "personal (trained further here)"}


# --- at the server ----------------------------------------------------------------------------------------------------


def importance_lines(told: Importance | None) -> list[str]:
    """What the final model goes by, and who did not tell; nothing if nobody was asked."""
    if told is None:
        return []
    silent = [f"{name} is not in it: {reason}" for name, reason in sorted(told.not_told.items())]
    if len(silent) > MANY:
        silent = [f"{len(silent):,} hospitals are not in it (why: summary.json)"]
    if not told.together:
        return ["what the model goes by is not known: no hospital told it", *silent]
    return [
        f"the model goes by {_largest(told.together)} ... (AUROC lost when a feature is shuffled in each hospital)",
        *silent,
    ]


def verdict_lines(verdicts: Mapping[str, Mapping[str, Verdict]]) -> list[str]:
    """What the model was worth to the hospitals that said so (client.py --share-verdict)."""
    if len(verdicts) > MANY:
        words = Counter(each["global"].words.replace("yours ", "") for each in verdicts.values())
        counts = ", ".join(f"{word} {number:,}" for word, number in words.most_common())
        return [f"{len(verdicts):,} hospitals say whether the global model was worth it: {counts}"]
    return [
        f"{name} says: {verdict_sentence(model, verdict, 'its own alone')}"
        for name, each in sorted(verdicts.items())
        for model, verdict in each.items()
    ]


# --- in the hospital --------------------------------------------------------------------------------------------------


def own_importance_line(reply: Message) -> str:
    """What the final model goes by among a hospital's own test patients, as this hospital has just told the server."""
    if not reply.content:
        return "what the model goes by here stays here: few test patients are ill, or few healthy (--min-count)"
    drops: list[float] = reply.content.metric_records["importance"]["auroc-drops"]  # type: ignore[assignment]  # a list
    told = _largest(dict(zip(FEATURE_NAMES, drops, strict=True)))
    return f"here, the model goes by {told} ... (AUROC lost when a feature is shuffled)"


def outcome_lines(outcome: "Outcome") -> list[str]:
    """The models beside each other, on the hospital's own test patients, and the verdicts in plain words."""
    ill, patients = int(outcome.labels.sum()), len(outcome.labels)
    how = outcome.models["global"].settings.personalise
    names = {"global": "global model", "personal": PERSONAL.get(how, ""), "alone": "your patients alone"}
    rows = [(names[model], *_metrics(outcome, model)) for model in outcome.models]
    table = format_table((f"on your {patients} test patients", *HEADINGS), rows, text_columns=1, terminal=False)
    lines = ["", *table.splitlines()]
    lines += [verdict_sentence(model, verdict) for model, verdict in outcome.verdicts.items()]
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


def _largest(drops: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {drop:.3f}" for name, drop in rank_features(drops)[:MOST_FEATURES])
