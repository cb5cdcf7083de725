"""Virtual hospitals, in this process and in others, and `python -m fedhealth simulate` as a user runs it."""

import gc
import os
import signal
import time
import weakref
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.cli.commands.simulate import main
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.trainers import Trainers
from fedhealth.client.virtual import KEPT_HOSPITALS, VirtualHospitals, VirtualSource, list_hospital_files
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event, RunFinished
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.process_pool import WorkersGrid, working_grid
from tests.support.hospital_apps import make_apps
from tests.support.hospital_files import write_hospitals
from tests.support.processes import Process, started

NAMES = [f"hospital {number}" for number in range(1, 6)]


# --- virtual hospitals -----------------------------------------------------------------------------------------------


def make_source(folder: Path) -> VirtualSource:
    return VirtualSource(EngineSettings(data=str(folder)), seed=0, trainers=Trainers())


def test_a_number_means_the_csv_in_the_order_of_numbers_and_never_the_file_of_all(tmp_path: Path) -> None:
    for name in ("client_10.csv", "client_2.csv", "client_1.csv", "full_dataset.csv", "dataset.json"):
        (tmp_path / name).touch()
    assert [file.name for file in list_hospital_files(tmp_path)] == ["client_1.csv", "client_2.csv", "client_10.csv"]


def test_a_number_without_a_hospital_is_refused_by_name(tmp_path: Path) -> None:
    write_hospitals(tmp_path)
    with pytest.raises(RunError) as caught:
        make_source(tmp_path).make(4)
    assert str(caught.value) == (
        f"partition 4 has no hospital: {tmp_path} holds 4 hospitals' CSV files; give --federation-config "
        "'num-supernodes=4' and --run-config 'hospitals=4'"
    )


def test_a_faulty_file_is_reported_without_a_patients_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,sex\n666,1\n")
    with pytest.raises(RunError) as caught:
        make_source(tmp_path).make(0)
    assert "666" not in str(caught.value)
    (other := tmp_path / "other").mkdir()
    write_hospitals(other)
    path = sorted(other.glob("*.csv"))[0]
    path.write_text(path.read_text().replace("\n", "\n-77", 1))
    with pytest.raises(RunError, match=r"has 1 fault; python client\.py FILE lists it") as caught:
        make_source(other).make(0)
    assert "-77" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "line"),
    [("nowhere", "cannot be read (No such file or directory)"), (".", "contains no hospital's CSV; make some with")],
)
def test_a_folder_that_is_none_or_empty_is_refused(tmp_path: Path, folder: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        list_hospital_files(tmp_path / folder)
    assert line in str(caught.value)


@pytest.mark.slow
def test_of_very_many_hospitals_only_those_used_last_are_kept_and_a_rebuilt_one_is_the_same() -> None:
    count = 100_000
    hospitals = VirtualHospitals(count, VirtualSource(EngineSettings(patients=21), seed=0, trainers=Trainers()))
    assert len(hospitals) == count
    first = weakref.ref(hospitals["hospital 1"])
    for number in range(2, KEPT_HOSPITALS + 1):
        hospitals[f"hospital {number}"]
    assert hospitals["hospital 1"] is first()
    for number in range(2, KEPT_HOSPITALS + 2):
        hospitals[f"hospital {KEPT_HOSPITALS + number}"]
    gc.collect()
    assert first() is None


def test_a_hospital_of_a_simulation_has_the_same_patients_and_noise_whenever_it_is_made() -> None:
    def make(number: int) -> HospitalData:
        return VirtualSource(EngineSettings(patients=21), seed=3, trainers=Trainers()).make(number)

    one, again, other = make(7), make(7), make(8)
    np.testing.assert_array_equal(one.hospital.patients.features, again.hospital.patients.features)
    assert not np.array_equal(one.hospital.patients.features, other.hospital.patients.features, equal_nan=True)
    drawn, repeated, apart = (each.noise_source.gaussian((3,)).tolist() for each in (one, again, other))
    assert drawn == repeated != apart


def test_the_noise_for_patients_of_a_file_is_unpredictable(tmp_path: Path) -> None:
    write_hospitals(tmp_path)
    first, second = (make_source(tmp_path).make(0).noise_source.gaussian((3,)).tolist() for _ in range(2))
    assert first != second


# --- processes -------------------------------------------------------------------------------------------------------


def load_echo() -> dict[str, ClientApp]:
    """Apps without TensorFlow: hospital 3 fails, and each ends its process or waits if the message says so."""
    return {name: echo_app(name) for name in NAMES}


def echo_app(name: str) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if message.content.get("die"):
            os._exit(9)
        if message.content.get("dawdle"):
            time.sleep(0.3)
        if name == "hospital 3":
            raise RunError("no wish to train")
        return Message(RecordDict(), reply_to=message)

    return app


def ask(grid: object, content: RecordDict) -> list[Message]:
    nodes = grid.get_node_ids()  # type: ignore[attr-defined]
    messages = [Message(content, dst_node_id=node, message_type="train") for node in nodes]
    return list(grid.send_and_receive(messages))  # type: ignore[attr-defined]


def test_processes_reply_like_one_process_in_the_order_of_node_ids() -> None:
    alone = ask(here := InProcessGrid(load_echo(), {}), RecordDict())
    with working_grid(load_echo, NAMES, {}, processes=2) as grid:
        assert grid.get_node_ids() == here.get_node_ids()
        shared = ask(grid, RecordDict())
        ids = grid.push_messages([Message(RecordDict(), dst_node_id=grid.get_node_ids()[0], message_type="train")])
        assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(ids)] == list(ids)
    assert [reply.metadata.src_node_id for reply in shared] == [reply.metadata.src_node_id for reply in alone]
    assert [reply.error.reason for reply in shared if reply.has_error()] == ["no wish to train"]


