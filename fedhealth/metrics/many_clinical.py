"""Clinical metrics of very many hospitals at once: those of `compute_clinical_metrics` of each, bit for bit.

Every sum is taken within one hospital, over as many numbers in the same order and by the same operation as there, since its
last bit depends on these. What is multiplied by a count of 0 need not be computed: exponentials are, of the used bins alone.
"""

import numpy as np
from numpy.typing import NDArray

from fedhealth.metrics.bins import BIN_EDGES, BIN_LOG_ODDS, HALF_WIDTHS, NUM_BINS
from fedhealth.metrics.calibration import MOST_STEPS, STEEPEST, Counts, Values, risks_of
from fedhealth.metrics.clinical import WANTED_SPECIFICITY, find_specific, pr_aucs, sensitivities_at

BIN_FITTED = risks_of(BIN_LOG_ODDS)
"""The risks (NUM_BINS,) of the middles of the bins."""
LOGS, OTHER_LOGS = np.log(BIN_FITTED), np.log1p(-BIN_FITTED)
DESIGN = np.stack([BIN_LOG_ODDS, np.ones(NUM_BINS)])
HOSPITALS_AT_ONCE = 256
"""Of whom the counts of all bins stay in the processor's cache."""
POINT = ("sensitivity_at_90", "sensitivity_at_90_bound", "threshold_at_90")
LINE = (
    *("calibration_slope", "calibration_slope_bound", "calibration_intercept", "calibration_intercept_bound"),
    *("calibration_in_the_large", "calibration_in_the_large_bound"),
)
NAMES = ("pr_auc", "pr_auc_bound", *POINT, *LINE)


def compute_many_clinical(counts: Counts, log_losses: Values) -> dict[str, Values]:
    """`flat_metrics` of each hospital's clinical metrics: name -> values (num_hospitals,), NaN where they are undefined.

    `counts` of healthy and of ill patients are (num_hospitals, 2, NUM_BINS), `log_losses` (num_hospitals,).
    """
    healthy, ill = np.ascontiguousarray(counts[:, 0]), np.ascontiguousarray(counts[:, 1])
    lines = np.stack(_fit_each_line(ill, healthy))
    blocks = [slice(first, first + HOSPITALS_AT_ONCE) for first in range(0, len(counts), HOSPITALS_AT_ONCE)]
    parts = [_compute_block(ill[block], healthy[block], log_losses[block], lines[:, block]) for block in blocks]
    return (
        {name: np.concatenate([part[name] for part in parts]) for name in NAMES}
        if parts
        else dict.fromkeys(NAMES, np.empty(0))
    )


def _compute_block(ill: Counts, healthy: Counts, log_losses: Values, lines: Values) -> dict[str, Values]:
    """The metrics of some of the hospitals, whose `lines` (2, num_hospitals) are slopes and intercepts on the bins."""
    found = {name: np.full(len(ill), np.nan) for name in NAMES}
    found["pr_auc"], both = pr_aucs(ill, healthy), (ill.sum(axis=1) > 0) & (healthy.sum(axis=1) > 0)
    if both.any():
        ill, healthy = ill[both], healthy[both]
        found["pr_auc_bound"][both] = _pr_auc_bounds(ill, healthy, found["pr_auc"][both])
        for name, column in zip(POINT, _operating_points(ill, healthy), strict=True):
            found[name][both] = column
        for name, column in zip(LINE, _calibrations(ill, healthy, log_losses[both], lines[:, both]), strict=True):
            found[name][both] = column
    return found


