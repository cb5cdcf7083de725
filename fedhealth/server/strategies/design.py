"""The columns of the logistic regression's design: names, reference codes, and which are constant or collinear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.data.preprocessing import encoded_names, encoding_plan
from fedhealth.data.schema import Schema

INTERCEPT = "the intercept"
SMALLEST_SHARE = 1e-10
"""Of the patients: a column with a smaller variance is constant."""
SMALLEST_PIVOT = 1e-9
"""Share of a column's sum of squares that is left without its projection on other columns: less is rounding."""
LARGEST_UNRELATED = 1e-5
"""A column takes part in a collinearity from this coefficient on."""


@dataclass(frozen=True)
class Design:
    """Names of the inputs, and the places of the reference codes: the first code of each category with more than two."""

    names: tuple[str, ...] = ()
    references: tuple[int, ...] = ()

    def name(self, place: int) -> str:
        """The name of an input, or of the intercept after them."""
        return self.names[place] if place < len(self.names) else INTERCEPT


NO_DESIGN = Design()


def make_design(schema: Schema, missing_indicators: bool) -> Design:
    """The design of this schema.

    A category with two codes has one column, whose absence is the first code. One with more has a column for each, and
    these add up to the intercept; without a penalty, the first code's coefficient is therefore fixed at 0.
    """
    plan = encoding_plan(schema, missing_indicators)
    references = [
        len(plan.numbers) + plan.code_places.index(place)
        for place in dict.fromkeys(plan.code_places)
        if plan.code_places.count(place) > 1
    ]
    return Design(tuple(encoded_names(schema, missing_indicators)), tuple(references))


def find_constant(hessian: NDArray[np.float64], num_patients: int) -> NDArray[np.bool_]:
    """Which columns have the same value for every patient, from a Hessian whose last column is the intercept's.

    With private intercepts without a prior, these are the columns that are constant within each hospital.
    """
    spread, total = np.diag(hessian).copy(), hessian[-1, -1]
    if total > (least := SMALLEST_SHARE * num_patients):
        spread -= hessian[-1] ** 2 / total
    constant: NDArray[np.bool_] = spread <= least
    constant[-1] = False
    return constant


def find_dependent(hessian: NDArray[np.float64], last_first: bool = True) -> list[int]:
    """The first column that is a linear combination of those before it, then these; empty if there is none.

    This is a Cholesky factorisation that stops at a pivot of 0. With `last_first` the last column, the intercept, counts as
    before all others.
    """
    order = [*range(len(hessian))]
    order = [*order[-1:], *order[:-1]] if last_first else order
    scale = np.sqrt(np.diag(hessian))
    scaled = (hessian / np.outer(scale, scale))[np.ix_(order, order)]
    left = scaled.copy()
    for place, pivot in enumerate(order):
        if left[place, place] <= SMALLEST_PIVOT:
            weights = np.linalg.lstsq(scaled[:place, :place], scaled[:place, place], rcond=None)[0]
            return [pivot, *(order[other] for other in np.flatnonzero(np.abs(weights) > LARGEST_UNRELATED))]
        left -= np.outer(left[place], left[place]) / left[place, place]
    return []