def test_the_same_message_twice_and_a_time_to_live_are_errors_in_every_grid() -> None:
    here = InProcessGrid(load_echo(), {})
    node = here.get_node_ids()[0]
    message = Message(RecordDict(), dst_node_id=node, message_type="train")
    for grid in (here, WorkersGrid([], [], {})):
        with pytest.raises(ValueError, match="the same Message object occurs twice"):
            grid.push_messages([message, message])
        with pytest.raises(ValueError, match="ttl=5, which is not supported"):
            grid.push_messages([Message(RecordDict(), dst_node_id=node, message_type="train", ttl=5)])


def test_processes_start_where_signals_cannot_be_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask")  # as on Windows, where there is no resource tracker either
    monkeypatch.setattr(resource_tracker, "ensure_running", pytest.fail)
    with working_grid(load_echo, NAMES, {}, processes=1) as grid:
        assert len(ask(grid, RecordDict())) == len(NAMES)


def test_a_process_that_dies_is_reported_in_one_line() -> None:
    with (
        working_grid(load_echo, NAMES, {}, processes=2) as grid,
        pytest.raises(RunError, match=r"a process of the simulation ended too early \(exit code 9\)"),
    ):
        ask(grid, RecordDict({"die": ConfigRecord({"now": True})}))


def test_a_process_whose_reply_is_no_longer_awaited_ends_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    with working_grid(load_echo, NAMES, {}, processes=1) as grid:
        dawdle = RecordDict({"dawdle": ConfigRecord({"now": True})})
        pipe, _ = grid._workers[0]
        pipe.send([Message(dawdle, dst_node_id=grid.get_node_ids()[0], message_type="train")])
    assert capfd.readouterr().err == ""


# --- the command -----------------------------------------------------------------------------------------------------