def _pr_auc_bounds(ill: Counts, healthy: Counts, values: Values) -> Values:
    """As in `compute_pr_auc`."""
    num_ill, ill, healthy = ill.sum(axis=1), ill[:, ::-1], healthy[:, ::-1]
    found, false_positives = np.cumsum(ill, axis=1), np.cumsum(healthy, axis=1)
    before = false_positives - healthy
    highest = np.divide(ill * found, found + before, out=np.zeros(ill.shape), where=ill > 0).sum(axis=1)
    one_by_one = np.zeros(ill.shape)
    used = ill > 0
    first = (found - ill + false_positives)[used] + 0.5
    some = ill[used]
    one_by_one[used] = np.where(some == 1, 1 / (first + 0.5), np.log((first + some) / first))
    lowest = (ill - false_positives * one_by_one).sum(axis=1)
    bounds: Values = np.maximum(highest / num_ill - values, values - lowest / num_ill)
    return bounds


def _operating_points(ill: Counts, healthy: Counts) -> tuple[Values, Values, Values]:
    """As in `sensitivity_at_specificity`."""
    place = find_specific(healthy, WANTED_SPECIFICITY)
    below = np.take_along_axis(ill, np.maximum(place - 1, 0)[:, np.newaxis], axis=1)[:, 0]
    bounds = np.where(place > 0, below / ill.sum(axis=1), 0.0)
    return sensitivities_at(ill, healthy), bounds, BIN_EDGES[place]


class _Used:
    """The bins that hold patients, of hospitals with these `counts` (num_hospitals, NUM_BINS)."""

    def __init__(self, counts: NDArray[np.generic]) -> None:
        self.rows, self.columns = np.nonzero(counts)
        self.hospitals = len(counts)

    def risks(self, slopes: Values, intercepts: Values) -> Values:
        """The risks (num_hospitals, NUM_BINS) on each hospital's line; 0 in bins that hold nobody."""
        risks = np.zeros((self.hospitals, NUM_BINS))
        lines = slopes[self.rows] * BIN_LOG_ODDS[self.columns] + intercepts[self.rows]
        risks[self.rows, self.columns] = risks_of(lines)
        return risks


def _calibrations(ill: Counts, healthy: Counts, log_losses: Values, lines: Values) -> Values:
    """The columns `LINE` (6, num_hospitals), as in `compute_calibration`; both classes are there."""
    columns = np.full((6, len(ill)), np.nan)
    shifts = _fit_shifts(ill, healthy)
    sound = ~(np.isnan(lines[0]) | np.isnan(shifts))
    if not sound.any():
        return columns
    ill, healthy, shift = ill[sound], healthy[sound], shifts[sound]
    slope, intercept = lines[:, sound]
    counts = ill + healthy
    used = _Used(counts)
    fitted = used.risks(slope, intercept)
    weights = fitted * (1 - fitted)
    inverse = np.linalg.inv((counts * weights)[:, np.newaxis] * DESIGN @ DESIGN.T)
    excess = np.stack([_excess_losses(ill, healthy, log_losses[sound]), np.zeros(len(ill))], axis=1)
    steps = (inverse @ excess[..., np.newaxis])[..., 0]
    risen = slope[:, np.newaxis] * weights
    left = np.stack([BIN_FITTED - fitted - risen * BIN_LOG_ODDS, -risen], axis=1)
    spread = (counts * HALF_WIDTHS)[..., np.newaxis]
    bounds = (np.abs(inverse @ left) @ spread)[..., 0]
    moved = used.risks(np.ones(len(shift)), shift)
    shifted = counts * moved * (1 - moved)
    slide = _dots(shifted, HALF_WIDTHS) / shifted.sum(axis=1)
    rows = (slope + steps[:, 0], bounds[:, 0], intercept + steps[:, 1], bounds[:, 1], shift, slide)
    columns[:, sound] = np.stack(rows)
    return columns


def _dots(rows: Counts | Values, other: Values) -> Values:
    """The dot product of each row (num_hospitals, n) and `other` (n,) or its rows, one by one."""
    dots: Values = (rows[:, np.newaxis] @ other[..., np.newaxis])[:, 0, 0]
    return dots


