"""Tracking: the names of history.jsonl, no delay or stop of a run, and the files that the real packages write."""

import importlib.util
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

import server
from fedhealth.common.errors import UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import HEART
from fedhealth.reporting import tracking
from fedhealth.reporting.tracking import SINKS, Tracker, require_package, round_metrics, short_names, viewer_command
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.server.run_files import to_json
from tests.support.run_folders import NAMES, make_members, make_record, make_weights

ROOT = Path(__file__).parents[2]
SETTINGS = FederationSettings(rounds=3)


def run_events(names: tuple[str, ...] = NAMES, done: int = 0) -> list[Event]:
    """A run of three rounds, from its beginning or after a round."""
    rounds = [make_record(number, names) for number in range(done + 1, 4)]
    members = make_members(names)
    finished = RunFinished(SETTINGS, HEART, members, "synthetic", make_weights(SETTINGS), None, rounds, 1.5)
    return [RunStarted(SETTINGS, HEART, members, "synthetic", done), *rounds, finished]


class RecordingSink:
    """A sink that records its calls, and calls `at_round[n]` in round n."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.at_round: dict[int, Any] = {}

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        self.calls.append(("begin", settings["rounds"], done))

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        if round_num in self.at_round:
            self.at_round[round_num]()
        self.calls.append((round_num, metrics["union/auroc"]))

    def close(self, finished: bool) -> None:
        self.calls.append(("closed", finished))


def track(sink: RecordingSink, events: list[Event], seconds: float = 30.0) -> list[str]:
    """Send these events to a tracker with this sink; returns the warnings."""
    warnings: list[str] = []
    tracker = Tracker(lambda: sink, warnings.append)
    for event in events:
        tracker.show(event)
    tracker.show_link("joined", "va")
    tracker.close(seconds)
    return warnings


# --- names ------------------------------------------------------------------------------------------------------------


def numbers_in(content: Any, path: str = "") -> dict[str, float]:
    """Every number of a line of history.jsonl by its path."""
    if isinstance(content, dict):
        found: dict[str, float] = {}
        for key, value in content.items():
            found |= numbers_in(value, f"{path}/{key}" if path else key)
        return found
    return {path: content} if isinstance(content, int | float) else {}


def test_every_number_of_a_line_of_the_history_is_tracked_by_its_path_there() -> None:
    record = make_record(2)
    line = json.loads(to_json(record))
    del line["round"]  # the step
    assert round_metrics(record, short_names(NAMES)) == pytest.approx(numbers_in(line))
    assert "union/auroc" in round_metrics(record, {})


def test_hospitals_names_are_made_valid_and_stay_different() -> None:
    assert short_names(["va", "St. Mary/2", "St. Mary|2", "../.."]) == {
        "va": "va",
        "St. Mary/2": "St._Mary_2",
        "St. Mary|2": "St._Mary_2-2",
        "../..": "_..",
    }


@given(st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=8))
def test_no_two_hospitals_share_a_name(names: list[str]) -> None:
    short = short_names(names)
    assert len(set(short.values())) == len(names)
    assert all(
        name and not set(name) - set("-._") - {c for c in name if c.isascii() and c.isalnum()}
        for name in short.values()
    )


# --- the run has priority ---------------------------------------------------------------------------------------------


def test_a_run_is_tracked_in_order() -> None:
    sink = RecordingSink()
    assert track(sink, run_events()) == []
    assert sink.calls[0] == ("begin", 3, 0)
    assert [call[0] for call in sink.calls[1:]] == [1, 2, 3, "closed"]
    assert sink.calls[-1] == ("closed", True)


def test_a_run_that_was_stopped_is_closed_as_not_finished() -> None:
    sink = RecordingSink()
    track(sink, run_events()[:2])
    assert sink.calls[-1] == ("closed", False)


def test_a_failure_is_one_warning_and_nothing_more() -> None:
    sink = RecordingSink()

    def fail() -> None:
        raise RuntimeError("disk full\nTraceback: lots of it")

    sink.at_round = {2: fail}
    (warning,) = track(sink, run_events())
    assert warning == "--track: RuntimeError: disk full; the run continues, and history.jsonl has all its numbers"
    assert [call[0] for call in sink.calls] == ["begin", 1]


def test_a_package_that_breaks_at_import_is_one_warning() -> None:
    warnings: list[str] = []

    def broken() -> RecordingSink:
        raise ImportError("no module named x")

    tracker = Tracker(broken, warnings.append)
    for event in run_events():
        tracker.show(event)
    tracker.close(30.0)
    assert len(warnings) == 1 and "ImportError: no module named x" in warnings[0]


def test_the_end_of_a_run_does_not_wait_for_ever() -> None:
    sink, never = RecordingSink(), threading.Event()
    sink.at_round = {1: never.wait}
    (warning,) = track(sink, run_events(), seconds=0.01)
    never.set()
    assert "the last numbers were not written in 0 s" in warning


def test_events_that_come_too_fast_are_dropped_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MAX_QUEUED", 2)
    sink, busy = RecordingSink(), threading.Event()
    sink.at_round = {1: busy.wait}
    warnings: list[str] = []
    tracker = Tracker(lambda: sink, warnings.append)
    began, first, *_ = run_events()
    for event in (began, *[first] * 20):
        tracker.show(event)  # returns, although the sink is blocked
    assert len(warnings) == 1 and "it cannot keep up, and some rounds are missing" in warnings[0]
    busy.set()
    tracker.close(30.0)
    assert len(warnings) == 1


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SINKS)
def test_a_missing_package_is_one_line_before_the_run(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    package = {"tensorboard": "tensorboardX", "mlflow": "mlflow-skinny"}[kind]
    with pytest.raises(UsageError, match=rf"--track {kind} needs {package}; install it: pip install -r requirements"):
        require_package(kind)
    assert server.main(["--track", kind, "--address", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_another_kind_of_tracking_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main(["--track", "wandb"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "tensorboard" in line and "mlflow" in line


def test_the_requirements_pin_both_packages_exactly() -> None:
    lines = (ROOT / "requirements-track.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert set(pinned) == {package for _, package in tracking.PACKAGES.values()}


# --- files of the real packages ---------------------------------------------------------------------------------------


def write_with_package(kind: str, folder: Path, events: list[Event]) -> None:
    module, package = tracking.PACKAGES[kind]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {package} (pip install -r requirements-track.txt)")
    warnings: list[str] = []
    tracker = Tracker(lambda: SINKS[kind](folder), warnings.append)
    for event in events:
        tracker.show(event)
    tracker.close(600.0)
    assert warnings == []


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Read TensorBoard's format: a sequence of length, checksum, `Event`, checksum."""
    from tensorboardX.proto.event_pb2 import Event as TensorBoardEvent

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = TensorBoardEvent.FromString(content[12 : 12 + length])
            content = content[12 + length + 4 :]
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_finds_the_numbers_of_every_round(tmp_path: Path) -> None:
    events = run_events()
    write_with_package("tensorboard", tmp_path, events)
    found = read_scalars(tmp_path / "tensorboard")
    for number in (1, 2, 3):
        expected = round_metrics(make_record(number), short_names(NAMES))
        assert {name: steps[number] for name, steps in found.items()} == pytest.approx(expected, rel=1e-6)


