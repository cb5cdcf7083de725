"""Invented hospitals by number, each in well under a millisecond: for simulations of very many.

The recipe and the statistics are those of `synthetic.py`, number for number; what does not depend on the draw is computed
once, and no table is built.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedhealth.data import schema
from fedhealth.data.sources.synthetic import (
    COLUMNS,
    DECIMALS,
    GROUPS,
    FloatArray,
    count_patients,
    find_column,
    find_missing_patterns,
    find_shift,
    load_statistics,
    pattern_columns,
    quantile_curve,
    read_correlations,
)

STREAM = 0xC403D
"""Keeps these draws apart from every other use of the same seed."""


@dataclass(frozen=True, eq=False)
class ColumnPlan:
    """How standard normal draws become values of a column: by codes, or along a curve."""

    name: str
    shift: float
    scale: float
    edges: FloatArray
    """Normal scores: between the codes, or of the curve's points."""
    values: FloatArray
    """The codes, or the values at the curve's points."""
    is_coded: bool
    lowest: float = 0.0
    highest: float = 0.0


@dataclass(frozen=True, eq=False)
class GroupPlan:
    """All that is needed to invent patients of one hospital and label."""

    mixing: FloatArray
    """(columns + 1, columns + 1): independent normals times this have the group's correlations."""
    columns: Sequence[ColumnPlan]
    missing_edges: FloatArray
    missing: NDArray[np.bool_]
    """(patterns, columns): which columns are missing together."""


def sample_one(number: int, num_patients: int, seed: int) -> tuple[str, FloatArray, NDArray[np.float32]]:
    """The invented hospital of that number (from 0): name, features (num_patients, 13), labels (num_patients,).

    It is modelled on one of the four real hospitals, which take turns.
    """
    original = tuple(schema.HOSPITALS)[number % len(schema.HOSPITALS)]
    features, labels = sample_patients_of(original, num_patients, np.random.default_rng([STREAM, seed, number]))
    return f"{schema.SYNTHETIC_PREFIX}{original}-{number + 1:06d}", features, labels


def sample_patients_of(
    hospital: str, num_patients: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.float32]]:
    """What `synthetic.sample_hospital` invents from the same `rng`, as arrays."""
    num_ill = min(max(round(num_patients * find_prevalence(hospital)), 1), num_patients - 1)
    sizes = {"healthy": num_patients - num_ill, "ill": num_ill}
    drawn = np.concatenate([draw_group(plan_group(hospital, group), sizes[group], rng) for group in GROUPS])
    shuffled = drawn[rng.permutation(num_patients)]
    return shuffled[:, :-1], (shuffled[:, -1] > 0).astype(np.float32)


@cache
def find_prevalence(hospital: str) -> float:
    """Share of the hospital's real patients who are ill."""
    fitted = load_statistics()
    return int(fitted[hospital]["ill"]["patients"]) / count_patients(fitted, hospital)


@cache
def plan_group(hospital: str, group: str) -> GroupPlan:
    """Everything of `synthetic.sample_group` that no draw changes."""
    fitted = load_statistics()
    correlations = read_correlations(fitted[hospital][group]["correlations"])
    patterns = find_missing_patterns(fitted, hospital, group)
    ends = fitted["all"]["ends"] | fitted[hospital]["ends"]
    columns = []
    for index, name in enumerate(COLUMNS):
        shift, scale = find_shift(correlations[index, -1], patterns, name)
        columns.append(plan_column(name, shift, scale, find_column(fitted, hospital, group, name), ends))
    return GroupPlan(
        mixing=np.asarray(np.linalg.cholesky(correlations).T, dtype=np.float64),
        columns=columns,
        missing_edges=find_edges(list(patterns.values())),
        missing=np.array([[name in pattern_columns(pattern) for name in COLUMNS] for pattern in patterns]),
    )


def plan_column(
    name: str, shift: float, scale: float, statistics: dict[str, object], ends: dict[str, list[float]]
) -> ColumnPlan:
    """A column's part of a plan, from its entry in `fitted.toml`."""
    counts, quantiles = statistics.get("counts"), statistics.get("quantiles")
    if isinstance(counts, dict):
        codes = np.array([float(code) for code in counts])
        return ColumnPlan(name, shift, scale, find_edges(list(counts.values())), codes, is_coded=True)
    if not isinstance(quantiles, list):
        raise ValueError(f"{name} has neither counts nor quantiles in cohort.toml")
    scores, values = quantile_curve(quantiles, *ends[name])
    column = next(column for column in schema.FEATURES if column.name == name)
    return ColumnPlan(name, shift, scale, scores, values, False, column.minimum, column.maximum)


def find_edges(counts: list[int]) -> FloatArray:
    """Normal scores that part the codes as often as `counts` says."""
    from scipy.stats import norm

    return np.asarray(norm.ppf(np.cumsum(counts)[:-1] / np.sum(counts)), dtype=np.float64)


def draw_group(plan: GroupPlan, num_patients: int, rng: np.random.Generator) -> FloatArray:
    """Patients of one hospital and label, shape (num_patients, columns), NaN where a value is missing."""
    draws = rng.standard_normal((num_patients, len(plan.mixing))) @ plan.mixing
    drawn = np.column_stack([draw_column(column, draws[:, index]) for index, column in enumerate(plan.columns)])
    drawn[plan.missing[np.searchsorted(plan.missing_edges, draws[:, -1])]] = np.nan
    return drawn


def draw_column(plan: ColumnPlan, draws: FloatArray) -> FloatArray:
    """Standard normal draws -> values, rounded and in their valid range, shape (num_patients,)."""
    scores = (draws - plan.shift) / plan.scale
    if plan.is_coded:
        return plan.values[np.searchsorted(plan.edges, scores)]
    values = np.interp(scores, plan.edges, plan.values).clip(plan.lowest, plan.highest)
    return np.asarray(values.round(DECIMALS.get(plan.name, 0)) + 0.0, dtype=np.float64)
