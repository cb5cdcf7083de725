"""A resumed run ends like an uninterrupted one; a run that cannot be resumed gives one line."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from fedhealth.common.atomic_files import append_line
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.federation_flags import StrategyName
from fedhealth.config.scripts import ServerSettings
from fedhealth.server import run_writer
from fedhealth.server.app import make_server_app
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.server.resume import resume_run
from fedhealth.server.run_directory import opened_run, resume_command
from fedhealth.server.run_writer import FolderWriter, RunWriter
from fedhealth.transport.messages import RUN_ID, SERVER_NODE_ID
from tests.support.processes import PATIENCE
from tests.support.run_events import make_began, make_round
from tests.support.run_keeping import Killed, keep, keep_in
from tests.support.toy_hospitals import Toy, ToyHospital, make_toy

pytestmark = pytest.mark.usefixtures("few_draws")

ROOT = Path(__file__).parents[2]
ROUNDS = 4


def hospitals() -> Toy:
    return make_toy(
        ToyHospital("cleveland", [50, 60], step=0.01),
        ToyHospital("hungary", [40], step=0.04),
        ToyHospital("va", [70], step=0.02),
    )


def hospitals_with_invalid_replies() -> Toy:
    """Hungary's weights are never finite, and va's updates are long."""
    toy = hospitals()
    toy.hospitals["va"].step = 0.4
    toy.hospitals["hungary"].step = float("nan")
    return toy


def hospitals_of_which_one_cannot_take_part() -> Toy:
    """Hungary fails at its moment sums, before round 1."""
    toy = hospitals()
    toy.hospitals["hungary"].faults["query.first_moments"] = MemoryError()
    return toy


class ExpellingAdmission:
    """Admission as in the gRPC link: an expelled hospital is away."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy

    def admit_only(self, hospitals: Iterable[str]) -> None:
        assert {*hospitals} == {*self.toy.hospitals} - self.toy.grid.away

    def expel(self, hospital: str, reason: str) -> None:
        self.toy.grid.away.add(hospital)


class KillableWriter(RunWriter):
    """Forwards calls to a writer; the run is killed at call number `kill_at`, before it is written or (`kept`) after."""

    def __init__(self, writer: RunWriter, calls: list[Any], kill_at: int | None, kept: bool) -> None:
        self.writer, self.calls, self.kill_at, self.kept = writer, calls, kill_at, kept

    def _pass_on(self, content: Any) -> None:
        self.calls.append(content)
        dies = len(self.calls) == self.kill_at
        if not dies or self.kept:
            keep(self.writer, content)
        if dies:
            raise Killed

    def run_started(self, started: RunStarted) -> None:
        self._pass_on(started)

    def round_finished(self, record: RoundRecord) -> None:
        self._pass_on(record)

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._pass_on(checkpoint)

    def run_finished(self, finished: RunFinished) -> None:
        self._pass_on(finished)


def run(
    settings: ServerSettings,
    kill_at: int | None = None,
    kept: bool = False,
    make: Callable[[], Toy] = hospitals,
    warn: Callable[[str], None] = lambda line: None,
    *,
    link: str = "plain text",
) -> list[Any]:
    """Run the server script without a network; see `KillableWriter`."""
    calls: list[Any] = []
    toy = make()
    with opened_run(settings, warn) as opened:
        folder_writer = FolderWriter(opened.folder, settings.keep, 0.0, pytest.fail, link)
        writer = KillableWriter(folder_writer, calls, kill_at, kept)
        config = opened.settings.to_run_config()
        app = make_server_app(writer=writer, admission=ExpellingAdmission(toy), max_wait=5.0, past=opened.past)
        app(toy.grid, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), config))
    return calls


def read_run(folder: Path) -> tuple[dict[str, bytes], list[dict[str, Any]], dict[str, Any], bytes]:
    """(weights, history without seconds, summary without seconds, evaluation)."""
    with np.load(folder / "model.npz", allow_pickle=False) as model:
        weights = {name: model[name].tobytes() for name in model.files if name != "about"}
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    for record in history:
        del record["seconds"]
    assert len(summary.pop("round_seconds")) == len(history)
    del summary["seconds"]
    return weights, history, summary, (folder / "evaluation.json").read_bytes()


