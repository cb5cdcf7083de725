"""The fitted statistics of the four hospitals, and the plan from them of how a hospital's synthetic patients are drawn.

All statistics are in `fitted.toml`, measured by `experiments.synthetic_statistics`. A plan holds whatever does not depend
on the draw, so that a simulation of very many hospitals computes it once.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.sources.heart import FEATURE_NAMES, FEATURES, HEART, LABEL

FittedStatistics = dict[str, Any]
"""`fitted.toml` as read: `all` and every hospital, each with its ends and its groups (see the file's header)."""

FloatArray = NDArray[np.float64]

STATISTICS_FILE = Path(__file__).with_name("fitted.toml")
GROUPS = ("healthy", "ill")
"""The groups of a hospital's patients; the index is the target."""
COLUMNS: tuple[str, ...] = (*FEATURE_NAMES, LABEL.name)
"""What is drawn for every patient; one more variable decides which columns are missing."""
QUANTILE_COLUMNS: tuple[str, ...] = tuple(column.name for column in HEART.numbers if not column.codes)
"""Numbers that are described by quantiles; all others (`ca` too) by how many patients have each code."""
DECIMALS = {"oldpeak": 1}
"""As people write them down: ST depression to 0.1 mm, everything else in whole numbers."""
FARTHEST = 3.0
"""The normal score of a column's lowest and highest value (0.1 % of patients lie beyond)."""


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
    lowest: float = -np.inf
    highest: float = np.inf


@dataclass(frozen=True, eq=False)
class GroupPlan:
    """All that is needed to sample patients of one hospital and label."""

    mixing: FloatArray
    """(columns + 1, columns + 1): independent normals times this have the group's correlations."""
    columns: Sequence[ColumnPlan]
    missing_edges: FloatArray
    missing: NDArray[np.bool_]
    """(patterns, columns): which columns are missing together."""


@dataclass(frozen=True, eq=False)
class HospitalPlan:
    """All that is needed to sample patients of one hospital."""

    prevalence: float
    groups: Sequence[GroupPlan]
    """In the order of `GROUPS`."""


@cache
def load_statistics() -> FittedStatistics:
    """Read `fitted.toml`; it belongs to the package, so nothing in it is a user's mistake."""
    return tomllib.loads(STATISTICS_FILE.read_text(encoding="utf-8"))


@cache
def fitted_plan(hospital: str) -> HospitalPlan:
    """The plan from the statistics of `fitted.toml`."""
    return plan_hospital(load_statistics(), hospital)


def count_patients(fitted: FittedStatistics, hospital: str) -> int:
    """Count the real patients behind a hospital's statistics."""
    return sum(int(fitted[hospital][group]["patients"]) for group in GROUPS)


def plan_hospital(fitted: FittedStatistics, hospital: str) -> HospitalPlan:
    """Everything about a hospital's patients that no draw changes."""
    prevalence = fitted[hospital]["ill"]["patients"] / count_patients(fitted, hospital)
    return HospitalPlan(prevalence, [plan_group(fitted, hospital, group) for group in GROUPS])


def plan_group(fitted: FittedStatistics, hospital: str, group: str) -> GroupPlan:
    """Everything about a hospital's patients of one label that no draw changes."""
    correlations = read_correlations(fitted[hospital][group]["correlations"])
    patterns = find_missing_patterns(fitted, hospital, group)
    ends = fitted["all"]["ends"] | fitted[hospital]["ends"]
    columns = []
    for index, name in enumerate(COLUMNS):
        shift, scale = find_shift(correlations[index, -1], patterns, name)
        columns.append(plan_column(name, shift, scale, find_column(fitted, hospital, group, name), ends))
    return GroupPlan(
        # Cholesky: L L' = R, so independent normals times L' have the correlations R.
        mixing=np.asarray(np.linalg.cholesky(correlations).T, dtype=np.float64),
        columns=columns,
        missing_edges=find_edges(list(patterns.values())),
        missing=np.array([[name in pattern_columns(pattern) for name in COLUMNS] for pattern in patterns]),
    )


def plan_column(
    name: str, shift: float, scale: float, statistics: dict[str, Any], ends: dict[str, list[float]]
) -> ColumnPlan:
    """A column's part of a plan, from its entry in `fitted.toml`."""
    if "counts" in statistics:
        codes = np.array([float(code) for code in statistics["counts"]])
        return ColumnPlan(name, shift, scale, find_edges(list(statistics["counts"].values())), codes, is_coded=True)
    scores, values = quantile_curve(statistics["quantiles"], *ends[name])
    column = next(column for column in FEATURES if column.name == name)
    return ColumnPlan(name, shift, scale, scores, values, False, column.minimum, column.maximum)


def find_shift(correlation: float, patterns: dict[str, int], name: str) -> tuple[float, float]:
    """Mean and deviation of a column's draws among the patients in whom it is observed.

    The table describes observed values, and the observed are no random part of all: if a variable has correlation r with
    u, the one that decides what is missing, its mean among them is r E[u] and its variance 1 - r^2 (1 - Var[u]).
    """
    from scipy.stats import norm

    observed = np.array([name not in pattern_columns(pattern) for pattern in patterns])
    if observed.all() or not observed.any():
        return 0.0, 1.0
    shares = np.array(list(patterns.values())) / sum(patterns.values())
    edges = norm.ppf(np.append(0, np.cumsum(list(patterns.values())) / sum(patterns.values())))
    density = norm.pdf(edges)
    slopes = np.where(np.isfinite(edges), edges, 0) * density
    # Moments of a truncated normal variable, times the share (Johnson, Kotz & Balakrishnan 1994, "Continuous Univariate
    # Distributions" 1, section 10.1).
    mean = (density[:-1] - density[1:])[observed].sum() / shares[observed].sum()
    square = (shares + slopes[:-1] - slopes[1:])[observed].sum() / shares[observed].sum()
    variance = square - mean**2
    return float(correlation * mean), float(np.sqrt(1 - correlation**2 * (1 - variance)))


def find_column(fitted: FittedStatistics, hospital: str, group: str, name: str) -> dict[str, Any]:
    """A column's distribution: the group's own, or that of all hospitals where too few patients had a value."""
    statistics: dict[str, Any] = fitted[hospital][group].get(name) or fitted["all"][group][name]
    return statistics


def find_missing_patterns(fitted: FittedStatistics, hospital: str, group: str) -> dict[str, int]:
    """Which columns are missing together -> patients: the group's own, or that of the hospital's healthy and ill."""
    groups = fitted[hospital]
    patterns: dict[str, int] = groups[group].get("missing") or groups["all"]["missing"]
    return patterns


def pattern_columns(pattern: str) -> list[str]:
    """`"slope ca thal"` -> its columns; `"none"` -> no column."""
    return [] if pattern == "none" else pattern.split()


def read_correlations(rows: dict[str, list[float]]) -> FloatArray:
    """From the lower triangle (each variable's correlations with those before it) to a positive definite matrix."""
    size = len(rows) + 1
    matrix = np.eye(size)
    for index, row in enumerate(rows.values(), start=1):
        matrix[index, :index] = matrix[:index, index] = row
    return make_positive_definite(matrix)


def make_positive_definite(matrix: FloatArray, least: float = 1e-3) -> FloatArray:
    """Nearest usable correlation matrix: eigenvalues below `least` are raised to it, the diagonal is made 1 again.

    Correlations estimated pair by pair from different patients need not fit together. The spectral method of Rebonato &
    Jäckel 1999, "The most general methodology to create a valid correlation matrix for risk management and option pricing
    purposes".
    """
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    repaired = (eigenvectors * np.maximum(eigenvalues, least)) @ eigenvectors.T
    scale = np.sqrt(np.diag(repaired))
    return np.asarray(repaired / np.outer(scale, scale), dtype=np.float64)


def quantile_curve(quantiles: list[float], lowest: float, highest: float) -> tuple[FloatArray, FloatArray]:
    """Normal scores and the values there: k - 1 quantiles at 1/k, 2/k, ..., and between the outermost and the ends."""
    from scipy.stats import norm

    steps = len(quantiles) + 1
    scores = norm.ppf(np.arange(1, steps) / steps)
    values = [min(lowest, quantiles[0]), *quantiles, max(highest, quantiles[-1])]
    return np.array([-FARTHEST, *scores, FARTHEST]), np.array(values, dtype=np.float64)


def find_edges(counts: list[int]) -> FloatArray:
    """Normal scores that separate the codes, each with the share of draws that `counts` gives it."""
    from scipy.stats import norm

    return np.asarray(norm.ppf(np.cumsum(counts)[:-1] / np.sum(counts)), dtype=np.float64)
