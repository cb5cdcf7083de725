"""Measure the aggregate statistics of real patients from which `synthetic.py` samples, and write them to `fitted.toml`.

`python -m experiments.synthetic_statistics FOLDER` (the folder with the four UCI files) rewrites the table and evaluates
utility and privacy of the synthetic patients. The table is published, so every statistic is of at least five patients.
Sampling patients does not need this module.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.sources.fitted import (
    COLUMNS,
    DECIMALS,
    GROUPS,
    QUANTILE_COLUMNS,
    FittedStatistics,
    FloatArray,
    pattern_columns,
)
from fedhealth.data.sources.heart import FEATURE_NAMES, HOSPITAL, HOSPITALS, TARGET

LEAST = 5
"""The least number of patients of any statistic; counts are rounded to multiples of it, and so are their differences."""
FEW = 20
"""A group with fewer observed values of a column (or pair of columns) has no statistic of its own for it."""
OTHERS_WEIGHT = 75
"""Weight, in patients, of the correlation over all hospitals when mixed with a group's own: a correlation of n patients has a
variance of about 1/n, and over the 434 pairs of these data the hospitals' own vary by 0.013 = 1/75 more than that."""
EXERCISE_TEST = frozenset({"thalach", "exang", "oldpeak", "slope"})
END_STEPS = {"age": 5.0, "trestbps": 10.0, "chol": 20.0, "thalach": 10.0, "oldpeak": 0.5}
"""Lowest and highest values are rounded outward to multiples of these."""


def fit_statistics(patients: pd.DataFrame) -> FittedStatistics:
    """All statistics of `fitted.toml`.

    Parameters
    ----------
    patients : DataFrame
        The canonical table (`COLUMN_NAMES`); of a synthetic one, the prefix of the hospitals' names is ignored.
    """
    names = patients[HOSPITAL].str.removeprefix(SYNTHETIC_PREFIX)
    hospitals = {name: split_groups(patients[names == name]) for name in HOSPITALS}
    scores = {
        name: {group: normal_scores(rows) for group, rows in groups.items()} for name, groups in hospitals.items()
    }
    pooled = {group: correlate_over_hospitals([scores[name][group] for name in hospitals]) for group in GROUPS}
    everyone = {group: measure_columns(rows) for group, rows in split_groups(patients).items()}
    fitted: FittedStatistics = {"all": {"ends": measure_ends(patients), **everyone}}
    for name, groups in hospitals.items():
        measured = {group: measure_columns(rows) | measure_missing(rows, enough=0.8) for group, rows in groups.items()}
        for group, section in measured.items():
            section["correlations"] = mix_correlations(scores[name][group], pooled[group])
        fitted[name] = {"ends": measure_ends(pd.concat(groups.values())), **measured}
        if any("missing" not in section for section in measured.values()):
            fitted[name]["all"] = measure_missing(pd.concat(groups.values()), enough=0.0)
    return fitted


