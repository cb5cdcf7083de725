"""Permutation importance: a bar per feature with the weighted mean over hospitals, and a marker per hospital."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from fedhealth.data.schema import Schema
from fedhealth.metrics.permutation_importance import rank_features
from fedhealth.reporting.format import NOT_DISCLOSED
from fedhealth.reporting.html.charts import NUM_STYLES, pick_styles
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.html.svg_bars import Bar, draw_bars, draw_mark
from fedhealth.reporting.html.tables import has_few

DIGITS = 3
Drops = Mapping[str, float]


def find_importance(run: RunRecord) -> tuple[Drops, dict[str, Drops]]:
    """AUROC drops: the weighted mean, largest first, and of each hospital that may be shown; both empty if not requested."""
    importance = run.summary.importance if run.summary else None
    if importance is None:
        return {}, {}
    tested = run.history[-1].hospitals
    if run.are_sums:
        return dict(rank_features(importance.together)), {}
    # --min-count can let hospitals send drops that rest on fewer than 5 patients of a class; this page never shows those.
    enough = {name for name, metrics in tested.items() if not has_few(metrics)}
    shown = {name: drops for name, drops in importance.hospitals.items() if name in enough}
    return dict(rank_features(importance.together)), shown


def feature_parts(run: RunRecord) -> dict[str, Any]:
    """Values for the templates: the chart, its legend and its table; empty ones if importance was not requested."""
    together, hospitals = find_importance(run)
    styles = pick_styles(run.disclosed_names)
    shown = {name: drops for name, drops in hospitals.items() if len(styles) <= NUM_STYLES}
    return {
        "chart": _chart(run.schema, together, hospitals, shown, styles) if together else None,
        "legend": [(name, styles[name], draw_mark(styles[name])) for name in shown],
        "many": len(hospitals) if not shown else 0,
        "headings": ("feature", "weighted mean", *shown),
        "rows": [
            (_label(run.schema, name), *(f"{d[name]:.{DIGITS}f}" for d in (together, *shown.values())))
            for name in together
        ],
        "suppressed": [name for name in styles if name not in hospitals] if together else [],
        "ranges": _ranges(run, together, hospitals),
    }


def _chart(
    schema: Schema,
    together: Drops,
    hospitals: Mapping[str, Drops],
    shown: Mapping[str, Drops],
    styles: Mapping[str, str],
) -> Markup:
    bars = []
    for feature, drop in together.items():
        marks = [(name, styles[name], drops[feature]) for name, drops in shown.items()]
        each = sorted(drops[feature] for drops in hospitals.values())
        spread = None if shown or not each else (each[len(each) // 20], each[-1 - len(each) // 20])
        bars.append(Bar(_label(schema, feature), drop, marks, spread))
    return draw_bars("Permutation importance", bars, "drop in AUROC when the feature is permuted")


def _label(schema: Schema, feature: str) -> str:
    meaning = schema.columns[feature].meaning
    return feature if meaning == feature else f"{meaning} ({feature})"


def _ranges(run: RunRecord, together: Drops, hospitals: Mapping[str, Drops]) -> list[tuple[str, str, str]]:
    """(feature, weighted mean drop, range over hospitals): rows of the model card."""
    rows = []
    for feature, drop in together.items():
        each = [drops[feature] for drops in hospitals.values()]
        none = NOT_DISCLOSED if run.are_sums else "n/a"
        between = f"{min(each):.{DIGITS}f} to {max(each):.{DIGITS}f}" if each else none
        rows.append((_label(run.schema, feature), f"{drop:.{DIGITS}f}", between))
    return rows
