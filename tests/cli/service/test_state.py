"""state.json of a run, for monitoring."""

from pathlib import Path

import pytest

from fedhealth.cli.service.state import StateFile, read_state
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import HEART
from fedhealth.server.events import RunStarted


def test_the_state_follows_the_run_from_waiting_to_its_end(tmp_path: Path) -> None:
    folder, seen = tmp_path / "spring", []
    state = StateFile(folder)
    for step in (
        lambda: state.write("waiting"),
        lambda: state.show(RunStarted(FederationSettings(rounds=9), HEART, (), "synthetic", done=4)),
        lambda: state.write("failed", "too few hospitals"),
    ):
        step()
        read = read_state(folder)
        assert read is not None
        assert read.updated.endswith("+00:00")
        seen.append((read.run, read.state, read.round, read.rounds, read.reason))
    assert seen == [
        ("spring", "waiting", 0, 0, ""),
        ("spring", "running", 4, 9, ""),
        ("spring", "failed", 4, 9, "too few hospitals"),
    ]


def test_a_folder_that_takes_no_file_ends_the_service_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "spring").write_text("")
    with pytest.raises(RunError, match="the service needs room there"):
        StateFile(tmp_path / "spring").write("waiting")
    assert read_state(tmp_path / "spring") is None
