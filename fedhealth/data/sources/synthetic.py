"""Sample patients whose aggregate statistics are those of the four hospitals, for trials without real data.

A Gaussian copula for every hospital and label: draw correlated normal variables, then turn each into a value by the
column's own distribution (Sklar 1959; the recipe of Patki, Wedge & Veeramachaneni 2016, "The Synthetic Data Vault",
section III). The statistics, and what follows from them for every draw, are in `fitted.py`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.common.seeding import seeded_generators
from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.sources.fitted import (
    COLUMNS,
    DECIMALS,
    ColumnPlan,
    FittedStatistics,
    FloatArray,
    GroupPlan,
    HospitalPlan,
    count_patients,
    fitted_plan,
    load_statistics,
    plan_hospital,
)
from fedhealth.data.sources.heart import COLUMN_NAMES, HOSPITAL, HOSPITALS, LABEL, TARGET

LEAST_PATIENTS_PER_HOSPITAL = 10
STREAM = 0xC403D
"""Separates the draws of numbered hospitals from every other use of the same seed."""


def sample_patients(num_patients: int, seed: int, *, fitted: FittedStatistics | None = None) -> pd.DataFrame:
    """Sample `num_patients` patients of four hospitals, whose names start with `SYNTHETIC_PREFIX`.

    Parameters
    ----------
    num_patients : int
        At least 40; 920 gives the real hospitals' sizes (303, 294, 123, 200).
    seed : int
        0 or more. Same seed, same table.
    fitted : FittedStatistics, optional
        Statistics to sample from; default: those of `fitted.toml`.

    Returns
    -------
    DataFrame, shape (num_patients, 16)
        `COLUMN_NAMES`: features float64 with NaN for missing, `num` and `target` int64, `hospital` str;
        hospitals in the order of `HOSPITALS`, each one's patients shuffled.

    Raises
    ------
    UsageError
        Fewer than 40 patients, or a negative seed.
    """
    if num_patients < len(HOSPITALS) * LEAST_PATIENTS_PER_HOSPITAL:
        raise UsageError(f"--patients is {num_patients}; give 40 or more, ten for each hospital")
    if seed < 0:
        raise UsageError(f"--seed is {seed}; give 0 or more")
    fitted = load_statistics() if fitted is None else fitted
    sizes = share_out(num_patients, {name: count_patients(fitted, name) for name in HOSPITALS})
    tables = []
    for index, name in enumerate(HOSPITALS):
        drawn = draw_hospital(plan_hospital(fitted, name), sizes[name], np.random.default_rng([seed, index]))
        tables.append(make_table(drawn, SYNTHETIC_PREFIX + name))
    return pd.concat(tables, ignore_index=True)


def make_table(drawn: FloatArray, hospital: str) -> pd.DataFrame:
    """Draws of one hospital, shape (num_patients, columns) -> the canonical table."""
    table = pd.DataFrame(drawn, columns=list(COLUMNS)).astype({LABEL.name: "int64"})
    table[TARGET] = (table[LABEL.name] > 0).astype("int64")
    table[HOSPITAL] = hospital
    return table[list(COLUMN_NAMES)]


def sample_one(number: int, num_patients: int, seed: int) -> tuple[str, FloatArray, NDArray[np.float32]]:
    """The synthetic hospital of that number (from 0): name, features (num_patients, 13), labels (num_patients,).

    It is modelled on one of the four real hospitals, which take turns.
    """
    (name,), features, labels = sample_many([number], num_patients, seed)
    return name, features[0], labels[0]


def sample_many(
    numbers: Sequence[int], num_patients: int, seed: int
) -> tuple[list[str], FloatArray, NDArray[np.float32]]:
    """The synthetic hospitals of these numbers, which are modelled on the same real one (equal modulo 4).

    Returns
    -------
    Names, features (num_hospitals, num_patients, 13) and labels (num_hospitals, num_patients); of each hospital the same
    as from `sample_one`.
    """
    original = original_of(numbers[0])
    drawn = draw_hospitals(fitted_plan(original), num_patients, seeded_generators([STREAM, seed], numbers))
    return name_hospitals(numbers), drawn[..., :-1], (drawn[..., -1] > 0).astype(np.float32)


def original_of(number: int) -> str:
    """The real hospital on which the synthetic one of that number is modelled."""
    return tuple(HOSPITALS)[number % len(HOSPITALS)]


def name_hospitals(numbers: Sequence[int]) -> list[str]:
    """The names of the synthetic hospitals of these numbers, which are modelled on the same real one."""
    original = original_of(numbers[0])
    return [f"{SYNTHETIC_PREFIX}{original}-{number + 1:06d}" for number in numbers]


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


def draw_hospital(plan: HospitalPlan, num_patients: int, rng: np.random.Generator) -> FloatArray:
    """Patients of one hospital, shuffled, shape (num_patients, columns), NaN where a value is missing.

    The number of ill patients follows from the prevalence, rounded; at least one patient is ill and one is healthy.
    """
    drawn: FloatArray = draw_hospitals(plan, num_patients, [rng])[0]
    return drawn


def draw_hospitals(plan: HospitalPlan, num_patients: int, generators: Iterable[np.random.Generator]) -> FloatArray:
    """As `draw_hospital`, a hospital from each generator: shape (num_hospitals, num_patients, columns)."""
    num_ill = count_ill(plan, num_patients)
    shape, normals, orders = (num_patients, len(plan.groups[0].mixing)), [], []
    for generator in generators:
        normals.append(generator.standard_normal(shape))
        orders.append(generator.permutation(num_patients))
    healthy, ill = np.split(np.stack(normals), [num_patients - num_ill], axis=1)
    drawn = np.concatenate([draw_group(plan.groups[0], healthy), draw_group(plan.groups[1], ill)], axis=1)
    return np.take_along_axis(drawn, np.stack(orders)[..., np.newaxis], axis=1)


def count_ill(plan: HospitalPlan, num_patients: int) -> int:
    """How many of so many patients are ill: as the prevalence says, but at least one is ill and one is healthy."""
    return min(max(round(num_patients * plan.prevalence), 1), num_patients - 1)


def draw_group(plan: GroupPlan, normals: FloatArray) -> FloatArray:
    """Independent normals (num_hospitals, num_patients, columns + 1) -> patients of one hospital and label, NaN = missing."""
    draws = normals @ plan.mixing
    drawn = np.stack([draw_column(column, draws[..., index]) for index, column in enumerate(plan.columns)], axis=-1)
    drawn[plan.missing[np.searchsorted(plan.missing_edges, draws[..., -1])]] = np.nan
    return drawn


def draw_column(plan: ColumnPlan, draws: FloatArray) -> FloatArray:
    """Standard normal draws -> values, rounded, in their valid range, of the same shape."""
    scores = (draws - plan.shift) / plan.scale
    if plan.is_coded:
        return plan.values[np.searchsorted(plan.edges, scores)]
    values = np.interp(scores, plan.edges, plan.values).clip(plan.lowest, plan.highest)
    return np.asarray(values.round(DECIMALS.get(plan.name, 0)) + 0.0, dtype=np.float64)  # + 0.0: no minus zero
