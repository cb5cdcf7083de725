"""The difference between two models on the same patients, from a histogram of risks of each.

How much such a difference varies depends on how often both models are wrong about the same patient. Two histograms do not
hold that, so no exact interval follows from them, but one that is wide enough whatever the pairing: the method of variance
estimates recovery (Zou & Donner 2008, "Construction of confidence limits about effect measures: a general approach", with
Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired data") makes
an interval of a difference from the two intervals and the correlation of the estimates. With a correlation of -1, the worst
that is possible, it runs from the one's lower limit minus the other's upper limit to the reverse.
"""

from dataclasses import dataclass, replace

from fedhealth.metrics.bootstrap import Interval
from fedhealth.metrics.histogram import ScoreHistogram, compute_metrics
from fedhealth.metrics.intervals import confidence_intervals

COMPARED = ("auroc", "accuracy", "brier")


@dataclass(frozen=True)
class Difference:
    """A metric of one model minus that of the other; None where it is undefined."""

    metric: str
    difference: float | None
    at_most: Interval | None
    """Limits of a 95 % interval under the worst pairing."""


def bound_differences(histogram: ScoreHistogram, reference: ScoreHistogram) -> list[Difference]:
    """Each of `COMPARED` under `histogram` minus under `reference`; both are of the same patients."""
    ours, theirs = vars(compute_metrics(histogram)), vars(compute_metrics(reference))
    limits, reference_limits = confidence_intervals(histogram), confidence_intervals(reference)
    found = []
    for metric in COMPARED:
        one, other = ours[metric], theirs[metric]
        difference = None if one is None or other is None else one - other
        found.append(Difference(metric, difference, _widest(limits.get(metric), reference_limits.get(metric))))
    auroc, *others = found
    return [_with_bins(auroc, ours["auroc_bound"], theirs["auroc_bound"]), *others]


def _widest(limits: Interval | None, reference: Interval | None) -> Interval | None:
    return (limits[0] - reference[1], limits[1] - reference[0]) if limits and reference else None


def _with_bins(auroc: Difference, bound: float | None, reference_bound: float | None) -> Difference:
    """The AUROC's difference with limits that also allow for what the bins can have changed in both."""
    if auroc.at_most is None or bound is None or reference_bound is None:
        return auroc
    low, high = auroc.at_most
    return replace(auroc, at_most=(low - bound - reference_bound, high + bound + reference_bound))
