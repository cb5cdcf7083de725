"""Invent patients whose aggregate statistics are those of the four hospitals: to try things out without real data.

A Gaussian copula for every hospital and label: draw correlated normal variables, then turn each into a value by the
column's own distribution (Sklar 1959; the recipe of Patki, Wedge & Veeramachaneni 2016, "The Synthetic Data Vault",
section III). All it knows stands in `fitted.toml`; how that table is measured is the business of `fitted.py`.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.data import schema

FittedStatistics = dict[str, Any]
"""`fitted.toml` as read: `all` and every hospital, each with its ends and its groups (see the file's header)."""

FloatArray = NDArray[np.float64]

STATISTICS_FILE = Path(__file__).with_name("cohort.toml")
GROUPS = ("healthy", "ill")
"""The groups of a hospital's patients; the index is the target."""
COLUMNS: tuple[str, ...] = (*schema.FEATURE_NAMES, schema.LABEL.name)
"""What is drawn for every patient; after them comes one variable more, which columns are missing."""
QUANTILE_COLUMNS: tuple[str, ...] = tuple(column.name for column in schema.NUMBERS if not column.codes)
"""Numbers that are described by quantiles; all others (`ca` too) by how many patients have each code."""
DECIMALS = {"oldpeak": 1}
"""As people write them down: ST depression to 0.1 mm, everything else in whole numbers."""
LEAST_PATIENTS_PER_HOSPITAL = 10
FARTHEST = 3.0
"""The normal score that stands for a column's lowest and highest value (0.1 % of patients lie beyond)."""


def sample_patients(num_patients: int, seed: int, *, fitted: FittedStatistics | None = None) -> pd.DataFrame:
    """Invent `num_patients` patients of four hospitals that carry `schema.SYNTHETIC_PREFIX` in their names.

    Parameters
    ----------
    num_patients : int
        At least 40; 920 gives the real hospitals' sizes (303, 294, 123, 200).
    seed : int
        0 or more. Same seed, same table.
    cohort : Cohort, optional
        Other statistics than those of `fitted.toml`.

    Returns
    -------
    DataFrame, shape (num_patients, 16)
        `schema.COLUMN_NAMES`: features float64 with NaN for missing, `num` and `target` int64, `hospital` str;
        hospitals in the order of `schema.HOSPITALS`, each one's patients shuffled.

    Raises
    ------
    UsageError
        Fewer than 40 patients, or a negative seed.
    """
    if num_patients < len(schema.HOSPITALS) * LEAST_PATIENTS_PER_HOSPITAL:
        raise UsageError(f"--patients is {num_patients}; give 40 or more, ten for each hospital")
    if seed < 0:
        raise UsageError(f"--seed is {seed}; give 0 or more")
    fitted = load_statistics() if fitted is None else fitted
    sizes = share_out(num_patients, {name: count_patients(fitted, name) for name in schema.HOSPITALS})
    tables = [
        sample_hospital(fitted, hospital, sizes[hospital], np.random.default_rng([seed, index]))
        for index, hospital in enumerate(schema.HOSPITALS)
    ]
    return pd.concat(tables, ignore_index=True)


@cache
def load_statistics() -> FittedStatistics:
    """Read `fitted.toml`; it belongs to the package, so nothing in it is a user's mistake."""
    return tomllib.loads(STATISTICS_FILE.read_text(encoding="utf-8"))


def count_patients(fitted: FittedStatistics, hospital: str) -> int:
    """Count the real patients behind a hospital's statistics."""
    return sum(int(fitted[hospital][group]["patients"]) for group in GROUPS)


def share_out(num_patients: int, real_sizes: dict[str, int]) -> dict[str, int]:
    """Hospital sizes in proportion to the real ones, by largest remainder, but at least ten patients each."""
    total = sum(real_sizes.values())
    exact = {name: num_patients * size / total for name, size in real_sizes.items()}
    if too_small := [name for name, share in exact.items() if share < LEAST_PATIENTS_PER_HOSPITAL]:
        fixed = dict.fromkeys(too_small, LEAST_PATIENTS_PER_HOSPITAL)
        others = {name: size for name, size in real_sizes.items() if name not in fixed}
        return fixed | share_out(num_patients - sum(fixed.values()), others) if others else fixed
    sizes = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: sizes[name] - exact[name])
    for name in by_remainder[: num_patients - sum(sizes.values())]:
        sizes[name] += 1
    return sizes