def asked_for(out: Path, strategy: StrategyName = "fedadam") -> ServerSettings:
    return ServerSettings(hospitals=3, rounds=ROUNDS, strategy=strategy, out=out)


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "fedadagrad", "scaffold"])
@pytest.mark.parametrize("kept", [False, True], ids=["before it is kept", "after it is kept"])
def test_a_run_that_is_killed_at_any_event_ends_as_if_it_had_not_been(
    tmp_path: Path, kept: bool, strategy: StrategyName
) -> None:
    calm = len(run(asked_for(tmp_path / "calm", strategy)))
    expected = read_run(tmp_path / "calm")
    for kill_at in range(1, calm + 1):
        folder = tmp_path / f"killed at {kill_at}"
        with pytest.raises(Killed):
            run(asked_for(folder, strategy), kill_at, kept)
        if (folder / "summary.json").exists():
            assert (kept, kill_at) == (True, calm)
        elif (folder / "settings.json").exists():
            run(ServerSettings(resume=folder))
        else:
            assert (kept, kill_at) == (False, 1)
            continue
        assert read_run(folder) == expected
        assert not list(folder.rglob("*.tmp"))
        assert not (folder / "checkpoints").exists()


def test_strikes_and_clipped_updates_are_the_same_after_an_interruption_at_any_event(tmp_path: Path) -> None:
    asked = ServerSettings(hospitals=3, rounds=ROUNDS, strikes=3, max_update_norm=0.125, out=tmp_path / "calm")
    calm = len(run(asked, make=hospitals_with_invalid_replies))
    expected = read_run(tmp_path / "calm")
    _, history, _, _ = expected
    assert [record["left_out"]["hungary"].split(";")[0][:11] for record in history] == ["its weights"] * 2 + [
        "dropped at "
    ] * 2
    assert all(record["clipped"].keys() == {"va"} for record in history)
    for kill_at in range(2, calm + 1):
        folder = tmp_path / f"killed at {kill_at}"
        with pytest.raises(Killed):
            run(replace(asked, out=folder), kill_at, make=hospitals_with_invalid_replies)
        run(ServerSettings(resume=folder), make=hospitals_with_invalid_replies)
        assert read_run(folder) == expected


def test_a_run_without_a_hospital_that_could_not_take_part_ends_the_same_after_an_interruption_at_any_event(
    tmp_path: Path,
) -> None:
    make = hospitals_of_which_one_cannot_take_part
    calm = len(run(asked_for(tmp_path / "calm", "scaffold"), make=make))
    expected = read_run(tmp_path / "calm")
    _, history, summary, _ = expected
    assert [record["left_out"] for record in history] == [{}] * ROUNDS
    assert summary["left_out"] == {"hungary": "could not reply to query.first_moments: MemoryError"}
    for kill_at in range(2, calm + 1):
        folder = tmp_path / f"killed at {kill_at}"
        with pytest.raises(Killed):
            run(asked_for(folder, "scaffold"), kill_at, make=make)
        run(ServerSettings(resume=folder), make=make)
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
    """A run folder with two whole rounds, and the checkpoint after the training of a third."""
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(asked_for(folder), 7)
    return folder


def test_a_resumed_run_has_its_earlier_rounds_and_their_seconds(interrupted: Path) -> None:
    path = interrupted / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({**line, "seconds": 100.0}) + "\n" for line in lines), encoding="utf-8")
    calls = run(ServerSettings(resume=interrupted))
    started, finished = calls[0], calls[-1]
    assert [record.round_num for record in started.rounds] == [1, 2]
    assert started.done == 2
    assert finished.seconds > 200.0


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_checkpoint_costs_a_round_and_a_warning_but_changes_nothing(
    tmp_path: Path, interrupted: Path
) -> None:
    run(asked_for(tmp_path / "calm"))
    *_, newest = sorted((interrupted / "checkpoints").iterdir())
    damage(newest)
    warnings: list[str] = []
    events = run(ServerSettings(resume=interrupted), warn=warnings.append)
    assert read_run(interrupted) == read_run(tmp_path / "calm")
    assert [line.startswith(f"{newest}: is damaged") for line in warnings] == [True]
    assert next(event.round_num for event in events if isinstance(event, RoundRecord)) == 2