def _excess_losses(ill: Counts, healthy: Counts, log_losses: Values) -> Values:
    binned = -(_dots(ill, LOGS) + _dots(healthy, OTHER_LOGS))
    most = _dots(ill * (1 - BIN_FITTED) + healthy * BIN_FITTED, HALF_WIDTHS)
    return np.clip(binned - log_losses, -most, most)


def _fit_each_line(ill: Counts, healthy: Counts) -> tuple[Values, Values]:
    """Slopes and intercepts (num_hospitals,) as `fit_lines` of each hospital alone gives them, NaN where none fits.

    There a hospital's sums run over the bins that it uses. So hospitals with as many of them are fitted together.
    """
    counts = ill + healthy
    sizes = (counts > 0).sum(axis=1)
    slopes, intercepts = np.full((2, len(ill)), np.nan)
    for size in np.unique(sizes).tolist():
        places = np.flatnonzero(sizes == size)
        used = np.nonzero(counts[places])[1].reshape(len(places), size)
        ill_here, here = (np.take_along_axis(each[places], used, axis=1) for each in (ill, counts))
        slopes[places], intercepts[places] = _fit_lines_alike(ill_here, here, BIN_LOG_ODDS[used])
    return slopes, intercepts


def _fit_lines_alike(ill: Counts, counts: Counts, log_odds: Values) -> tuple[Values, Values]:
    """As `fit_lines`, each hospital with the log odds of its own bins: all are (num_hospitals, num_used)."""
    lines, steps, squares = np.zeros((2, len(ill))), np.full((2, len(ill)), np.inf), log_odds**2
    active = np.arange(len(ill))
    with np.errstate(all="ignore"):
        for _ in range(MOST_STEPS):
            step = _newton_steps(lines[:, active], ill[active], counts[active], log_odds[active], squares[active])
            line = lines[:, active] + step
            line[:, ~(np.abs(line).max(axis=0) <= STEEPEST)] = np.nan
            lines[:, active], steps[:, active] = line, step
            active = active[np.isfinite(line[0]) & np.any(np.abs(step) >= 1e-10, axis=0)]
            if not len(active):
                break
        sound = np.abs(steps).max(axis=0) < 1e-8
    slopes, intercepts = np.where(sound, lines, np.nan)
    return slopes, intercepts


def _newton_steps(lines: Values, ill: Counts, counts: Counts, log_odds: Values, squares: Values) -> Values:
    """As in `calibration`."""
    risks = risks_of(lines[0][:, np.newaxis] * log_odds + lines[1][:, np.newaxis])
    rest, weights = ill - counts * risks, counts * risks * (1 - risks)
    down, across, both = _dots(weights, squares), weights.sum(axis=1), _dots(weights, log_odds)
    towards, up = _dots(rest, log_odds), rest.sum(axis=1)
    area = down * across - both**2
    steps: Values = np.stack([across * towards - both * up, down * up - both * towards]) / area
    return np.where(area > 1e-9 * down * across, steps, np.nan)


def _fit_shifts(ill: Counts, healthy: Counts) -> Values:
    """As `_fit_shift` in `calibration`, of each hospital (num_hospitals,)."""
    counts, num_ill = (ill + healthy).astype(np.float64), ill.sum(axis=1)
    shifts, found, active = np.zeros(len(ill)), np.full(len(ill), np.nan), np.arange(len(ill))
    used = _Used(counts)
    with np.errstate(all="ignore"):
        for _ in range(MOST_STEPS):
            risks, here = used.risks(np.ones(len(active)), shifts[active]), counts[active]
            step = (num_ill[active] - _dots(here, risks)) / _dots(here, risks * (1 - risks))
            shifts[active] += step
            ended = np.abs(step) < 1e-10
            inside = np.abs(shifts[active]) <= STEEPEST
            found[active[ended & inside]] = shifts[active[ended & inside]]
            active = active[inside & ~ended]
            if not len(active):
                break
            used = _Used(counts[active])
    return found
