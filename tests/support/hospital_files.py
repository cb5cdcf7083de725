"""Invented hospital CSVs for tests that need whole files."""

from pathlib import Path

import pandas as pd

from fedhealth.data.sources.heart import COLUMN_NAMES, HOSPITAL
from fedhealth.data.sources.synthetic import sample_patients


def write_hospitals(folder: Path, num_patients: int = 240, seed: int = 1) -> dict[str, Path]:
    """One CSV per synthetic hospital in `folder`; hospital name -> path."""
    table: pd.DataFrame = sample_patients(num_patients, seed)
    folder.mkdir(exist_ok=True)
    paths = {}
    for name, patients in table.groupby(HOSPITAL, sort=False):
        paths[str(name)] = folder / f"{name}.csv"
        patients[list(COLUMN_NAMES)].to_csv(paths[str(name)], index=False)
    return paths