def test_a_run_without_a_readable_checkpoint_is_not_resumed_and_keeps_its_history(
    tmp_path: Path, interrupted: Path
) -> None:
    for path in (interrupted / "checkpoints").iterdir():
        damage(path)
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    assert "none of its checkpoints can be read" in refusal(interrupted)
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before
    shutil.rmtree(interrupted / "checkpoints")  # as the error says, to start again
    run(asked_for(tmp_path / "calm"))
    run(ServerSettings(resume=interrupted))
    assert read_run(interrupted) == read_run(tmp_path / "calm")


def test_a_run_that_went_back_some_rounds_keeps_its_checkpoints(tmp_path: Path) -> None:
    """The damaged files of later rounds must not push the new ones out."""
    run(asked_for(tmp_path / "calm"))
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(asked_for(folder), 9)
    _, *later = sorted((folder / "checkpoints").iterdir())
    assert len(later) == 2
    for path in later:
        path.write_bytes(b"damaged")
    with pytest.raises(Killed):
        run(ServerSettings(resume=folder, keep=1), 6)
    resumed = run(ServerSettings(resume=folder, keep=1), warn=pytest.fail)
    assert next(event.round_num for event in resumed if isinstance(event, RoundRecord)) == 3
    assert read_run(folder) == read_run(tmp_path / "calm")


def test_what_a_killed_server_left_half_written_is_cleared_away(tmp_path: Path, interrupted: Path) -> None:
    run(asked_for(tmp_path / "calm"))
    for name in (".summary.json.123.tmp", "checkpoints/.round-00000003.ckpt.123.tmp"):
        (interrupted / name).write_bytes(b"half")
    with (interrupted / "history.jsonl").open("a") as file:
        file.write('{"round": 3, "sec')
    run(ServerSettings(resume=interrupted))
    assert read_run(interrupted) == read_run(tmp_path / "calm")
    assert {path.name for path in interrupted.iterdir()} == {path.name for path in (tmp_path / "calm").iterdir()}


def test_a_history_without_its_last_line_break_gets_it_back(tmp_path: Path, interrupted: Path) -> None:
    run(asked_for(tmp_path / "calm"))
    path = interrupted / "history.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    run(ServerSettings(resume=interrupted))
    assert read_run(interrupted) == read_run(tmp_path / "calm")


def refusal(folder: Path, **flags: Any) -> str:
    with pytest.raises(UsageError) as caught, opened_run(ServerSettings(resume=folder, **flags), lambda line: None):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_that_are_not_the_runs_own_are_refused(interrupted: Path) -> None:
    assert "--learning-rate is 0.5, but the run" in refusal(interrupted, learning_rate=0.5)
    with opened_run(ServerSettings(resume=interrupted, rounds=ROUNDS, hospitals=3), pytest.fail) as opened:
        assert opened.settings == asked_for(interrupted).federation()


def test_a_run_is_resumed_without_the_hospitals_that_are_gone(interrupted: Path) -> None:
    with opened_run(ServerSettings(resume=interrupted, without=("va",)), pytest.fail) as opened:
        assert opened.past
        assert "va" not in opened.past.remaining
        assert opened.past.checkpoint.dropped == {"va": "left out for good (--without)"}
    assert refusal(interrupted, without=("basel",)).startswith(
        "--without basel: is no hospital of this run; give one of "
    )


def test_a_finished_run_cannot_be_resumed(tmp_path: Path) -> None:
    run(asked_for(tmp_path / "run"))
    assert "this run is finished; its model is" in refusal(tmp_path / "run")


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    assert "contains no run" in refusal(tmp_path)
    (tmp_path / "settings.json").write_text('{"version": 1')
    assert "settings.json: is damaged" in refusal(tmp_path)


def test_a_run_of_another_version_cannot_be_resumed(interrupted: Path) -> None:
    begun = json.loads((interrupted / "settings.json").read_text())
    (interrupted / "settings.json").write_text(json.dumps({**begun, "version": "0.0.1"}))
    assert "was started with version 0.0.1" in refusal(interrupted)