def weights_in(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz") as file:
        return {name: file[name] for name in file.files if name.startswith("weights/") or name in ("means", "stds")}


def federate_files(files: dict[str, Path], **settings: object) -> dict[str, np.ndarray]:
    """The weights of the same federation with each file given to a hospital of its own, as the scripts do it."""
    config = FederationSettings(hospitals=len(files), **settings).to_run_config()  # type: ignore[arg-type]
    events: list[Event] = []
    grid = InProcessGrid(make_apps(files), config)
    make_server_app(events.append)(grid, grid.context)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    return {f"weights/{name}": array.numpy() for name, array in finished.weights.items()}


@pytest.mark.parametrize(
    "flags",
    [[], pytest.param(["--processes", "2"], marks=pytest.mark.slow), ["--fraction", "0.5"]],
    ids=" ".join,
)
def test_a_folder_of_hospitals_gives_the_weights_of_the_scripts_bit_for_bit(tmp_path: Path, flags: list[str]) -> None:
    files = write_hospitals(tmp_path)
    always = ["--data", str(tmp_path), "--rounds", "3", "--engine", "keras"]
    assert main([*always, "--out", str(tmp_path / "run"), *flags]) == 0
    expected = federate_files(files, rounds=3, fraction=0.5 if "--fraction" in flags else 1.0)
    found = weights_in(tmp_path / "run")
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_very_many_hospitals_leave_a_whole_run_folder_and_a_screen_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--hospitals", "30", "--patients", "40", "--rounds", "2", "--fraction", "0.2", "--evaluate-every", "0"]
    assert main([*flags, "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "hospitals: 30, of 40 patients each" in lines
    assert any(
        line.startswith("round 1/2   training loss 0.") and "not evaluated   hospitals 6/6" in line for line in lines
    )
    assert any(line.startswith("12 hospital-rounds, ") for line in lines)
    assert not any("synthetic-va-" in line for line in lines)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *(
            "MODEL_CARD.md",
            "evaluation.json",
            "history.jsonl",
            "model.npz",
            "report.html",
            "schema.toml",
            "settings.json",
            "summary.json",
        )
    }


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--hospitals", "-1"], "--hospitals is -1; give 1 or more, or 0 for all of --data, else 200"),
        (["--patients", "20"], "--patients is 20; give a number from 21 to 1000000"),
        (["--processes", "0"], "--processes is 0; give a number from 1 to 256"),
        (["--fraction", "0"], "--fraction is 0.0; give a share above 0, at most 1"),
        (
            ["--data", "nowhere"],
            "--data nowhere: cannot be read (No such file or directory); give a folder of CSV files",
        ),
        (["--out", "/dev/null/x"], "--out /dev/null/x: cannot write there (Not a directory); give another folder"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_more_hospitals_than_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hospitals(tmp_path)
    assert main(["--data", str(tmp_path), "--hospitals", "5"]) == 2
    assert (
        capsys.readouterr().err == f"error: --hospitals is 5, but {tmp_path} has 4 CSV files; leave --hospitals out\n"
    )


def test_hospitals_below_the_minimum_size_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--hospitals", "4", "--patients", "21", "--test-share", "0.05", "--out", str(tmp_path / "run")]
    assert main(flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "could not reply to query.describe: too few patients for --test-share 0.05" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_ends_it_in_one_line_and_leaves_no_process(tmp_path: Path, processes: str) -> None:
    flags = ["--hospitals", "8", "--rounds", "100000", "--processes", processes, "--out", str(tmp_path / "run")]
    with started("-m", "fedhealth", "simulate", *flags) as run:
        run.wait_for("round      2/100000")
        press_ctrl_c(run, at_least=0)
        assert run.end() == 130
        assert run.lines[-1] == "stopped by Ctrl-C"
        assert "Traceback" not in run.output


@pytest.mark.slow
@pytest.mark.processes
def test_ctrl_c_while_the_processes_start_is_one_line_too(tmp_path: Path) -> None:
    with started("-m", "fedhealth", "simulate", "--processes", "2", "--out", str(tmp_path / "run")) as run:
        press_ctrl_c(run, at_least=3)  # the two, and the one that multiprocessing has for itself
        assert run.end() == 130
        assert [line for line in run.lines if not line.startswith("engine: ")] == ["stopped by Ctrl-C"]
    assert not (tmp_path / "run").exists()


def press_ctrl_c(run: Process, at_least: int) -> None:
    """As a terminal does: to the process and to those that it has started, as soon as it has started so many."""
    pid = run.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    while run.process.poll() is None and len(listed.read_text().split()) < at_least:
        time.sleep(0.01)
    for each in [*map(int, listed.read_text().split()), pid]:
        os.kill(each, signal.SIGINT)
