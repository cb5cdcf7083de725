"""What a page shows of very many hospitals: quantiles over them and a few rows, instead of a row and a line for each.

Figures that rest on 1 to 4 patients of a class are in no quantile; see `tables.has_few`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.histogram import Metrics
from fedhealth.metrics.many_rows import ManyRows
from fedhealth.reporting.format import number
from fedhealth.reporting.html import tables
from fedhealth.reporting.html.curves import SMALL_COUNT
from fedhealth.reporting.html.folding import EXTREMES
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.reporting.html.tables import Row
from fedhealth.server.records import RoundRecord

QUANTILES = {
    "5th percentile": 0.05,
    "25th percentile": 0.25,
    "median": 0.5,
    "75th percentile": 0.75,
    "95th percentile": 0.95,
}
FIGURES = {
    "auroc": "AUROC",
    "brier": "Brier",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
NEED_BOTH_CLASSES = ("auroc", "sensitivity", "specificity")
"""Not shown of a hospital with few patients of a class."""
MOST_LEFT_OUT = 100
"""Of hospitals that took no part; more are only counted."""
HEADINGS = ("over hospitals", *FIGURES.values())
Values = NDArray[np.float64]


@dataclass(frozen=True)
class ManyHospitals:
    """The tables of a run with very many hospitals; `rows` has some hospitals and the pool."""

    number: int
    quantiles: Sequence[Row]
    rows: Sequence[Row]


def summarise_many(run: RunRecord) -> ManyHospitals | None:
    """The tables of a run with very many hospitals; None of others."""
    if not run.is_very_many or not run.history:
        return None
    return ManyHospitals(len(run.names), _quantile_rows(run.final.hospitals), _extreme_rows(run))


def metric_columns(hospitals: Mapping[str, Metrics]) -> dict[str, Values]:
    """The hospitals' figures by name, and their numbers of patients; NaN where one is undefined or rests on few patients."""
    keys = ("num_examples", "num_ill", "loss", *FIGURES)
    if isinstance(hospitals, ManyRows):
        columns = {key: np.asarray(hospitals.columns[key], dtype=np.float64) for key in keys}
    else:
        each = list(hospitals.values())
        columns = {key: np.array([getattr(metrics, key) for metrics in each], dtype=np.float64) for key in keys}
    few = find_few(columns)
    return columns | {key: np.where(few, np.nan, columns[key]) for key in NEED_BOTH_CLASSES}


def find_few(columns: Mapping[str, Values]) -> NDArray[np.bool_]:
    """`has_few` of each hospital."""
    ill, healthy = columns["num_ill"], columns["num_examples"] - columns["num_ill"]
    few: NDArray[np.bool_] = ((ill > 0) & (ill < SMALL_COUNT)) | ((healthy > 0) & (healthy < SMALL_COUNT))
    return few


def quantiles_by_round(entry: RoundRecord, key: str) -> dict[str, float | None]:
    """Quantile -> a figure of a round's evaluation; None if no hospital has it."""
    values = metric_columns(entry.hospitals)[key]
    return {name: _quantile(values, share) for name, share in QUANTILES.items()}


def _quantile(values: Values, share: float) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else None


def _quantile_rows(hospitals: Mapping[str, Metrics]) -> list[Row]:
    columns = metric_columns(hospitals)
    rows = [
        (name, *(number(_quantile(columns[key], share), 2) for key in FIGURES)) for name, share in QUANTILES.items()
    ]
    known = (f"{np.count_nonzero(~np.isnan(columns[key])):,}" for key in FIGURES)
    return [*rows, ("hospitals with a value", *known)]


def _extreme_rows(run: RunRecord) -> list[Row]:
    """The hospitals with the highest and the lowest AUROC, and the pool."""
    hospitals = run.final.hospitals
    columns, names = metric_columns(hospitals), list(hospitals)
    ranked = np.argsort(-columns["auroc"], kind="stable")[: np.count_nonzero(~np.isnan(columns["auroc"]))].tolist()
    extremes = ranked if len(ranked) <= 2 * EXTREMES else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    # Only then does the number of another hospital, which is shown, disclose that of the one with few patients of a class.
    hidden = tables.find_suppressed(hospitals) if np.count_nonzero(find_few(columns)) == 1 else set[str]()
    members = {member.name: member for member in run.settings.hospitals}
    return [
        *(tables.hospital_row(members[names[place]], hospitals[names[place]], hidden) for place in extremes),
        tables.total_row(run),
    ]


def worst_participation(run: RunRecord) -> list[tuple[str, list[str]]]:
    """Rows of the matrix of hospitals and rounds: of those that trained in the fewest rounds."""
    trained = Counter[str]()
    for entry in run.history:
        left_out = run.left_out(entry)
        if entry.asked:
            trained.update(name for name in entry.asked if name not in left_out)
        else:
            trained.subtract(left_out.keys())
    order = sorted(run.names, key=lambda name: trained[name])
    return tables.participation(run, order[: 2 * EXTREMES])


def left_out_lines(run: RunRecord, most: int = MOST_LEFT_OUT) -> list[tuple[str, str]]:
    """(hospital, why it took no part); of more than `most` the first ones, and how many more."""
    left_out = list(run.settings.left_out.items())
    if len(left_out) <= most:
        return left_out
    return [*left_out[:most], (f"each of {len(left_out) - most:,} more hospitals", "settings.json has the reasons")]
