"""The series of each chart and their styles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedhealth.metrics.histogram import Metrics, ScoreHistogram
from fedhealth.metrics.intervals import wilson_interval
from fedhealth.reporting.format import POOLED
from fedhealth.reporting.html.curves import (
    decision_points,
    find_outcomes,
    merge_bins,
    reliability_groups,
    roc_points,
)
from fedhealth.reporting.html.many_hospitals import quantiles_by_round
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.html.svg import Point, Series, draw_chart, find_range
from fedhealth.reporting.html.tables import has_few
from fedhealth.server.records import RoundRecord

NUM_STYLES = 7
"""Colours and dash patterns of the style sheet; more hospitals than this are all grey."""
MOST_POINTS, FEWEST_POINTS = 20_000, 20
"""The most points of a chart over all its lines, and the least of one line: keeps the page small after many rounds."""
SPREAD = {"5th percentile": "s0", "median": "s1", "95th percentile": "s2"}
"""The lines of very many hospitals and their styles."""
NamedHistogram = tuple[str, str, ScoreHistogram]
"""A line's name, style and histogram."""
CHANCE = Series("chance (AUROC 0.5)", [(0.0, 0.0), (1.0, 1.0)], "guide")


@dataclass(frozen=True)
class Charts:
    """The charts of a page and their common legend, (name, style)."""

    legend: Sequence[tuple[str, str]]
    rounds: Sequence[Markup]
    """Loss and AUROC by round."""
    risks: Sequence[Markup]
    """ROC, reliability and decision curve of the final model; empty without histograms."""
    without_curve: Sequence[str] = ()
    """Hospitals with too few ill or healthy test patients for a curve; none of very many hospitals, which have no curves."""


def pick_styles(names: Sequence[str]) -> dict[str, str]:
    """Name -> style; styles differ in colour and in dashes, so that lines can be distinguished without colour."""
    many = len(names) > NUM_STYLES
    return {name: "many" if many else f"s{place}" for place, name in enumerate(names)}


def run_charts(run: RunRecord) -> Charts:
    """The charts of one run: a line per hospital, and a thicker one for the pooled patients."""
    if run.is_very_many:
        return _many_charts(run)
    styles = pick_styles(run.disclosed_names)
    legend = [(POOLED, "pooled"), *styles.items()]
    if len(styles) > NUM_STYLES:
        legend = [(POOLED, "pooled"), (f"each of {len(styles)} hospitals", "many")]
    return Charts(
        legend=legend,
        rounds=[_by_round(run, styles, key, label) for key, label in (("loss", "log loss"), ("auroc", "AUROC"))],
        risks=_risk_charts(run, styles),
        without_curve=[name for name in run.histograms if name in styles and not roc_points(run.histograms[name])],
    )


def _risk_charts(run: RunRecord, styles: Mapping[str, str]) -> list[Markup]:
    """ROC of every hospital and pooled; reliability and decision curve only pooled."""
    if run.pooled is None or not roc_points(run.pooled):
        return []
    hospitals = [
        Series(name, roc_points(run.histograms[name]), styles[name]) for name in styles if name in run.histograms
    ]
    roc = [CHANCE, *(line for line in hospitals if line.points), Series(POOLED, roc_points(run.pooled), "pooled")]
    drawn = [(POOLED, "pooled", run.pooled)]
    return [_roc_chart(roc), _reliability_chart(drawn), _decision_chart(drawn)]


def _many_charts(run: RunRecord) -> Charts:
    """The charts of a run with very many hospitals: lines of quantiles over them by round, and the pooled patients."""
    legend = [(POOLED, "pooled"), *((f"{name} of the hospitals", style) for name, style in SPREAD.items())]
    rounds = []
    for key, label in (("loss", "log loss"), ("auroc", "AUROC")):
        entries = _thin_history(run)
        found = [(entry.round_num, quantiles_by_round(entry, key)) for entry in entries if entry.hospitals]
        lines = [
            Series(name, [(float(num), value) for num, each in found if (value := each[name]) is not None], style)
            for name, style in SPREAD.items()
        ]
        rounds.append(_draw_rounds(run, lines, key, label))
    return Charts(legend, rounds, _risk_charts(run, {}))


def _by_round(run: RunRecord, styles: Mapping[str, str], key: str, label: str) -> Markup:
    last_round = run.history[-1].hospitals if run.history else {}
    hidden = {name for name, metrics in last_round.items() if key == "auroc" and has_few(metrics)}
    lines = [
        Series(name, _points(run, lambda entry, n=name: entry.hospitals.get(n), key), style)  # type: ignore[misc]
        for name, style in styles.items()
        if name not in hidden
    ]
    return _draw_rounds(run, lines, key, label)