def sample_hospital(
    fitted: FittedStatistics, hospital: str, num_patients: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Patients of one hospital, shuffled; as many of them ill as its prevalence says (rounded, at least one of each)."""
    prevalence = fitted[hospital]["ill"]["patients"] / count_patients(fitted, hospital)
    num_ill = min(max(round(num_patients * prevalence), 1), num_patients - 1)
    sizes = {"healthy": num_patients - num_ill, "ill": num_ill}
    tables = [sample_group(fitted, hospital, group, size, rng) for group, size in sizes.items()]
    table = pd.concat(tables, ignore_index=True).iloc[rng.permutation(num_patients)]
    table = table.astype({schema.LABEL.name: "int64"})
    table[schema.TARGET] = (table[schema.LABEL.name] > 0).astype("int64")
    table[schema.HOSPITAL] = schema.SYNTHETIC_PREFIX + hospital
    return table[list(schema.COLUMN_NAMES)]


def sample_group(
    fitted: FittedStatistics, hospital: str, group: str, num_patients: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Patients of one hospital and label; float64 columns `COLUMNS`, NaN where a value is missing."""
    correlations = read_correlations(fitted[hospital][group]["correlations"])
    # Cholesky: L L' = R, so independent normals times L' have the correlations R.
    draws = rng.standard_normal((num_patients, len(correlations))) @ np.linalg.cholesky(correlations).T
    ends = fitted["all"]["ends"] | fitted[hospital]["ends"]
    patterns = find_missing_patterns(fitted, hospital, group)
    table = pd.DataFrame(index=range(num_patients), columns=list(COLUMNS), dtype="float64")
    for index, name in enumerate(COLUMNS):
        scores = allow_for_missing(draws[:, index], correlations[index, -1], patterns, name)
        table[name] = draw_values(scores, name, find_column(fitted, hospital, group, name), ends)
    chosen = draw_codes(draws[:, -1], list(patterns.values()))
    for index, pattern in enumerate(patterns):
        table.loc[chosen == index, pattern_columns(pattern)] = np.nan
    return table


def allow_for_missing(draws: FloatArray, correlation: float, patterns: dict[str, int], name: str) -> FloatArray:
    """Rescale draws to be standard normal among the patients in whom `name` is observed, shape (num_patients,)."""
    shift, scale = find_shift(correlation, patterns, name)
    return np.asarray((draws - shift) / scale, dtype=np.float64)


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
    """A column's distribution: the group's own, or where too few patients stood behind it, that of all hospitals."""
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


def draw_values(draws: FloatArray, name: str, statistics: dict[str, Any], ends: dict[str, list[float]]) -> FloatArray:
    """Standard normal draws -> values of the column `name`, rounded and in its valid range, shape (num_patients,)."""
    if "counts" in statistics:
        codes = np.array([float(code) for code in statistics["counts"]])
        return np.asarray(codes[draw_codes(draws, list(statistics["counts"].values()))], dtype=np.float64)
    scores, values = quantile_curve(statistics["quantiles"], *ends[name])
    column = next(column for column in schema.FEATURES if column.name == name)
    drawn = np.clip(np.interp(draws, scores, values), column.minimum, column.maximum)
    return np.asarray(np.round(drawn, DECIMALS.get(name, 0)) + 0.0, dtype=np.float64)  # + 0.0: no minus zero


def quantile_curve(quantiles: list[float], lowest: float, highest: float) -> tuple[FloatArray, FloatArray]:
    """Normal scores and the values there: k - 1 quantiles at 1/k, 2/k, ..., and between the outermost and the ends."""
    from scipy.stats import norm

    steps = len(quantiles) + 1
    scores = norm.ppf(np.arange(1, steps) / steps)
    values = [min(lowest, quantiles[0]), *quantiles, max(highest, quantiles[-1])]
    return np.array([-FARTHEST, *scores, FARTHEST]), np.array(values, dtype=np.float64)


def draw_codes(draws: FloatArray, counts: list[int]) -> NDArray[np.intp]:
    """Standard normal draws -> index of a code, each with the share that `counts` gives it, shape (num_patients,)."""
    from scipy.stats import norm

    thresholds = norm.ppf(np.cumsum(counts)[:-1] / np.sum(counts))
    return np.searchsorted(thresholds, draws)
