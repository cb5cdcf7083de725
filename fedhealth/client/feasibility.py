"""A hospital's reply in a run with --feasibility: what it has, without a count of few patients."""

import numpy as np

from fedhealth.common.errors import RunError
from fedhealth.data.hospital import Hospital
from fedhealth.metrics.subgroups import suppress_small_cells
from fedhealth.transport.protocol.feasibility import ALL_BUT_FEW, FEW, FeasibilityReply


def count_feasibility(hospital: Hospital, least: int) -> FeasibilityReply:
    """How many of all its patients lack each feature, and how many have the outcome.

    Raises
    ------
    RunError
        It has so few patients that a bound would give a small count away.
    """
    patients = hospital.patients
    total = len(patients)
    if total < fewest_patients(least):
        raise RunError(f"fewer than {fewest_patients(least)} patients, too few for --min-count {least}")
    missing = np.isnan(patients.features).sum(axis=0).tolist()
    return FeasibilityReply(
        name=hospital.name,
        source=hospital.source,
        schema=hospital.schema.fingerprint,
        patients=total,
        ill=disclose(int(patients.labels.sum()), total, least),
        min_count=least,
        missing=tuple(disclose(count, total, least) for count in missing),
    )


def fewest_patients(least: int) -> int:
    """With fewer, the counts of which the rest is small would be fewer than the small counts, down to a single one."""
    return 2 * least - 1


def disclose(count: int, total: int, least: int) -> int:
    """The count, if neither it nor the rest of the patients is small; who knows the total knows the rest."""
    if all(suppress_small_cells([count, total - count], least)):
        return count
    return FEW if count < least else ALL_BUT_FEW
