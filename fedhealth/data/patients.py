"""Patients in memory and their split into train and test; knows nothing of files."""

import hashlib
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError

SPLIT_STREAM = 0x5B117
"""Keeps the split's random numbers apart from every other use of the same seed."""
VALIDATION_STREAM = 0x7A11DA
"""The same for the patients that are held out of those to train on."""
SYNTHETIC_PREFIX = "synthetic-"
"""Rows of invented patients carry it in their hospital's name, so that every copy of the file shows what they are."""
UNKNOWN_HOSPITAL = "unknown"
"""The hospital of patients whose file does not say where they were examined."""
USUAL_SHARE = 0.25
ABSENT = -1e9
"""Stands for a missing value where a row is hashed; no measurement is so small."""
FEWEST_TO_TRAIN, FEWEST_TO_TEST = 10, 5
"""Fewest patients of a part: a sum over fewer, or a count of fewer, would disclose too much of each of them."""
MINIMUM_PATIENTS = 17
"""With fewer, the usual split never leaves enough to train and to test on (`enough_patients`)."""
ENOUGH_PATIENTS = 21
"""From here on the usual split always does; between the two it depends on how many are ill."""


@dataclass(frozen=True, eq=False)
class Patients:
    """The patients of one hospital; its `repr` shows no value, so that no log can."""

    features: NDArray[np.float64] = field(repr=False)
    """(num_patients, num_features), in the order, units and codes of the schema, NaN = missing."""
    labels: NDArray[np.float32] = field(repr=False)
    """(num_patients,), 1 = positive, 0 = negative."""

    def __len__(self) -> int:
        """How many patients."""
        return len(self.labels)


def split_patients(
    patients: Patients, test_share: float, seed: int, stream: int = SPLIT_STREAM
) -> tuple[Patients, Patients]:
    """Split at random within each class; both parts keep the order of the rows.

    The test set contains `round(test_share * n)` of the n patients of each class, but at least one per class stays in
    training. If the test set would be empty, one patient of the larger class is moved to it. Each `test_share` uses its own
    random numbers: otherwise the test sets for 0.25 and 0.26 could differ by one patient, whose values would follow from the
    difference of the two sums. Different values of `stream` give independent splits.

    Returns
    -------
    (train, test), disjoint, together all patients, neither empty.

    Raises
    ------
    UsageError
        Fewer than 2 patients.
    """
    if len(patients) < 2:
        raise UsageError(f"{len(patients)} patients cannot be split into train and test; give 2 or more")
    rng = np.random.default_rng([stream, seed, share_word(test_share)])
    is_test = np.zeros(len(patients), dtype=np.bool_)
    classes = [rng.permutation(np.flatnonzero(patients.labels == label)) for label in np.unique(patients.labels)]
    for members in classes:
        is_test[members[: min(round(test_share * len(members)), len(members) - 1)]] = True
    if not is_test.any():
        is_test[max(classes, key=len)[0]] = True
    return select_patients(patients, ~is_test), select_patients(patients, is_test)


def split_patients_apart(patients: Patients, test_share: float, seed: int) -> tuple[Patients, Patients]:
    """Split so that one patient's side depends on no other patient: by a hash of the row. (train, test); either may be empty.

    Differential privacy asks what changes if one patient is added: here, that patient's side and nothing else. (The ordinary
    split deals out everybody anew.) Equal rows are on the same side.
    """
    rows = np.column_stack([np.nan_to_num(patients.features, nan=ABSENT), patients.labels])
    word = struct.pack(">qd", seed, test_share)
    draws = [int.from_bytes(hashlib.sha256(word + row.tobytes()).digest()[:8]) / 2**64 for row in rows]
    is_test = np.asarray(draws) < test_share
    return select_patients(patients, ~is_test), select_patients(patients, is_test)


def hold_validation(train: Patients, share: float, seed: int) -> tuple[Patients, Patients]:
    """Split the patients to train on once more: (to train on, to choose on)."""
    return split_patients(train, share, seed, stream=VALIDATION_STREAM)


def share_word(test_share: float) -> int:
    """A seed word for each share, as fine as a float is; 0 (which changes nothing) for the usual one."""
    return int.from_bytes(struct.pack(">d", test_share)) ^ int.from_bytes(struct.pack(">d", USUAL_SHARE))


def enough_patients(train: Patients, test: Patients) -> bool:
    """Whether both parts of a split are large enough for sums and counts of them to leave a hospital."""
    return len(train) >= FEWEST_TO_TRAIN and len(test) >= FEWEST_TO_TEST


def fits_usual_split(patients: Patients) -> bool:
    """Whether the usual split leaves enough to train and to test on; the seed changes who, not how many."""
    labels_only = Patients(patients.features[:, :0], patients.labels)
    return enough_patients(*split_patients(labels_only, USUAL_SHARE, seed=0))


def select_patients(patients: Patients, mask: NDArray[np.bool_]) -> Patients:
    """The patients where `mask` (num_patients,) is true, in their order."""
    return Patients(features=patients.features[mask], labels=patients.labels[mask])
