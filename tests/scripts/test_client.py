"""client.py: receipts, shared comparisons, signals, a full disk; mostly as a process on loopback."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

import client
from fedhealth.client.receipts_audit import audit_receipts
from fedhealth.data.hospital import load_hospital
from tests.support.hospital_files import write_hospitals
from tests.support.processes import ANY_PORT, NUMPY_CLIENT, Process, refusing_address, started

NAME = "synthetic-cleveland"
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module as a program with a limit on the size of files, to simulate a full disk."""


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))[NAME]


@pytest.fixture
def file(csv: Path, tmp_path: Path) -> Path:
    """The hospital's file in a folder of its own."""
    return Path(shutil.copy(csv, tmp_path / "client_1.csv"))


# --- errors before the run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--save-model", "--save-personal"])
def test_a_file_that_cannot_be_written_is_refused_before_the_client_joins(
    file: Path, tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "m.keras"
    assert client.main([str(file), flag, str(path)]) == 2
    assert capsys.readouterr().err == (f"error: {flag} {path}: there is no folder {path.parent}; create it first\n")


# --- as a process -----------------------------------------------------------------------------------------------------


@contextmanager
def run(
    file: Path,
    *flags: str,
    rounds: int = 3,
    server_flags: tuple[str, ...] = (),
    command: tuple[str, ...] = NUMPY_CLIENT,
) -> Iterator[tuple[Process, Process]]:
    """A server for one hospital and the hospital's client, as processes."""
    out = str(file.parent / "run")
    server_command = ("server.py", "--address", ANY_PORT, "--hospitals", "1", "--rounds", str(rounds), "--out", out)
    with (
        started(*server_command, *server_flags) as server,
        started(*command, str(file), "--server", server.address(), *flags) as hospital,
    ):
        yield server, hospital


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_every_message_has_a_receipt_and_a_second_run_continues_the_chain(file: Path) -> None:
    path = file.parent / "receipts" / f"{NAME}.jsonl"
    for runs, flags in ((1, ()), (2, ("--verbose",))):
        with run(file, *flags) as (server, hospital):
            assert server.end() == 0, server.output
            assert hospital.end() == 0, hospital.output
        shutil.rmtree(file.parent / "run")
        audit = audit_receipts(path)
        assert audit.runs == set(range(1, runs + 1))
        # Only the last round is evaluated alone; the others with the training of the next.
        assert (audit.kinds["train"], audit.kinds["evaluate"]) == (3 * runs, runs)
        once_per_run = ("join", "query.describe", "query.subgroups", "query.importance", "query.finish")
        assert [audit.kinds[kind] for kind in once_per_run] == [runs] * 5
        assert audit.lines == audit.kinds.total() == 12 * runs
        assert hospital.lines[-1] == f"receipts of everything that was sent: {path} (last hash {audit.last_hash})"
        printed = [line for line in hospital.lines if line.startswith('{"number":')]
        assert printed == (path.read_text().splitlines()[12:] if flags else [])
    rounds = [json.loads(line).get("round") for line in path.read_text().splitlines()]
    assert [number for number in rounds if number] == [1, 2, 3, 3] * 2


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
@pytest.mark.parametrize("how", ["intercept", "finetune", "none"])
def test_a_hospital_saves_its_personal_model_and_sends_only_the_comparison_that_it_shares(file: Path, how: str) -> None:
    whole, own = (file.parent / f"{name}.keras" for name in ("whole", "own"))
    flags = ("--save-model", str(whole), "--save-personal", str(own), "--share-verdict")
    with run(file, *flags, server_flags=("--personalise", how), command=("client.py",)) as (server, hospital):
        assert (server.end(), hospital.end()) == (0, 0), hospital.output
    compared = [line for line in hospital.lines if line.startswith(("global model: ", "personal model: "))]
    assert len(compared) == (1 if how == "none" else 2)
    assert [line for line in server.lines if " reports: " in line] == [f"{NAME} reports: {line}" for line in compared]
    receipts = [json.loads(line) for line in (file.parent / "receipts" / f"{NAME}.jsonl").read_text().splitlines()]
    numbers = receipts[-1]["statistics"]
    assert {key.partition("-")[0] for key in numbers} == {line.partition(" ")[0] for line in compared}
    summary = json.loads((file.parent / "run" / "summary.json").read_text())
    for model, comparison in summary["verdicts"][NAME].items():
        assert numbers[f"{model}-{comparison['metric']}"].items() <= comparison.items()
    assert "Comparison with local models" in (file.parent / "run" / "report.html").read_text()
    if how == "none":
        assert not own.exists()
        assert f"warning: --save-personal {own}: there is no personal model, so nothing is saved" in hospital.lines
        return
    columns = load_hospital(file).patients.features.astype(np.float32)
    risks = [np.ravel(keras.models.load_model(path).predict(columns, verbose=0)) for path in (whole, own)]
    shifts = np.diff(np.log(risks) - np.log1p(-np.array(risks)), axis=0)
    assert np.abs(shifts).max() > 1e-3
    assert (np.ptp(shifts) < 1e-3) == (how == "intercept"), "an intercept moves all log odds by the same"


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_second_client_of_the_same_hospital_is_refused(file: Path) -> None:
    with run(file, rounds=100_000) as (server, hospital):
        hospital.wait_for("round")
        with started("client.py", str(file), "--server", "127.0.0.1:1") as twin:
            assert twin.end() == 2
            assert twin.lines[-1] == (
                f"error: {file.parent / 'receipts' / NAME}.jsonl: another client is writing it; is this hospital running "
                "already? If not, give --receipts a folder"
            )
        assert server.process.poll() is None


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_message_without_receipt_is_not_sent(file: Path) -> None:
    command = ("-c", LIMITED, "6000", NUMPY_CLIENT[-1])
    with run(file, rounds=100_000, command=command) as (server, hospital):
        assert hospital.end() == 1, hospital.output
        path = file.parent / "receipts" / f"{NAME}.jsonl"
        assert hospital.lines[-1].startswith(
            f"error: {path}: a receipt cannot be written (File too large), and nothing "
        )
        assert "Traceback" not in hospital.output
        server.wait_for(f"left: {NAME}")
        audit = audit_receipts(path)
        assert path.stat().st_size <= 6000
        assert "round" not in server.output or audit.kinds["train"] >= 2


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
@pytest.mark.parametrize(("number", "code", "line"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_client_that_is_stopped_prints_one_line_and_its_receipts_are_complete(
    file: Path, number: signal.Signals, code: int, line: str
) -> None:
    path = file.parent / "receipts" / f"{NAME}.jsonl"
    with run(file, rounds=100_000) as (_, hospital):
        hospital.wait_for("round")
        hospital.process.send_signal(number)
        assert hospital.end() == code, hospital.output
        assert hospital.lines[-1] == f"stopped by {line}"
        assert "Traceback" not in hospital.output
        assert audit_receipts(path).kinds["train"] >= 1
        assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_client_that_waits_for_its_server_can_be_stopped(file: Path) -> None:
    with refusing_address() as address, started("client.py", str(file), "--server", address) as waiting:
        waiting.wait_for("trying again")
        waiting.process.send_signal(signal.SIGTERM)
        assert waiting.end() == 143, waiting.output
        assert waiting.lines[-1] == "stopped by SIGTERM"
        assert "Traceback" not in waiting.output


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_folder_that_is_removed_before_the_model_is_saved_is_one_line(file: Path) -> None:
    folder = file.parent / "models"
    folder.mkdir()
    with run(file, "--save-model", str(folder / "model.keras"), rounds=100) as (server, hospital):
        hospital.wait_for("round")
        folder.rmdir()
        assert hospital.end() == 1, hospital.output
        start = f"error: --save-model {folder / 'model.keras'}: the final model cannot be saved ("
        assert hospital.lines[-1].startswith(start)
        assert "Traceback" not in hospital.output
        assert server.end() == 0, server.output


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_hospital_that_is_too_small_for_the_split_sends_only_that_error(file: Path) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:18]))
    with run(file) as (server, hospital):
        assert hospital.end() == 1, hospital.output
        assert server.end() == 1, server.output
        words = (
            "too few patients for --test-share 0.25: fewer than 10 would be left to train on or fewer than 5 to test on"
        )
        assert any(line.startswith(f"warning: {words}") for line in hospital.lines)
        assert words in server.output
    audit = audit_receipts(file.parent / "receipts" / f"{NAME}.jsonl")
    assert audit.kinds == {"join": 1, "query.describe": 1}
    assert {name for kind, name in audit.words if kind == "query.describe"} == {"error.code", "error.reason"}
    assert not audit.statistics and not audit.arrays
