"""The split of a hospital's patients into training, test and validation patients."""

from typing import NamedTuple

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.patients import (
    FEWEST_TO_TEST,
    FEWEST_TO_TRAIN,
    Patients,
    enough_patients,
    hold_validation,
    split_patients,
    split_patients_apart,
)


class PatientSplit(NamedTuple):
    """Training, test and validation patients."""

    train: Patients
    test: Patients
    validation: Patients | None = None
    """Held out of the training patients for model selection; None if nothing is selected."""


def split_for(settings: FederationSettings, patients: Patients) -> PatientSplit:
    """The split by these settings; raises a `RunError` if a part is too small."""
    if settings.private:  # noise protects each patient, so no part is too small
        return PatientSplit(*split_patients_apart(patients, settings.test_share, settings.seed))
    train, test = split_patients(patients, test_share=settings.test_share, seed=settings.seed)
    if not enough_patients(train, test):
        raise RunError(
            f"too few patients for --test-share {settings.test_share:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to test on, and sums and counts could disclose single patients"
        )
    return hold_out(settings, train, test)


def hold_out(settings: FederationSettings, train: Patients, test: Patients) -> PatientSplit:
    """The split, with validation patients held out of the training patients if the settings need them."""
    if not settings.validation_share:
        return PatientSplit(train, test)
    kept, validation = hold_validation(train, settings.validation_share, settings.seed)
    if not enough_patients(kept, validation):
        raise RunError(
            f"too few patients for --validation {settings.validation:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to validate on, and sums and counts could disclose single patients"
        )
    return PatientSplit(kept, test, validation)
