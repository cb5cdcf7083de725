"""A run that is interrupted anywhere ends as if it had not been; what cannot go on says so in one line."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp.strategy import FedAdam

from fedhealth import strategies
from fedhealth.errors import RunError, UsageError
from fedhealth.events import Checkpoint, Event, Finished, RoundRecord
from fedhealth.run_folder import RunKeeper, opened_run
from fedhealth.server_app import make_server_app
from fedhealth.settings import ServerSettings
from fedhealth.wire.messages import RUN_ID, SERVER_NODE_ID
from tests.test_server_app import Toy, ToyHospital, make_toy

ROUNDS = 4


class Killed(BaseException):
    """As sudden as SIGKILL for everything that stands below."""


def hospitals() -> Toy:
    return make_toy(
        ToyHospital("cleveland", [50, 60], step=0.01),
        ToyHospital("hungary", [40], step=0.04),
        ToyHospital("va", [70], step=0.02),
    )


def run(settings: ServerSettings, kill_at: int | None = None) -> list[Event]:
    """The server script without a network; killed at its event number `kill_at`, before or after it is kept."""
    events: list[Event] = []

    def count(event: Event) -> None:
        events.append(event)
        if len(events) == kill_at:
            raise Killed

    with opened_run(settings, lambda line: None) as opened:
        keeper = RunKeeper(opened.folder, settings.keep, 0.0, pytest.fail)
        config = opened.settings.to_run_config()
        app = make_server_app(count, keeper.keep, max_wait=5.0, past=opened.past)
        app(hospitals().grid, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), config))
    return events


def read_run(folder: Path) -> tuple[dict[str, bytes], list[dict[str, Any]], dict[str, Any]]:
    """(weights, history without seconds, summary without seconds)."""
    with np.load(folder / "model.npz", allow_pickle=False) as model:
        weights = {name: model[name].tobytes() for name in model.files if name != "about"}
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    for record in history:
        del record["seconds"]
    assert len(summary.pop("round_seconds")) == ROUNDS
    del summary["seconds"]
    return weights, history, summary


def asked_for(out: Path) -> ServerSettings:
    return ServerSettings(hospitals=3, rounds=ROUNDS, out=out)


@pytest.fixture(params=["fedavg", "fedadam"])
def strategy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever is asked for, this strategy answers: one without and one with a memory."""
    maker = FedAdam if request.param == "fedadam" else strategies.STRATEGIES["fedavg"]
    with mock.patch.dict(strategies.STRATEGIES, {"fedavg": maker}):
        yield