def test_another_version_is_named_even_if_its_settings_are_unknown_here(interrupted: Path) -> None:
    begun = json.loads((interrupted / "settings.json").read_text())
    newer = {**begun, "version": "9.0", "settings": {**begun["settings"], "secure-aggregation": True}}
    (interrupted / "settings.json").write_text(json.dumps(newer))
    assert "was started with version 9.0" in refusal(interrupted)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"version": "1", "schema": "2", "settings": [1]}', "\ud800"]
)
def test_settings_that_are_none_are_damage(interrupted: Path, content: str) -> None:
    (interrupted / "settings.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert "settings.json: is damaged, or of another version" in refusal(interrupted)


@pytest.mark.parametrize("line", ["[1]", "null", "{}", '{"round": 1}', "not JSON", "\udcff", '{"round": 2}'])
def test_a_line_of_the_history_that_is_no_round_is_damage(interrupted: Path, line: str) -> None:
    path = interrupted / "history.jsonl"
    before = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n" + before[1])
    assert "history.jsonl is damaged, so the run cannot be resumed" in refusal(interrupted)
    path.unlink()
    assert "history.jsonl is damaged" in refusal(interrupted)


def test_a_folder_that_holds_no_run_is_left_as_it_is(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "contains no run" in refusal(empty)
    assert empty.exists()


def test_a_new_run_does_not_get_into_a_folder_that_another_server_has_just_made(tmp_path: Path) -> None:
    with opened_run(asked_for(tmp_path / "run"), pytest.fail) as opened:
        with pytest.raises(UsageError) as caught, opened_run(asked_for(tmp_path / "run"), pytest.fail):
            pass
        assert str(caught.value) == f"{tmp_path / 'run'}: another server is running in it; stop that one first"
        assert opened.folder.exists(), "the second server has taken the folder away under the first one"
    with opened_run(asked_for(tmp_path / "run"), pytest.fail):
        pass


def test_trouble_in_a_run_is_not_taken_for_another_server(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), opened_run(asked_for(tmp_path / "run"), pytest.fail):
        raise BlockingIOError


def test_a_history_with_a_missing_line_is_refused(interrupted: Path) -> None:
    first, second, *_ = (interrupted / "history.jsonl").read_text().splitlines(keepends=True)
    (interrupted / "history.jsonl").write_text(second)
    assert "history.jsonl is damaged" in refusal(interrupted)
    (interrupted / "history.jsonl").write_text(first + "{ half a li")
    assert "history.jsonl is damaged" in refusal(interrupted)


def test_two_servers_cannot_run_in_one_folder(interrupted: Path) -> None:
    with opened_run(ServerSettings(resume=interrupted), pytest.fail):
        assert "another server is running in it" in refusal(interrupted)


def test_the_lock_ends_with_a_server_that_was_killed_and_is_no_file_of_the_run(interrupted: Path) -> None:
    """A process takes the lock, says so and is killed."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom fedhealth.server.run_directory import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('locked', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(interrupted)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert "another server is running in it" in refusal(interrupted)
        other.kill()
    run(ServerSettings(resume=interrupted))
    assert sorted(path.name for path in interrupted.iterdir()) == [
        *("evaluation.json", "history.jsonl", "model.npz", "schema.toml", "settings.json", "summary.json")
    ]


def test_a_run_cannot_be_resumed_with_other_patients(interrupted: Path) -> None:
    grown = make_toy(ToyHospital("cleveland", [1, 2, 3]), ToyHospital("hungary", [40]), ToyHospital("va", [70]))
    with opened_run(ServerSettings(resume=interrupted), pytest.fail) as opened:
        app = make_server_app(max_wait=5.0, past=opened.past)
        context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), opened.settings.to_run_config())
        with pytest.raises(RunError, match="cleveland has other patients than when the run started"):
            app(grown.grid, context)


def test_an_interrupted_run_says_how_to_resume_it_and_one_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RunError) as caught, opened_run(asked_for(out), pytest.fail):
        (out / "settings.json").write_text("{}")
        raise RunError("round 3: too few")
    assert caught.value.__notes__ == [f"resume with: python server.py --resume {out}"]
    with pytest.raises(RunError) as caught, opened_run(asked_for(tmp_path / "other"), pytest.fail):
        raise RunError("nobody came")
    assert not hasattr(caught.value, "__notes__")
    assert not (tmp_path / "other").exists()


def test_ctrl_c_says_how_to_resume_but_not_after_the_end(interrupted: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, opened_run(ServerSettings(resume=interrupted), pytest.fail):
        raise KeyboardInterrupt("stopped by Ctrl-C")
    assert caught.value.__notes__ == [f"resume with: python server.py --resume {interrupted}"]
    with pytest.raises(KeyboardInterrupt) as caught, opened_run(ServerSettings(resume=interrupted), pytest.fail):
        (interrupted / "summary.json").write_text("{}")
        raise KeyboardInterrupt("stopped by Ctrl-C")
    assert not hasattr(caught.value, "__notes__")


def test_a_run_without_a_name_that_never_began_leaves_no_folder_but_other_runs_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened_run(ServerSettings(), pytest.fail) as opened:
        assert opened.folder.parent == Path("runs")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs" / "older").mkdir(parents=True)
    with opened_run(ServerSettings(), pytest.fail):
        pass
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["older"]


# --- a full disk ------------------------------------------------------------------------------------------------------


def events_of_a_run(folder: Path) -> list[Any]:
    return run(asked_for(folder))


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_of_a_run(tmp_path / "calm")
    warnings: list[str] = []
    (tmp_path / "run").mkdir()
    writer = FolderWriter(tmp_path / "run", checkpoints=3, max_wait=0.0, warn=warnings.append)
    full, write = [False], os.write

    def maybe_full(descriptor: int, content: bytes) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", maybe_full)
    for event in events:
        if isinstance(event, RoundRecord):
            full[0] = event.round_num in (2, 3)
        keep(writer, event)
    assert read_run(tmp_path / "run")[:2] == read_run(tmp_path / "calm")[:2]
    assert len(warnings) == 2
    assert "No space left on device); the run continues" in warnings[0]
    assert warnings[1].endswith("can be written again, and no file is missing")


def test_a_disk_that_is_full_from_the_start_costs_nothing_if_there_is_room_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = events_of_a_run(tmp_path / "calm")
    warnings: list[str] = []
    (tmp_path / "run").mkdir()
    writer = FolderWriter(tmp_path / "run", checkpoints=3, max_wait=60.0, warn=warnings.append)
    naps, sync = [], os.fsync

    def full(descriptor: int) -> None:
        if len(naps) < 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    clock = SimpleNamespace(monotonic=lambda: float(len(naps)), sleep=naps.append)
    monkeypatch.setattr(run_writer, "time", clock)
    monkeypatch.setattr(os, "fsync", full)
    for event in events:
        keep(writer, event)
    assert read_run(tmp_path / "run")[:2] == read_run(tmp_path / "calm")[:2]
    assert (tmp_path / "run" / "settings.json").exists()
    assert "the run continues, and missing files are written as soon as that is possible" in warnings[0]
    assert warnings[1] == f"{tmp_path / 'run'}: can be written again, and no file is missing"
    assert (len(warnings), len(naps)) == (2, 5)


def test_a_line_that_does_not_fit_leaves_no_half_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.jsonl"
    append_line(path, "first")
    write = os.write
    with (
        monkeypatch.context() as patched,
        pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"),
    ):
        patched.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
        append_line(path, "second")
    assert path.read_text() == "first\n"
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_a_history_that_cannot_even_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        append_line(tmp_path / "nowhere" / "history.jsonl", "first")


LITTLE_ROOM = """
import resource, signal, sys
from pathlib import Path
from tests.support.run_events import make_began, make_round
from fedhealth.common.atomic_files import append_line
from fedhealth.server.run_writer import FolderWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = FolderWriter(Path(sys.argv[1]), checkpoints=3, max_wait=0.0, warn=lambda line: print(line.rpartition("; ")[2]))
writer.run_started(make_began())
writer.round_finished(make_round(1))
size = (Path(sys.argv[1]) / "history.jsonl").stat().st_size
for round_num, most in ((2, size + 10), (3, size + 20), (4, resource.RLIM_INFINITY)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    writer.round_finished(make_round(round_num))
"""


def test_a_real_limit_on_the_size_of_files_cuts_no_line_in_two(tmp_path: Path) -> None:
    program = [sys.executable, "-c", LITTLE_ROOM, str(tmp_path)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout.splitlines()
        == [
            "the run continues, and missing files are written as soon as that is possible",
            f"{tmp_path}: can be written again, and no file is missing",
        ]
        or done.stdout.count("can be written again") == 1
    )
    rounds = [json.loads(line)["round"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rounds == [1, 2, 3, 4]


def test_a_disk_that_stays_full_ends_the_run_in_one_line_after_max_wait(tmp_path: Path) -> None:
    finished = next(event for event in events_of_a_run(tmp_path / "calm") if isinstance(event, RunFinished))
    writer = FolderWriter(
        tmp_path / "calm" / "model.npz" / "below a file", checkpoints=3, max_wait=0.0, warn=lambda line: None
    )
    with pytest.raises(RunError, match="not all files could be written; the hospitals have the final model"):
        writer.run_finished(finished)


def test_a_checkpoint_is_not_written_before_the_history_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = events_of_a_run(tmp_path / "calm")
    writer = FolderWriter(tmp_path, checkpoints=3, max_wait=0.0, warn=lambda line: None)
    monkeypatch.setattr(os, "write", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    for event in events:
        if isinstance(event, RoundRecord | Checkpoint):
            keep(writer, event)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["round-00000001.ckpt"]


def test_the_command_to_resume_with_has_the_flags_of_the_link_and_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    settings = ServerSettings(address="0.0.0.0:8443", tls=Path("certs/server"), allow=("va", "basel"), rounds=7)
    command = shlex.split(resume_command(settings, folder))
    assert command[:4] == ["python", "server.py", "--resume", str(folder)]
    assert command[4:] == ["--address", "0.0.0.0:8443", "--allow", "va", "basel", "--tls", "certs/server"]


def test_the_command_to_resume_with_has_the_port_that_the_system_chose(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError) as caught,
        opened_run(ServerSettings(address="127.0.0.1:0", out=tmp_path / "run"), pytest.fail) as opened,
    ):
        (opened.folder / "settings.json").write_text("{}", encoding="utf-8")
        opened.address = "127.0.0.1:43210"
        raise RunError("round 3: too few")
    command = f"python server.py --resume {tmp_path / 'run'} --address 127.0.0.1:43210"
    assert caught.value.__notes__ == [f"resume with: {command}"]


def test_a_run_over_tls_is_resumed_in_plain_text_only_if_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(asked_for(folder), kill_at=4, link="plain text")  # before the record of round 2 is written
    with pytest.raises(Killed):
        run(ServerSettings(resume=folder), kill_at=2, link="TLS")
    with pytest.raises(UsageError, match="the run has used TLS; give --tls FOLDER, or --insecure"):
        resume_run(folder, ServerSettings(), print)
    assert resume_run(folder, ServerSettings(insecure=True), print).folder == folder


def test_settings_json_has_the_link_of_every_start(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run(asked_for(folder), kill_at=7, link="TLS")  # before the record of round 3 is written
    with pytest.raises(Killed):
        run(ServerSettings(resume=folder, insecure=True), kill_at=2, link="plain text")
    run(ServerSettings(resume=folder, insecure=True), link="TLS")
    starts = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["starts"]
    assert starts == [{"done": 0, "link": "TLS"}, {"done": 2, "link": "plain text"}, {"done": 2, "link": "TLS"}]


def test_a_full_disk_at_the_resumption_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_in(tmp_path, make_began())
    warnings: list[str] = []
    writer = FolderWriter(tmp_path, checkpoints=3, max_wait=0.0, warn=warnings.append, link="TLS")
    resumed = replace(make_began(), done=1)
    with monkeypatch.context() as full:
        full.setattr(run_writer, "add_start", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        writer.run_started(resumed)
    writer.round_finished(make_round(2))
    assert len(warnings) == 2 and warnings[1].endswith("no file is missing")
    starts = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["starts"]
    assert starts == [{"done": 0, "link": "plain text"}, {"done": 1, "link": "TLS"}]


def test_a_resumed_run_has_its_own_folder() -> None:
    with pytest.raises(
        UsageError, match="--out is b beside --resume, which continues in its own folder; leave --out out"
    ):
        ServerSettings(resume=Path("a"), out=Path("b"))