def split_groups(patients: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split into the healthy and the ill."""
    return {group: patients[patients[TARGET] == target] for target, group in enumerate(GROUPS)}


def measure_ends(rows: pd.DataFrame) -> dict[str, list[float]]:
    """Range of values to sample: values that at least five patients reach or pass, rounded outward."""
    ends = {}
    for name, step in END_STEPS.items():
        values = np.sort(rows[name].dropna())
        if len(values) >= FEW:
            low, high = np.floor(values[LEAST - 1] / step), np.ceil(values[-LEAST] / step)
            ends[name] = [float(low * step) + 0.0, float(high * step) + 0.0]
    return ends


def measure_columns(rows: pd.DataFrame) -> dict[str, Any]:
    """`patients` and the distribution of every column that has enough observed values."""
    measured = {name: measure_column(rows[name].dropna()) for name in COLUMNS}
    return {"patients": len(rows)} | {name: statistics for name, statistics in measured.items() if statistics}


def measure_column(values: pd.Series) -> dict[str, Any]:
    """`n` and quantiles or counts; empty for fewer than `FEW` values."""
    if len(values) < FEW:
        return {}
    n = LEAST * round(len(values) / LEAST)
    if values.name not in QUANTILE_COLUMNS:
        counts = values.astype(int).value_counts().sort_index()
        return {"n": n, "counts": {str(code): count for code, count in publish_counts(counts).items()}}
    steps = next(steps for steps in (20, 10, 4) if len(values) >= steps * LEAST)
    quantiles = np.quantile(values, np.arange(1, steps) / steps).round(DECIMALS.get(str(values.name), 0))
    return {"n": n, "quantiles": (quantiles + 0.0).tolist()}


def publish_counts(counts: pd.Series) -> dict[Any, int]:
    """Counts to the nearest multiple of `LEAST`; smaller cells are left out."""
    return {key: int(LEAST * round(count / LEAST)) for key, count in counts.items() if count >= LEAST}


def missing_patterns(rows: pd.DataFrame) -> pd.Series:
    """The missing columns of every patient as text: `"slope ca thal"`, or `"none"`."""
    names = np.array(FEATURE_NAMES)
    missing = rows[list(names)].isna().to_numpy()
    return pd.Series([" ".join(names[row]) or "none" for row in missing], index=rows.index, dtype="str")


def order_pattern(pattern: str) -> tuple[int, int, str]:
    """Sort key of a pattern: missing columns of the exercise test, then all missing columns (strongest correlates first)."""
    columns = set(pattern_columns(pattern))
    return len(columns & EXERCISE_TEST), len(columns), pattern


def measure_missing(rows: pd.DataFrame, enough: float) -> dict[str, dict[str, int]]:
    """`missing`: pattern -> patients; empty if patterns of five or more patients cover less than the share `enough`."""
    counts = missing_patterns(rows).value_counts(sort=False)
    common = sorted(counts[counts >= LEAST].index, key=order_pattern)
    if not common or counts[common].sum() < enough * len(rows):
        return {}
    nearest = {pattern: min(common, key=lambda other: count_differences(pattern, other)) for pattern in counts.index}
    published = publish_counts(counts.groupby(nearest).sum())
    return {"missing": {pattern: published[pattern] for pattern in common}}


def count_differences(pattern: str, other: str) -> int:
    """Number of columns in which two patterns differ."""
    return len(set(pattern_columns(pattern)) ^ set(pattern_columns(other)))


def normal_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Normal scores of the ranks of all columns and of `missing` in this group; NaN if missing or too few."""
    patterns = missing_patterns(rows)
    order = {pattern: place for place, pattern in enumerate(sorted(patterns.unique(), key=order_pattern))}
    values = rows[list(COLUMNS)].assign(missing=patterns.map(order))
    return pd.DataFrame(
        {name: score_ranks(values[name].to_numpy(dtype=np.float64)) for name in values}, index=rows.index
    )


def score_ranks(values: FloatArray) -> FloatArray:
    """Each value -> mean of a standard normal variable over the share of patients who have that value.

    All NaN if fewer than `FEW` are observed or fewer than `LEAST` differ from the commonest value.
    """
    from scipy.stats import norm

    observed = ~np.isnan(values)
    scores = np.full(len(values), np.nan)
    _, places, counts = np.unique(values[observed], return_inverse=True, return_counts=True)
    if len(places) < FEW or len(places) - counts.max() < LEAST:
        return scores
    density = norm.pdf(norm.ppf(np.append(0, np.cumsum(counts)) / len(places)))
    scores[observed] = ((density[:-1] - density[1:]) * len(places) / counts)[places]
    return scores


def correlate(scores: pd.DataFrame) -> tuple[FloatArray, NDArray[np.int64]]:
    """Correlations of the underlying normal variables, and number of patients of each; 0 and 0 for fewer than `FEW`.

    Coarse codes weaken a correlation. A score is the mean of the normal variable given the code, so the covariance of
    two is r var(a) var(b), exactly if one is continuous (Olsson, Drasgow & Dorans 1982, "The polyserial correlation
    coefficient"), else to first order in r: divide by variances, not by standard deviations.
    """
    values, observed = scores.fillna(0).to_numpy(), scores.notna().to_numpy().astype(np.int64)
    num_pairs = observed.T @ observed
    n = np.maximum(num_pairs, 1)
    means = values.T @ observed / n
    variances = (values**2).T @ observed / n - means**2
    covariances = values.T @ values / n - means * means.T
    usable = (num_pairs >= FEW) & (variances > 0.01) & (variances.T > 0.01)
    r = np.divide(covariances, variances * variances.T, out=np.zeros_like(covariances), where=usable)
    return np.clip(r, -0.95, 0.95), np.where(usable, num_pairs, 0)


def correlate_over_hospitals(scores: list[pd.DataFrame]) -> FloatArray:
    """Correlations over all hospitals' patients of one label.

    Scores are ranks within a hospital, so differences between hospitals have no influence. NaN for `missing`, because the
    meaning of a missing column differs between hospitals.
    """
    pooled, _ = correlate(pd.concat(scores))
    pooled[-1, :] = pooled[:, -1] = np.nan
    return pooled


def mix_correlations(own_scores: pd.DataFrame, pooled: FloatArray) -> dict[str, list[float]]:
    """Lower triangle of a group's correlations, shrunk towards those over all hospitals (see `OTHERS_WEIGHT`)."""
    own, n = correlate(own_scores)
    mixed = (n * own + OTHERS_WEIGHT * pooled) / (n + OTHERS_WEIGHT)
    mixed = np.where(np.isnan(pooled), own, mixed).round(2) + 0.0
    names = list(own_scores.columns)
    return {name: mixed[index, :index].tolist() for index, name in enumerate(names) if index > 0}
