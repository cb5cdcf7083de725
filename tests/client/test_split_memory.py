"""Which splits of its patients a hospital gives: counted over runs and restarts."""

from pathlib import Path

import pytest

from fedhealth.client.split_memory import SplitMemory
from fedhealth.common.errors import UsageError

FIRST, SECOND = {"seed": 0, "test-share": 0.25}, {"seed": 1, "test-share": 0.25}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "client_1.csv"
    path.write_text("age\n61\n")
    return path


def test_a_restart_forgets_no_split(file: Path) -> None:
    SplitMemory(1, file).remember(FIRST)
    again = SplitMemory(1, file)
    assert again.allows(FIRST)
    assert not again.allows(SECOND)


def test_a_policy_may_allow_another_split(file: Path) -> None:
    memory = SplitMemory(2, file)
    memory.remember(FIRST)
    memory.remember(FIRST)
    assert memory.allows(SECOND)
    memory.remember(SECOND)
    assert not SplitMemory(2, file).allows({**FIRST, "test-share": 0.3})


def test_validation_patients_count_only_where_something_is_chosen(file: Path) -> None:
    memory = SplitMemory(1, file)
    memory.remember(FIRST)
    assert memory.allows({**FIRST, "validation": 0.3})
    assert not memory.allows({**FIRST, "validation": 0.3, "patience": 1})


def test_a_patient_more_in_the_file_is_another_split(file: Path) -> None:
    SplitMemory(1, file).remember(FIRST)
    file.write_text("age\n61\n48\n")
    assert not SplitMemory(1, file).allows(FIRST)
    assert SplitMemory(2, file).allows(FIRST)


def test_a_memory_that_cannot_be_read_is_not_taken_for_an_empty_one(file: Path) -> None:
    file.with_name("client_1.splits.json").write_text("[{]")
    with pytest.raises(UsageError, match=r"client_1\.splits\.json: cannot be read .* restore the file"):
        SplitMemory(1, file)