@pytest.mark.usefixtures("strategy")
def test_a_run_that_is_killed_at_any_event_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    calm = len(run(asked_for(tmp_path / "calm")))
    expected = read_run(tmp_path / "calm")
    for kill_at in range(1, calm + 1):
        folder = tmp_path / f"killed at {kill_at}"
        with pytest.raises(Killed):
            run(asked_for(folder), kill_at)
        if kill_at == 1:  # nothing was kept yet
            continue
        run(ServerSettings(resume=folder))
        assert read_run(folder) == expected


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    run(asked_for(tmp_path / "calm"))
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(asked_for(folder), 3)
    for _ in range(ROUNDS - 1):
        with pytest.raises(Killed):
            run(ServerSettings(resume=folder), 4)
    run(ServerSettings(resume=folder))
    assert read_run(folder) == read_run(tmp_path / "calm")


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run folder with two whole rounds."""
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(asked_for(folder), 6)
    return folder


def refusal(folder: Path, **flags: Any) -> str:
    with pytest.raises(UsageError) as caught, opened_run(ServerSettings(resume=folder, **flags), lambda line: None):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_that_are_not_the_runs_own_are_refused(interrupted: Path) -> None:
    assert "--learning-rate is 0.5, but the run" in refusal(interrupted, learning_rate=0.5)
    with opened_run(ServerSettings(resume=interrupted, rounds=ROUNDS, hospitals=3), pytest.fail) as opened:
        assert opened.settings == asked_for(interrupted).federation()


def test_a_finished_run_does_not_go_on(tmp_path: Path) -> None:
    run(asked_for(tmp_path / "run"))
    assert "this run is finished; its model is" in refusal(tmp_path / "run")


def test_what_is_no_run_does_not_go_on(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds no run that has begun" in refusal(tmp_path)
    (tmp_path / "settings.json").write_text('{"version": 1')
    assert "holds no run that has begun" in refusal(tmp_path)


def test_a_run_of_another_version_does_not_go_on(interrupted: Path) -> None:
    begun = json.loads((interrupted / "settings.json").read_text())
    (interrupted / "settings.json").write_text(json.dumps({**begun, "version": "0.0.1"}))
    assert "was begun with version 0.0.1" in refusal(interrupted)


def test_a_history_with_a_hole_is_no_past(interrupted: Path) -> None:
    first, second, *_ = (interrupted / "history.jsonl").read_text().splitlines(keepends=True)
    (interrupted / "history.jsonl").write_text(second)
    assert "history.jsonl is damaged" in refusal(interrupted)
    (interrupted / "history.jsonl").write_text(first + "{ half a li")
    assert "history.jsonl is damaged" in refusal(interrupted)


def test_two_servers_cannot_run_in_one_folder(interrupted: Path) -> None:
    with opened_run(ServerSettings(resume=interrupted), pytest.fail):
        assert "another server is running in it" in refusal(interrupted)


def test_a_hospital_with_other_patients_cannot_go_on(interrupted: Path) -> None:
    grown = make_toy(ToyHospital("cleveland", [1, 2, 3]), ToyHospital("hungary", [40]), ToyHospital("va", [70]))
    with opened_run(ServerSettings(resume=interrupted), pytest.fail) as opened:
        app = make_server_app(max_wait=5.0, past=opened.past)
        context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), opened.settings.to_run_config())
        with pytest.raises(RunError, match="cleveland has other patients than when the run began"):
            app(grown.grid, context)


def test_an_interrupted_run_says_how_to_go_on_and_one_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RunError) as caught, opened_run(asked_for(out), pytest.fail):
        (out / "settings.json").write_text("{}")
        raise RunError("round 3: too few")
    assert caught.value.__notes__ == [f"go on with: python server.py --resume {out}"]
    with pytest.raises(RunError) as caught, opened_run(asked_for(tmp_path / "other"), pytest.fail):
        raise RunError("nobody came")
    assert not hasattr(caught.value, "__notes__")
    assert not (tmp_path / "other").exists()


# --- a full disk ------------------------------------------------------------------------------------------------------


def events_of_a_run(folder: Path) -> list[Event]:
    return run(asked_for(folder))


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_of_a_run(tmp_path / "calm")
    told: list[str] = []
    (tmp_path / "run").mkdir()
    keeper = RunKeeper(tmp_path / "run", keep=3, max_wait=0.0, warn=told.append)
    full, write = [False], os.write

    def maybe_full(descriptor: int, content: bytes) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", maybe_full)
    for event in events:
        if isinstance(event, RoundRecord):
            full[0] = event.round_num in (2, 3)
        keeper.keep(event)
    assert read_run(tmp_path / "run")[:2] == read_run(tmp_path / "calm")[:2]
    assert len(told) == 2
    assert "No space left on device); the run goes on" in told[0]
    assert told[1].endswith("can be written again, nothing is missing")


def test_a_disk_that_stays_full_ends_the_run_in_one_line_after_max_wait(tmp_path: Path) -> None:
    finished = next(event for event in events_of_a_run(tmp_path / "calm") if isinstance(event, Finished))
    keeper = RunKeeper(tmp_path / "calm" / "model.npz" / "below a file", keep=3, max_wait=0.0, warn=lambda line: None)
    with pytest.raises(RunError, match="could not be written to the end; the hospitals have the final model"):
        keeper.keep(finished)


def test_a_checkpoint_is_not_written_before_its_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_of_a_run(tmp_path / "calm")
    keeper = RunKeeper(tmp_path, keep=3, max_wait=0.0, warn=lambda line: None)
    monkeypatch.setattr(os, "write", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    for event in events:
        if isinstance(event, RoundRecord | Checkpoint):
            keeper.keep(replace(event))
    assert not (tmp_path / "checkpoints").exists()
