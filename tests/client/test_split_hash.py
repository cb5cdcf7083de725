"""The keyed hash of a hospital's test patients: equal exactly for the same patients, and the key stays."""

import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fedhealth.client import split_hash
from fedhealth.client.split_hash import KEY_FILE, derive_key, hash_patients, read_key
from fedhealth.data.patients import Patients

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
FEATURES = np.array([[63.0, np.nan, 0.0], [41.0, 1.0, 2.0], [63.0, 1.0, 2.0]])
LABELS = np.array([1, 0, 1], np.float32)
PATIENTS = Patients(FEATURES, LABELS)


def test_the_hash_does_not_depend_on_the_order_of_the_patients() -> None:
    for order in ([1, 2, 0], [2, 1, 0]):
        assert hash_patients(Patients(FEATURES[order], LABELS[order]), KEY) == hash_patients(PATIENTS, KEY)


def test_the_hash_does_not_depend_on_how_zero_or_a_missing_value_is_stored() -> None:
    features = FEATURES.copy()
    features[0, 2] = -0.0
    features[0, 1] = np.array(0xFFF8000000000001, np.uint64).view(np.float64)
    assert np.isnan(features[0, 1])
    assert hash_patients(Patients(features, LABELS), KEY) == hash_patients(PATIENTS, KEY)


@pytest.mark.parametrize(("row", "column"), [(row, column) for row in range(3) for column in range(4)])
def test_the_hash_is_another_if_one_value_or_label_of_one_patient_is(row: int, column: int) -> None:
    features, labels = FEATURES.copy(), LABELS.copy()
    if column == 3:
        labels[row] = 1 - labels[row]
    else:
        features[row, column] = 7.0
    assert hash_patients(Patients(features, labels), KEY) != hash_patients(PATIENTS, KEY)


def test_a_patient_less_or_twice_is_another_hash() -> None:
    known = hash_patients(PATIENTS, KEY)
    for rows in ([0, 1], [0, 1, 2, 2]):
        assert hash_patients(Patients(FEATURES[rows], LABELS[rows]), KEY) != known


def test_another_key_gives_another_name_and_another_hash() -> None:
    (name, digest), (other_name, other) = (hash_patients(PATIENTS, key).split("-") for key in (KEY, OTHER_KEY))
    assert name != other_name and digest != other
    assert hash_patients(Patients(FEATURES[:1], LABELS[:1]), KEY).startswith(name)


def test_a_folder_gets_one_random_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    key = read_key(tmp_path)
    assert key is not None and len(key) == 32
    assert read_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.mkdir()
    assert read_key(other) != key


def test_clients_that_start_together_in_one_folder_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(read_key, [tmp_path] * 32))
    assert len(keys) == 1 and None not in keys


def test_a_folder_that_cannot_keep_a_key_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_key(tmp_path / "missing") is None

    def is_read_only(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(split_hash, "locked", is_read_only)
    assert read_key(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"k" * 31, b"k" * 33])
def test_a_damaged_key_is_not_used_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    assert read_key(tmp_path) is None
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_a_simulation_has_the_same_key_for_the_same_patients_only() -> None:
    assert derive_key(PATIENTS) == derive_key(Patients(FEATURES[::-1], LABELS[::-1]))
    assert derive_key(PATIENTS) != derive_key(Patients(FEATURES[:2], LABELS[:2]))
