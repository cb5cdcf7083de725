"""FLamby's Fed-Heart-Disease: its rows, columns, split and seeds, exactly.

Ogier du Terrail et al. 2022, "FLamby: datasets and benchmarks for cross-silo federated learning in realistic healthcare
settings"; code flamby/datasets/fed_heart_disease/dataset.py at commit edacf54. Slope, ca and thal are left out, then every
row with a missing value; cholesterol 0 stays a value. 740 of 920 rows remain. Two things differ from FLamby: numbers are
standardised with the federation's means and standard deviations instead of each hospital's own, and categories are one-hot.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.splits import Case, take
from fedhealth.common.errors import UsageError
from fedhealth.data.patients import Patients
from fedhealth.data.sources.canonical_table import MISSING, split_lines
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.data.sources.uci import HOSPITAL_OF_FILE, read_four

LEFT_OUT = [FEATURE_NAMES.index(name) for name in ("slope", "ca", "thal")]
KEPT = [place for place in range(len(FEATURE_NAMES)) if place not in LEFT_OUT]
TRAIN_SHARE, TEST_SHARE, SPLIT_SEED, FIRST_SEED = 0.66, 0.34, 43, 42
SIZES = {"cleveland": (199, 104), "hungary": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
"""(train, test) patients that FLamby publishes."""


def read_hospitals(source: Path) -> dict[str, Patients]:
    """Hospital name -> the patients that FLamby keeps, in file order; slope, ca and thal are NaN, cholesterol may be 0."""
    files, shown = read_four(source) if source.exists() else ({}, {})
    if not files:
        raise UsageError(f"--protocol flamby needs the four UCI files; {source} has none")
    hospitals = {}
    for file, name in HOSPITAL_OF_FILE.items():
        rows = [fields for _, fields in split_lines(files[file], shown[file])]
        values = np.array([[np.nan if text == MISSING else float(text) for text in row] for row in rows])
        complete = values[~np.isnan(values[:, KEPT]).any(axis=1)]
        features = complete[:, : len(FEATURE_NAMES)].copy()
        features[:, LEFT_OUT] = np.nan
        hospitals[name] = Patients(features, (complete[:, -1] > 0).astype(np.float32))
    return hospitals


def flamby_cases(source: Path, seeds: int) -> Iterator[Case]:
    """FLamby's only split; training uses the seeds 42, 43, ..."""
    from sklearn.model_selection import train_test_split

    train, test = {}, {}
    for name, patients in read_hospitals(source).items():
        classes = [int((patients.labels == label).sum()) for label in (0, 1)]
        sides = train_test_split(
            np.arange(len(patients)),
            train_size=TRAIN_SHARE,
            test_size=TEST_SHARE,
            random_state=SPLIT_SEED,
            shuffle=True,
            stratify=patients.labels if min(classes) > 2 else None,
        )
        train[name], test[name] = (take(patients, side) for side in sides)
    if (sizes := {name: (len(train[name].places), len(test[name].places)) for name in train}) != SIZES:
        raise UsageError(
            f"{source}: FLamby's split has the sizes {sizes} instead of {SIZES}; use the unedited UCI files"
        )
    for repetition in range(seeds):
        yield Case(HEART, "flamby", repetition, FIRST_SEED + repetition, train, test, missing_indicators=False)
