"""The hospitals' histograms of one evaluation -> what a round's record says of it."""

from collections.abc import Mapping
from typing import Any

from fedhealth.metrics import ScoreHistogram, add_histograms, compute_metrics

Histograms = Mapping[str, ScoreHistogram]
"""By hospital."""


def evaluation_fields(tested: Histograms, held: Histograms) -> dict[str, Any]:
    """The fields of a `RoundRecord` that follow from histograms of test patients and of those held out for choices.

    Always in the order of names: sums depend on the order in the last bit, and engines number their nodes as they like.
    """
    tested, held = dict(sorted(tested.items())), dict(sorted(held.items()))
    return {
        "union": compute_metrics(add_histograms(tested.values())),
        "hospitals": {name: compute_metrics(histogram) for name, histogram in tested.items()},
        "histograms": tested,
        "validation": compute_metrics(add_histograms(held.values())) if held else None,
        "validation_histograms": held,
    }
