"""The hospitals' part of summary.json: metrics of the final model and number of patients of each."""

from collections.abc import Mapping

import numpy as np

from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import Metrics, add_histograms
from fedhealth.metrics.many_histograms import ManyHistograms
from fedhealth.metrics.many_rows import ManyRows
from fedhealth.server.events import RunFinished

SUMMARY_METRICS = ("auroc", "accuracy", "brier", "loss", "sensitivity", "specificity", "auroc_bound", "ece")


def tabulate_hospitals(finished: RunFinished) -> Mapping[str, dict[str, int | float | None]]:
    """Each hospital's metrics and its number of patients, in the order of the run."""
    metrics, histograms = finished.final.hospitals, finished.histograms
    patients = {member.name: member.patients for member in finished.members}
    if isinstance(histograms, ManyHistograms) and isinstance(metrics, ManyRows) and len(histograms) == len(metrics):
        columns = {key: metrics.columns[key] for key in SUMMARY_METRICS} | histograms.clinical()
        return ManyRows(list(metrics), {**columns, "patients": np.array([patients[name] for name in metrics])}, dict)
    return {
        name: {**summary_metrics(each), **_clinical(finished, name), "patients": patients[name]}
        for name, each in metrics.items()
    }


def summary_metrics(metrics: Metrics) -> dict[str, float | None]:
    """The metrics that summary.json has beside the clinical ones."""
    return {key: getattr(metrics, key) for key in SUMMARY_METRICS}


def _clinical(finished: RunFinished, name: str) -> Mapping[str, float | None]:
    histogram = finished.histograms[name] if name in finished.histograms else add_histograms([])
    return flat_metrics(compute_clinical_metrics(histogram))
