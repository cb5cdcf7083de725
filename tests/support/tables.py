"""Tables of invented patients."""

import numpy as np
import pandas as pd

from fedhealth.data.sources.heart import FEATURE_NAMES


def sample_table(sizes: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Invented patients; `chol` numbers them, so that each can be found again."""
    rng = np.random.default_rng(seed)
    num_patients = sum(sizes.values())
    table = pd.DataFrame({name: np.full(num_patients, 1.0) for name in FEATURE_NAMES})
    table["age"] = rng.integers(30, 80, num_patients).astype(float)
    table["chol"] = np.arange(num_patients, dtype=float)
    table["num"] = rng.integers(0, 2, num_patients)
    table["target"] = (table["num"] > 0).astype("int64")
    table["hospital"] = np.repeat(list(sizes), list(sizes.values()))
    return table
