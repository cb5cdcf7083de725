"""The service's loop without hospitals: what becomes of run files that cannot run, and of a run that was over already."""

import json
from pathlib import Path

import pytest

from fedhealth.cli.service.server import serve, serve_file
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.scripts import ServerSettings
from fedhealth.config.service import ServiceSettings
from tests.support.run_folders import write_run

pytestmark = pytest.mark.enable_socket


def serve_until_idle(folder: Path, max_wait: float = 0.01) -> None:
    """Run the queue, and stop when it is empty."""

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    service = ServiceSettings(folder / "queue", folder / "runs", "127.0.0.1:0", max_wait=max_wait)
    with pytest.raises(KeyboardInterrupt):
        serve(service, sleep=stop)


def put(folder: Path, name: str, text: str) -> None:
    (folder / "queue" / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "queue" / name).write_text(text)


def state_of(folder: Path, run: str) -> tuple[str, str]:
    state = json.loads((folder / "runs" / run / "state.json").read_text())
    return state["state"], state["reason"]


def test_a_run_that_cannot_be_done_is_put_away_with_its_reason_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.toml", "rounds = 0")
    put(tmp_path, "b.toml", "hospitals = 3")
    serve_until_idle(tmp_path)
    assert state_of(tmp_path, "a") == (
        "failed",
        f"{tmp_path / 'queue' / 'running' / 'a.toml'}: --rounds is 0; give 1 or more",
    )
    assert state_of(tmp_path, "b") == (
        "failed",
        "only 0 of 3 hospitals (--hospitals) joined within 0.01 s; to wait longer, raise --max-wait",
    )
    assert sorted(path.name for path in (tmp_path / "queue" / "failed").iterdir()) == ["a.toml", "b.toml"]
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"no run in {tmp_path / 'queue'}; waiting for the next one"
    assert "warning: run a failed: " in captured.err


def test_a_run_that_was_over_when_the_service_was_killed_is_put_away_as_finished(tmp_path: Path) -> None:
    put(tmp_path, "running/spring.toml", "")
    write_run(tmp_path / "runs" / "spring")
    serve_until_idle(tmp_path)
    assert state_of(tmp_path, "spring") == ("finished", "")
    assert (tmp_path / "queue" / "finished" / "spring.toml").exists()
    assert (tmp_path / "runs" / "spring" / "report.html").exists()


def test_a_run_with_feasibility_ends_without_a_report(tmp_path: Path) -> None:
    put(tmp_path, "running/first.toml", "feasibility = true")
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "feasibility.json").write_text("{}")
    serve_until_idle(tmp_path)
    assert state_of(tmp_path, "first") == ("finished", "")
    assert not (tmp_path / "runs" / "first" / "report.html").exists()


def test_a_second_run_of_a_finished_runs_name_does_not_touch_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "spring.toml", "")
    write_run(tmp_path / "runs" / "spring")
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "runs" / "spring").iterdir())
    serve_until_idle(tmp_path)
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "runs" / "spring").iterdir()) == before
    assert (tmp_path / "queue" / "failed" / "spring.toml").exists()
    assert "holds a finished run; give the run file another name" in capsys.readouterr().err


def test_a_stop_leaves_the_run_in_running_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM")

    put(tmp_path, "spring.toml", "")
    monkeypatch.setattr("fedhealth.cli.service.server.make_server_app", stop)
    service = ServiceSettings(tmp_path / "queue", tmp_path / "runs", "127.0.0.1:0")
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM; spring goes on when the service starts again"):
        serve(service)
    assert state_of(tmp_path, "spring") == ("interrupted", "")
    assert (tmp_path / "queue" / "running" / "spring.toml").exists()


def test_a_disk_that_takes_nothing_ends_the_service_and_loses_no_run(tmp_path: Path) -> None:
    put(tmp_path, "spring.toml", "")
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(RunError, match="the service needs room there"):
        serve(ServiceSettings(tmp_path / "queue", tmp_path / "runs", "127.0.0.1:0"))
    assert (tmp_path / "queue" / "running" / "spring.toml").exists()


def test_flags_beside_the_file_are_refused_with_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        serve_file(ServerSettings(service=tmp_path / "s.toml", rounds=7))
    assert (
        str(caught.value)
        == f"--rounds is given beside --service; put rounds into {tmp_path / 's.toml'} or into a run file"
    )
