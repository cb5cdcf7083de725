"""What the coordinator reads after the rounds: permutation importance, and what the model is worth to hospitals."""

from collections import Counter
from collections.abc import Mapping

from fedhealth.metrics.paired_comparison import PairedComparison, comparison_sentence
from fedhealth.metrics.permutation_importance import Importance, rank_features

MOST_FEATURES = 5
"""Of the 13 features, so many are named on the screen; the report shows all."""
MANY = 20
"""More hospitals than this are not listed one by one."""
FEW_PATIENTS = 10
"""Fewer tested patients of one class than this, and an AUROC is mostly chance."""


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
        f"the model goes by {largest_drops(told.together)} ... (AUROC lost when a feature is shuffled in each hospital)",
        *silent,
    ]


def comparison_lines(verdicts: Mapping[str, Mapping[str, PairedComparison]]) -> list[str]:
    """What the model was worth to the hospitals that said so (client.py --share-verdict)."""
    if len(verdicts) > MANY:
        words = Counter(each["global"].words.replace("yours ", "") for each in verdicts.values())
        counts = ", ".join(f"{word} {number:,}" for word, number in words.most_common())
        return [f"{len(verdicts):,} hospitals say whether the global model was worth it: {counts}"]
    return [
        f"{name} says: {comparison_sentence(model, verdict, 'its own alone')}"
        for name, each in sorted(verdicts.items())
        for model, verdict in each.items()
    ]


def largest_drops(drops: Mapping[str, float]) -> str:
    """The features that cost most AUROC when shuffled, with what they cost."""
    return ", ".join(f"{name} {drop:.3f}" for name, drop in rank_features(drops)[:MOST_FEATURES])