def _draw_rounds(run: RunRecord, hospitals: Sequence[Series], key: str, label: str) -> Markup:
    """The chart of these lines and of the pooled patients."""
    lines = list(hospitals)
    lines.append(Series(POOLED, _points(run, lambda entry: entry.pooled, key), "pooled"))
    values = [y for line in lines for _, y in line.points]
    last = max([entry.round_num for entry in run.history], default=1)
    rounds = max(2, last if run.summary else int(run.settings.settings["rounds"]))
    return draw_chart(f"{label} by round", lines, ("round", (1, rounds)), (label, find_range(values)))


def _points(run: RunRecord, pick: Callable[[RoundRecord], Metrics | None], key: str) -> list[Point]:
    found = [(entry.round_num, getattr(pick(entry), key, None)) for entry in _thin_history(run)]
    return [(float(round_num), float(value)) for round_num, value in found if value is not None]


def _thin_history(run: RunRecord) -> list[RoundRecord]:
    """The rounds that have a point, evenly spaced, with the last."""
    lines = 1 + (len(SPREAD) if run.is_very_many else len(run.names))
    every = -(-len(run.history) // max(FEWEST_POINTS, MOST_POINTS // lines))
    return [
        entry for place, entry in enumerate(run.history, start=1) if place % every == 0 or place == len(run.history)
    ]


def _roc_chart(lines: Sequence[Series]) -> Markup:
    return draw_chart("ROC curve", lines, ("1 - specificity", (0, 1)), ("sensitivity", (0, 1)))


def _reliability_line(name: str, style: str, histogram: ScoreHistogram) -> Series:
    groups = reliability_groups(merge_bins(histogram))
    points = [(group.mean, group.ill / group.patients) for group in groups]
    return Series(name, points, style, bars=[wilson_interval(group.ill, group.patients) for group in groups])


def _reliability_chart(drawn: Sequence[NamedHistogram]) -> Markup:
    guide = Series("perfect calibration", [(0.0, 0.0), (1.0, 1.0)], "guide")
    lines = [_reliability_line(*each) for each in drawn]
    return draw_chart("Reliability", [guide, *lines], ("mean predicted risk", (0, 1)), ("observed share ill", (0, 1)))


def _decision_chart(drawn: Sequence[NamedHistogram]) -> Markup:
    outcomes = [find_outcomes(merge_bins(histogram)) for _, _, histogram in drawn]
    both = [decision_points(each) for each in outcomes]
    models = [Series(name, model, style) for (name, style, _), (model, _) in zip(drawn, both, strict=True)]
    guides = [
        Series("treat all", [point for point in both[0][1] if point[1] > -0.05], "guide"),
        Series("treat none", [(0.0, 0.0), (1.0, 0.0)], "guide"),
    ]
    top = max(y for line in (*models, *guides) for _, y in line.points)
    y_range = (-0.05, top * 1.05 + 0.01)
    return draw_chart("Decision curve", [*guides, *models], ("threshold risk", (0, 1)), ("net benefit", y_range))


def comparison_charts(runs: Sequence[RunRecord]) -> Charts:
    """The charts of several runs: a line per run, of its pooled test patients."""
    styles = [f"s{place % NUM_STYLES}" for place in range(len(runs))]
    by_round = []
    for key, label in (("loss", "log loss"), ("auroc", "AUROC")):
        lines = [
            Series(run.name, _points(run, lambda entry: entry.pooled, key), style)
            for run, style in zip(runs, styles, strict=True)
        ]
        last = max(2, *(entry.round_num for run in runs for entry in run.history))
        values = [y for line in lines for _, y in line.points]
        by_round.append(draw_chart(f"{label} by round", lines, ("round", (1, last)), (label, find_range(values))))
    return Charts(
        [(run.name, style) for run, style in zip(runs, styles, strict=True)], by_round, _compare_risks(runs, styles)
    )


def _compare_risks(runs: Sequence[RunRecord], styles: Sequence[str]) -> list[Markup]:
    drawn = [
        (run.name, style, run.pooled)
        for run, style in zip(runs, styles, strict=True)
        if run.pooled is not None and roc_points(run.pooled)
    ]
    if not drawn:
        return []
    roc = [CHANCE, *(Series(name, roc_points(pooled), style) for name, style, pooled in drawn)]
    return [_roc_chart(roc), _reliability_chart(drawn), _decision_chart(drawn)]
