"""The coordinator's lines after the rounds: permutation importance, and the comparisons that hospitals shared."""

from collections import Counter
from collections.abc import Mapping

from fedhealth.metrics.paired_comparison import PairedComparison, comparison_sentence
from fedhealth.metrics.permutation_importance import Importance, rank_features

TOP_FEATURES = 5
"""How many of the features the console lists; the report lists all."""
MANY = 20
"""More hospitals than this are not listed one by one."""
FEW_PATIENTS = 10
"""With fewer test patients of one class than this, an AUROC is mostly chance."""


def importance_lines(importance: Importance | None) -> list[str]:
    """The most important features of the final model, and the hospitals that sent no importance; empty if not requested."""
    if importance is None:
        return []
    absent = [
        f"permutation importance excludes {name}: {reason}" for name, reason in sorted(importance.missing.items())
    ]
    if len(absent) > MANY:
        absent = [f"permutation importance excludes {len(absent):,} hospitals (reasons: summary.json)"]
    if not importance.together:
        return ["permutation importance is unknown: no hospital sent it", *absent]
    drops = largest_drops(importance.together)
    return [f"most important features (drop in AUROC when permuted within each hospital): {drops}", *absent]


def comparison_lines(comparisons: Mapping[str, Mapping[str, PairedComparison]]) -> list[str]:
    """The comparisons with a local model that hospitals shared (client.py --share-verdict); many are only counted."""
    if len(comparisons) > MANY:
        words = Counter(each["global"].words for each in comparisons.values())
        counts = ", ".join(f"{word} {number:,}" for word, number in words.most_common())
        return [f"{len(comparisons):,} hospitals compared the global model with their local one: {counts}"]
    return [
        f"{name} reports: {comparison_sentence(model, comparison)}"
        for name, each in sorted(comparisons.items())
        for model, comparison in each.items()
    ]


def largest_drops(drops: Mapping[str, float]) -> str:
    """The features with the largest AUROC drops, as text."""
    return ", ".join(f"{name} {drop:.3f}" for name, drop in rank_features(drops)[:TOP_FEATURES])
