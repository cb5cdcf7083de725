"""Evaluate synthetic patients against the real ones that their statistics were fitted to: utility and privacy.

Used by `python -m experiments.synthetic_statistics` and by the tests on the real files.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from experiments.synthetic_statistics.fit import FEW, fit_statistics
from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.sources.fitted import FittedStatistics, FloatArray
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART, HOSPITAL, HOSPITALS, LABEL, TARGET
from fedhealth.data.sources.synthetic import sample_patients

FEATURES = list(FEATURE_NAMES)
LARGE = 20_000
"""Number of synthetic patients for marginals, large enough that sampling noise is small."""
FOLDS = 5


def describe_fidelity(real: pd.DataFrame, seeds: Sequence[int] = range(5)) -> Iterator[str]:
    """Lines of a report on synthetic patients; `real` is the canonical table of the four hospitals."""
    transfer = [measure_transfer(real, seed) for seed in seeds]
    large = sample_patients(LARGE, seed=0)
    tables = [sample_patients(len(real), seed) for seed in seeds]
    matches = [exact_matches(table, real) for table in tables]
    num_equal = int(row_keys(real).duplicated(keep=False).sum())
    yield f"AUROC of a logistic regression on the {len(real)} real patients, trained on"
    yield f"  real patients, {FOLDS}-fold cross-validation         {measure_real(real):.3f}"
    yield f"  {len(real)} synthetic patients, {len(seeds)} seeds                  {describe_range(transfer)}"
    yield f"  synthetic, from the other folds' statistics only  {measure_held_out(real):.3f}"
    yield f"Marginals of {LARGE} synthetic patients against the real ones, worst hospital and column"
    yield f"  mean of a number          {describe_worst(compare_means(large, real))} standard deviations"
    yield f"  share of a code           {describe_worst(compare_codes(large, real))}"
    yield f"  share of missing values   {describe_worst(compare_missing(large, real))}"
    yield f"Rows of {len(real)} that equal a real row in all features, including missing values"
    yield f"  synthetic, {len(seeds)} seeds        {', '.join(str(len(found)) for found in matches)}"
    yield f"  real (another row)        {num_equal}"
    yield f"  observed features in such synthetic rows: at most {max(chain(*matches), default=0)} of {len(FEATURES)}"


def describe_range(values: Sequence[float]) -> str:
    """Mean and smallest value as text."""
    return f"{np.mean(values):.3f} (smallest {min(values):.3f})"


def describe_worst(differences: dict[str, float]) -> str:
    """The largest difference and its key, as text."""
    where = max(differences, key=lambda key: differences[key])
    return f"{differences[where]:.3f} ({where})"


def make_classifier() -> Any:
    """Logistic regression: numbers standardised (missing -> mean, plus an indicator), codes one-hot (missing is one)."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    columns = make_column_transformer(
        (numbers, [column.name for column in HEART.numbers]),
        (OneHotEncoder(handle_unknown="ignore"), [column.name for column in HEART.categories]),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def predict_risk(train: pd.DataFrame, test: pd.DataFrame) -> FloatArray:
    """Train on one table -> risk of every patient of the other, shape (num_test_patients,)."""
    classifier = make_classifier().fit(train[FEATURES], train[TARGET])
    return np.asarray(classifier.predict_proba(test[FEATURES])[:, 1], dtype=np.float64)


def auroc(patients: pd.DataFrame, risks: FloatArray) -> float:
    """AUROC, pooled over all hospitals."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(patients[TARGET], risks))


def measure_transfer(real: pd.DataFrame, seed: int) -> float:
    """AUROC on the real patients of a model trained on as many synthetic ones."""
    return auroc(real, predict_risk(sample_patients(len(real), seed), real))


def measure_real(real: pd.DataFrame) -> float:
    """AUROC of cross-validation on the real patients, the reference for synthetic ones."""
    return auroc(real, cross_predict(real, lambda train: train))


def measure_held_out(real: pd.DataFrame) -> float:
    """AUROC of models trained on synthetic patients, sampled from statistics of the other folds only.

    `fitted.toml` is fitted to every real patient, so `measure_transfer` is slightly optimistic; this is not.
    """

    def sample(train: pd.DataFrame) -> pd.DataFrame:
        fitted: FittedStatistics = fit_statistics(train)
        return sample_patients(len(real), seed=0, fitted=fitted)

    return auroc(real, cross_predict(real, sample))


def cross_predict(real: pd.DataFrame, prepare: Callable[[pd.DataFrame], pd.DataFrame]) -> FloatArray:
    """Risk of every patient from a model trained on `prepare(the other folds)`."""
    from sklearn.model_selection import StratifiedKFold

    groups = real[HOSPITAL] + real[TARGET].astype(str)
    risks = np.empty(len(real))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(real, groups):
        risks[test] = predict_risk(prepare(real.iloc[train]), real.iloc[test])
    return risks


def pair_hospitals(sampled: pd.DataFrame, real: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield (name, synthetic patients, real patients) of each hospital."""
    for name in HOSPITALS:
        is_synthetic = sampled[HOSPITAL] == SYNTHETIC_PREFIX + name
        yield name, sampled[is_synthetic], real[real[HOSPITAL] == name]


def compare_means(sampled: pd.DataFrame, real: pd.DataFrame) -> dict[str, float]:
    """`"va oldpeak"` -> absolute difference of the means in standard deviations, where 20 or more were observed."""
    return {
        f"{name} {column.name}": abs(float((a[column.name].mean() - b[column.name].mean()) / b[column.name].std()))
        for name, a, b in pair_hospitals(sampled, real)
        for column in HEART.numbers
        if b[column.name].count() >= FEW
    }


def compare_codes(sampled: pd.DataFrame, real: pd.DataFrame) -> dict[str, float]:
    """`"va cp 4"` -> absolute difference of the code's shares among the observed, where 20 or more were observed."""
    return {
        f"{name} {column.name} {code}": abs(float((a[column.name].dropna() == code).mean() - (known == code).mean()))
        for name, a, b in pair_hospitals(sampled, real)
        for column in (*HEART.categories, LABEL)
        if len(known := b[column.name].dropna()) >= FEW
        for code in column.codes
    }


def compare_missing(sampled: pd.DataFrame, real: pd.DataFrame) -> dict[str, float]:
    """`"va slope"` -> absolute difference of the shares of patients in whom it is missing."""
    return {
        f"{name} {feature}": abs(float(a[feature].isna().mean() - b[feature].isna().mean()))
        for name, a, b in pair_hospitals(sampled, real)
        for feature in FEATURES
    }


def row_keys(patients: pd.DataFrame) -> pd.Series:
    """All 13 features of each row as one comparable value; missing equals missing."""
    return patients[FEATURES].fillna(np.inf).apply(tuple, axis=1)


def exact_matches(sampled: pd.DataFrame, real: pd.DataFrame) -> list[int]:
    """For every synthetic row that equals a real one in all 13 features: how many features are observed."""
    matches = row_keys(sampled).isin(set(row_keys(real)))
    return [int(count) for count in sampled[FEATURES].notna().sum(axis=1)[matches]]
