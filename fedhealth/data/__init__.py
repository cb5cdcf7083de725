"""A hospital's CSV -> its patients in memory, checked row by row, and their split into train and test.

`table.py` reads text, `validation.py` turns it into numbers or says what is wrong with them, `hospital.py` adds the
name, the source and the warnings, `patients.py` holds and splits the result; `unlabelled.py` reads patients to predict.
No row leaves this room except to whoever called it in the same process; no model, network or preprocessing is known here.

The lines of a `DataError` quote patients' values: they are for the hospital's own screen and go to nobody else.
"""

from fedhealth.data.hospital import FULL_DATASET, Hospital, load_hospital
from fedhealth.data.patients import (
    FEWEST_TO_TEST,
    FEWEST_TO_TRAIN,
    Patients,
    enough_patients,
    hold_validation,
    split_patients,
    split_patients_apart,
)
from fedhealth.data.unlabelled import NewPatients, read_new_patient, read_new_patients

__all__ = [
    "FEWEST_TO_TEST",
    "FEWEST_TO_TRAIN",
    "FULL_DATASET",
    "Hospital",
    "NewPatients",
    "Patients",
    "enough_patients",
    "hold_validation",
    "load_hospital",
    "read_new_patient",
    "read_new_patients",
    "split_patients",
    "split_patients_apart",
]
