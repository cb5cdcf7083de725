"""Federated metrics: what one hospital says of its test patients, and what follows from the sum over hospitals.

`histogram.py` is what travels and the metrics of every round; `clinical.py` adds, from the same sums and nothing else, what a
doctor asks before using a model; `bootstrap.py` says how sure all of it is. `ranking.py` is for where the risks themselves
are at hand.
"""

from fedhealth.metrics.bootstrap import bootstrap_intervals
from fedhealth.metrics.clinical import (
    Calibration,
    ClinicalMetrics,
    NetBenefit,
    bin_log_odds,
    compute_calibration,
    compute_clinical_metrics,
    compute_decision_curve,
    compute_pr_auc,
    flat_metrics,
    sensitivity_at_specificity,
    youden_threshold,
)
from fedhealth.metrics.histogram import (
    NUM_BINS,
    NUM_CALIBRATION_BINS,
    SMALLEST_RISK,
    USUAL_THRESHOLD,
    Metrics,
    ScoreHistogram,
    add_histograms,
    compute_auroc,
    compute_calibration_error,
    compute_metrics,
    histogram_from_record,
    histogram_to_record,
    score_histogram,
)
from fedhealth.metrics.ranking import exact_auroc, row_aurocs, weighted_auroc

__all__ = [
    "NUM_BINS",
    "NUM_CALIBRATION_BINS",
    "SMALLEST_RISK",
    "USUAL_THRESHOLD",
    "Calibration",
    "ClinicalMetrics",
    "Metrics",
    "NetBenefit",
    "ScoreHistogram",
    "add_histograms",
    "bin_log_odds",
    "bootstrap_intervals",
    "compute_auroc",
    "compute_calibration",
    "compute_calibration_error",
    "compute_clinical_metrics",
    "compute_decision_curve",
    "compute_metrics",
    "compute_pr_auc",
    "exact_auroc",
    "flat_metrics",
    "histogram_from_record",
    "histogram_to_record",
    "row_aurocs",
    "score_histogram",
    "sensitivity_at_specificity",
    "weighted_auroc",
    "youden_threshold",
]
