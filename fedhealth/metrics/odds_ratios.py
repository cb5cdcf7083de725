"""Odds ratios of a logistic regression, with standard errors, 95 % intervals and p-values, from its coefficients.

The standard errors are those of the model (from the inverse of the Hessian) and, beside them, robust ones (from the
sandwich), which also hold if the model is wrong.

The coefficients are those of standardised inputs: one unit of a number is its standard deviation, and a 0/1 column has
the values -1 and +1, so its log odds ratio is twice its coefficient.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedhealth.data.preprocessing import CODE_STD, encoding_plan
from fedhealth.data.schema import Schema
from fedhealth.metrics.heterogeneity import chi_squared_tail, score_test

QUANTILE = 1.959963984540054
"""Of the standard normal distribution, for intervals of 95 %."""
Doubles = NDArray[np.float64]


class OddsRatio(Struct, frozen=True, kw_only=True):
    """One contrast of a feature: a unit more of a number, or a code against the reference code.

    All but the names are None if the contrast cannot be estimated; `note` then says why.
    """

    feature: str
    contrast: str
    log_odds: float | None = None
    standard_error: float | None = None
    odds_ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    per_deviation: float | None = None
    """The odds ratio for a standard deviation more, of a number."""
    robust_error: float | None = None
    robust_low: float | None = None
    robust_high: float | None = None
    robust_p_value: float | None = None
    differs_statistic: float | None = None
    """Chi-squared, of the test that all hospitals have the same effect of the feature: of all its codes together."""
    differs_degrees: int | None = None
    differs_p_value: float | None = None
    note: str = ""


class OddsRatios(Struct, frozen=True):
    """The table of a run, and what restricts it."""

    rows: tuple[OddsRatio, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ExactFit:
    """A fitted logistic regression: coefficients of the inputs, then the intercept, and their covariance.

    A coefficient that is fixed has a variance of 0. `constant` and `separated` are places of inputs.
    """

    coefficients: Doubles
    covariance: Doubles
    constant: Collection[int] = ()
    """The same value for every patient."""
    separated: Collection[int] = ()
    """Coefficients that grow without end, since the column separates ill and healthy patients."""
    is_complete: bool = False
    """Whether the columns together separate all ill from all healthy patients, so that no coefficient has an optimum."""
    settled: bool = True
    """Whether the coefficients are at the optimum."""
    notes: Sequence[str] = field(default=())
    robust_covariance: Doubles | None = None
    """The sandwich; None if hospitals have not sent what it needs."""
    gradients: Doubles | None = None
    """(num_hospitals, num_coefficients) at the coefficients; None unless the hospitals have intercepts of their own."""
    hessians: Doubles | None = None
    """(num_hospitals, num_coefficients, num_coefficients) of the same hospitals."""

    def is_free(self, place: int) -> bool:
        """Whether this coefficient is fitted."""
        return bool(self.covariance[place, place] > 0)


@dataclass(frozen=True)
class Contrast:
    """A linear combination of coefficients: place of the input -> factor."""

    feature: str
    words: str
    factors: Mapping[int, float]
    deviation: float | None = None
    """Of a number, in its unit."""
    is_missing: bool = False
    """Whether it is that of missing values."""


def list_contrasts(schema: Schema, missing_indicators: bool, stds: Sequence[float]) -> list[Contrast]:
    """The contrasts of all features, in the order of the schema."""
    plan, found = encoding_plan(schema, missing_indicators), list[Contrast]()
    first_code, first_missing = len(plan.numbers), len(plan.numbers) + len(plan.codes)
    for place, column in enumerate(schema.features):
        codes = {
            plan.codes[k]: first_code + k for k in range(len(plan.codes)) if plan.code_places[k] == place
        }  # code -> input
        if column.is_number:
            number, std = plan.numbers.index(place), stds[plan.numbers.index(place)]
            words = f"+1 {column.unit}".strip()
            found.append(Contrast(column.name, words, {number: 1 / std}, std))
            reference, base = "the mean", {}
        else:
            first = next(iter(column.codes))
            reference = column.codes[first] or str(first)
            base = {codes[first]: -1 / CODE_STD} if first in codes else {}
        for code, at in codes.items():
            if at not in base:
                found.append(
                    Contrast(column.name, f"{column.codes[code] or code} vs {reference}", {at: 1 / CODE_STD, **base})
                )
        if place in plan.missing:
            at = first_missing + plan.missing.index(place)
            factors = {at: 1 / CODE_STD, **base}
            found.append(Contrast(column.name, f"missing vs {reference}", factors, is_missing=True))
    return found


def make_odds_ratios(contrasts: Sequence[Contrast], fit: ExactFit) -> OddsRatios:
    """The table of these contrasts."""
    differences = {feature: _test_difference(contrasts, feature, fit) for feature in {c.feature for c in contrasts}}
    return OddsRatios(
        tuple(
            _odds_ratio(contrast, fit, None if contrast.is_missing else differences[contrast.feature])
            for contrast in contrasts
        ),
        tuple(fit.notes),
    )


def _odds_ratio(contrast: Contrast, fit: ExactFit, difference: tuple[float, int] | None) -> OddsRatio:
    places, factors = list(contrast.factors), np.array(list(contrast.factors.values()))
    value = float(factors @ fit.coefficients[places])
    if note := _find_fault(places, value, fit):
        return OddsRatio(feature=contrast.feature, contrast=contrast.words, note=note)
    error, low, high, p_value = _interval(value, places, factors, fit.covariance if fit.settled else None)
    robust = _interval(value, places, factors, fit.robust_covariance if fit.settled else None)
    statistic, degrees = difference or (None, None)
    return OddsRatio(
        feature=contrast.feature,
        contrast=contrast.words,
        log_odds=value,
        standard_error=error,
        odds_ratio=_exp(value),
        low=low,
        high=high,
        p_value=p_value,
        per_deviation=_exp(value * contrast.deviation) if contrast.deviation else None,
        robust_error=robust[0],
        robust_low=robust[1],
        robust_high=robust[2],
        robust_p_value=robust[3],
        differs_statistic=statistic,
        differs_degrees=degrees,
        differs_p_value=None if statistic is None or degrees is None else chi_squared_tail(statistic, degrees),
    )


def _interval(
    value: float, places: Sequence[int], factors: Doubles, covariance: Doubles | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """Standard error, ends of the interval of the odds ratio, and p-value."""
    error = None if covariance is None else math.sqrt(factors @ covariance[np.ix_(places, places)] @ factors)
    if not error:
        return error, None, None, None
    tail = math.erfc(abs(value / error) / math.sqrt(2))
    return error, _exp(value - QUANTILE * error), _exp(value + QUANTILE * error), tail


def _test_difference(contrasts: Sequence[Contrast], feature: str, fit: ExactFit) -> tuple[float, int] | None:
    """Statistic and degrees of freedom of the test that all hospitals have the same effect; None if it cannot be made."""
    places = {place for c in contrasts if c.feature == feature and not c.is_missing for place in c.factors}
    tested = sorted(place for place in places if fit.is_free(place))
    if fit.gradients is None or fit.hessians is None or not fit.settled or not tested or places & {*fit.separated}:
        return None
    free = [place for place in range(len(fit.coefficients)) if fit.is_free(place)]
    statistic, degrees = score_test(
        fit.gradients[:, free], fit.hessians[np.ix_(range(len(fit.hessians)), free, free)], [*map(free.index, tested)]
    )
    return (statistic, degrees) if degrees else None


def _find_fault(places: Sequence[int], value: float, fit: ExactFit) -> str:
    """Why a contrast of these places cannot be estimated; empty if it can."""
    if places[0] in fit.constant:
        return "the same for every patient, so without effect"
    if any(place in fit.constant for place in places):
        return "no patient has the reference code"
    if fit.is_complete:
        return "no finite odds ratio, since all columns together separate ill and healthy patients"
    if any(place in fit.separated for place in places):
        return f"separates ill and healthy patients: the odds ratio runs to {'infinity' if value > 0 else '0'}"
    return ""


def _exp(value: float) -> float | None:
    """None if it is too large for a float."""
    return math.exp(value) if value < 700 else None
