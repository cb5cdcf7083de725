"""Odds ratios of a logistic regression, with standard errors, 95 % intervals and p-values, from its coefficients.

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
    settled: bool = True
    """Whether the coefficients are at the optimum."""
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Contrast:
    """A linear combination of coefficients: place of the input -> factor."""

    feature: str
    words: str
    factors: Mapping[int, float]
    deviation: float | None = None
    """Of a number, in its unit."""


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
            found.append(Contrast(column.name, f"missing vs {reference}", {at: 1 / CODE_STD, **base}))
    return found


def make_odds_ratios(contrasts: Sequence[Contrast], fit: ExactFit) -> OddsRatios:
    """The table of these contrasts."""
    return OddsRatios(tuple(_odds_ratio(contrast, fit) for contrast in contrasts), tuple(fit.notes))


def _odds_ratio(contrast: Contrast, fit: ExactFit) -> OddsRatio:
    places, factors = list(contrast.factors), np.array(list(contrast.factors.values()))
    value = float(factors @ fit.coefficients[places])
    if note := _find_fault(places, value, fit):
        return OddsRatio(feature=contrast.feature, contrast=contrast.words, note=note)
    error = math.sqrt(factors @ fit.covariance[np.ix_(places, places)] @ factors) if fit.settled else None
    return OddsRatio(
        feature=contrast.feature,
        contrast=contrast.words,
        log_odds=value,
        standard_error=error,
        odds_ratio=_exp(value),
        low=_exp(value - QUANTILE * error) if error else None,
        high=_exp(value + QUANTILE * error) if error else None,
        p_value=math.erfc(abs(value / error) / math.sqrt(2)) if error else None,
        per_deviation=_exp(value * contrast.deviation) if contrast.deviation else None,
    )


def _find_fault(places: Sequence[int], value: float, fit: ExactFit) -> str:
    """Why a contrast of these places cannot be estimated; empty if it can."""
    if places[0] in fit.constant:
        return "the same for every patient, so without effect"
    if any(place in fit.constant for place in places):
        return "no patient has the reference code"
    if any(place in fit.separated for place in places):
        return f"separates ill and healthy patients: the odds ratio runs to {'infinity' if value > 0 else '0'}"
    return ""


def _exp(value: float) -> float | None:
    """None if it is too large for a float."""
    return math.exp(value) if value < 700 else None
