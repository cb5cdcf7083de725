"""The training patients of all hospitals in one table, as no federation ever has them: what an exact fit must equal."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import load_hospital
from fedhealth.data.patients import Patients, split_patients
from fedhealth.data.preprocessing import Standardisation, encode, standardise
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease


class PooledRows(NamedTuple):
    """Standardised inputs in float64, labels, and the position of each patient's hospital."""

    inputs: NDArray[np.float64]
    labels: NDArray[np.float64]
    hospitals: NDArray[np.int64]


def pool_rows(
    hospitals: Mapping[str, Path],
    settings: FederationSettings,
    standardisation: Standardisation,
    schema: Schema | None = None,
) -> PooledRows:
    """The rows on which the hospitals of a run train."""
    schema = schema or heart_disease()
    trained = [_train_patients(path, settings, schema) for path in hospitals.values()]
    features = np.concatenate([patients.features for patients in trained])
    encoded = encode(schema, features, settings.missing_indicators, np.float64)
    places = np.repeat(np.arange(len(trained)), [len(patients) for patients in trained])
    labels = np.concatenate([patients.labels for patients in trained]).astype(np.float64)
    return PooledRows(standardise(encoded, standardisation), labels, places)


def _train_patients(path: Path, settings: FederationSettings, schema: Schema) -> Patients:
    return split_patients(load_hospital(path, schema=schema).patients, settings.test_share, settings.seed)[0]