def read_runs(folder: Path) -> tuple[Any, list[Any]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedhealth")
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_mlflow_finds_the_numbers_of_every_round_and_the_settings(tmp_path: Path) -> None:
    write_with_package("mlflow", tmp_path, run_events())
    client, (run,) = read_runs(tmp_path)
    assert (run.info.status, run.info.run_name) == ("FINISHED", tmp_path.name)
    assert (run.data.params["strategy"], run.data.params["dataset"]) == (SETTINGS.strategy, "synthetic")
    expected = [round_metrics(make_record(number), short_names(NAMES)) for number in (1, 2, 3)]
    assert set(run.data.metrics) == set(expected[0])
    for name in ("union/auroc", "hospitals/va/brier", "train_loss"):
        history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert history == pytest.approx({number: expected[number - 1][name] for number in (1, 2, 3)})


@pytest.mark.slow
def test_a_resumed_run_continues_the_same_run_of_mlflow(tmp_path: Path) -> None:
    write_with_package("mlflow", tmp_path, run_events()[:2])
    _, (run,) = read_runs(tmp_path)
    assert run.info.status == "KILLED"
    write_with_package("mlflow", tmp_path, run_events(done=1))
    client, (run,) = read_runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "union/auroc")] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("done", [0, 1, 2])
def test_rounds_that_are_done_again_after_an_interruption_stand_in_mlflow_once_as_they_were_done_last(
    tmp_path: Path, done: int
) -> None:
    write_with_package("mlflow", tmp_path, run_events()[:4])  # three rounds, then a server that is killed
    again = [structs.replace(each, train_loss=7.0) for each in run_events(done=done) if isinstance(each, RoundRecord)]
    write_with_package("mlflow", tmp_path, [run_events(done=done)[0], *again])
    client, (run,) = read_runs(tmp_path)
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    told = [1.0, 0.5, 1 / 3][:done] + [7.0] * (3 - done)
    assert [(metric.step, metric.value) for metric in losses] == list(enumerate(told, start=1))
    assert run.data.params["strategy"] == SETTINGS.strategy


@pytest.mark.slow
@pytest.mark.parametrize("kind", SINKS)
def test_tracking_brings_no_tensorflow_into_the_server(kind: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(tracking.PACKAGES[kind][0]) is None:
        pytest.skip(f"needs {tracking.PACKAGES[kind][1]} (pip install -r requirements-track.txt)")
    program = (
        "import sys; from pathlib import Path\n"
        "from fedhealth.reporting.tracking import SINKS\n"
        f"sink = SINKS[{kind!r}](Path({str(tmp_path)!r}))\n"
        "sink.begin({'rounds': 1}, 0); sink.log({'union/auroc': 0.5}, 1); sink.close(True)\n"
        "print(*({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_the_server_prints_the_command_that_shows_what_was_tracked(tmp_path: Path) -> None:
    assert viewer_command("tensorboard", Path("runs/x")) == "tensorboard --logdir runs/x/tensorboard"
    assert viewer_command("mlflow", Path("runs/x")) == "mlflow ui --backend-store-uri sqlite:///runs/x/mlflow.db"
