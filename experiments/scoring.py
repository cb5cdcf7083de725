"""Metrics of one repetition: per hospital, their unweighted mean, and pooled."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.histogram import compute_metrics, score_histogram
from fedhealth.metrics.ranking import exact_auroc

METRIC_NAMES = {"accuracy": "accuracy", "auroc": "AUROC", "brier": "Brier", "ece": "ECE"}
"""Key in results.json -> name in tables and figures."""
POOLED, MEAN = "union", "mean"
LABELS = {POOLED: "pooled", MEAN: "mean"}
"""Key in results.json -> label in tables and figures."""


@dataclass(frozen=True, eq=False)
class Tested:
    """Test patients of one hospital in one repetition: place in the hospital's table, label, risk; each (num_patients,)."""

    places: NDArray[np.int64]
    labels: NDArray[np.float32]
    risks: NDArray[np.float64]
    trained_on_only: str = ""
    """`ill` or `healthy` if the model was trained on such patients only, so that it has learned no ranking."""


def join(parts: list[Tested]) -> Tested:
    """The concatenated patients of several folds or hospitals."""
    places, labels, risks = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("places", "labels", "risks")
    )
    return Tested(places, labels, risks, max(part.trained_on_only for part in parts))


def score(hospitals: Mapping[str, Tested]) -> dict[tuple[str, str], float]:
    """(hospital, metric) -> value; undefined values are left out, also of the mean.

    A hospital's AUROC is undefined under a model of patients of one class. The pooled one is not: between hospitals, such a
    model's risks are a ranking.
    """
    values = {name: score_hospital(tested) for name, tested in hospitals.items()}
    values[POOLED] = score_one(join(list(hospitals.values())))
    for metric in METRIC_NAMES:
        known = [values[name][metric] for name in hospitals if metric in values[name]]
        if known:
            values.setdefault(MEAN, {})[metric] = float(np.mean(known))
    return {(name, metric): value for name, metrics in values.items() for metric, value in metrics.items()}


def score_hospital(tested: Tested) -> dict[str, float]:
    """Metrics of one hospital's patients, without an AUROC if the model has learned no ranking."""
    found = score_one(tested)
    return {name: value for name, value in found.items() if name != "auroc" or not tested.trained_on_only}


def score_one(tested: Tested) -> dict[str, float]:
    """Metrics of one group of patients; the AUROC is exact, from the risks themselves."""
    metrics = compute_metrics(score_histogram(tested.risks, tested.labels))
    found = {"accuracy": metrics.accuracy, "brier": metrics.brier, "ece": metrics.ece}
    found["auroc"] = exact_auroc(tested.risks, tested.labels)
    return {name: value for name, value in found.items() if value is not None}
