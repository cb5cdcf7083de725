"""client.py as a hospital's staff meet it: names, receipts, a stop, a full disk. Most of it as a process on loopback."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict

import client
from fedhealth.audit import audit_receipts
from fedhealth.demo import free_port
from fedhealth.errors import DataError, RunError, UsageError
from fedhealth.settings import ClientSettings
from fedhealth.wire.authority import issue_certificates
from tests.hospital_files import write_hospitals
from tests.processes import Process, started

NAME = "synthetic-cleveland"
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A script that may write so many bytes to a file and no more, as on a full disk."""


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))[NAME]


@pytest.fixture
def file(csv: Path, tmp_path: Path) -> Path:
    """The hospital's file in a folder of its own."""
    return Path(shutil.copy(csv, tmp_path / "client_1.csv"))


# --- the hospital's name ----------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    issue_certificates(tmp_path / "certs", ("cleveland",), ("localhost",), days=90, ca_days=900, force=False)
    return tmp_path / "certs" / "cleveland"


def test_the_certificate_names_the_hospital_whatever_its_file_says(
    file: Path, tls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (None, "cleveland"):
        seat = client.take_seat(ClientSettings(file=file, tls=tls, name=name))
        assert seat.hospital.name == "cleveland"
        assert seat.node_config == {"data": str(file), "name": "cleveland", "min-count": 5}
        assert capsys.readouterr().out.startswith(
            f"cleveland (so says its certificate; the file says {NAME}): {len(seat.hospital.patients)} patients in {file};"
        )


def test_another_name_than_the_certificates_is_one_line(file: Path, tls: Path) -> None:
    with pytest.raises(UsageError) as caught:
        client.take_seat(ClientSettings(file=file, tls=tls, name="hungary"))
    assert str(caught.value) == f"--name is hungary, but {tls} holds the certificate of cleveland"


@pytest.mark.parametrize(("name", "found"), [(None, NAME), ("lakeside", "lakeside"), (" lakeside ", "lakeside")])
def test_a_hospital_is_described_as_it_joins(
    file: Path, name: str | None, found: str, capsys: pytest.CaptureFixture[str]
) -> None:

    from fedhealth import participant

    seat = client.take_seat(ClientSettings(file=file, name=name))
    assert seat.hospital.name == found
    assert capsys.readouterr().out.startswith(f"{found}: ")
    config = {key: value for key, value in seat.node_config.items() if key != "min-count"}
    assert participant.read_hospital(config["data"], config.get("name")) is seat.hospital


def test_the_hospitals_own_limit_reaches_its_app(file: Path) -> None:
    assert client.take_seat(ClientSettings(file=file, min_count=9)).node_config["min-count"] == 9


# --- what the script itself refuses -----------------------------------------------------------------------------------


def test_a_server_that_wants_the_patients_split_anew_is_refused_until_the_client_is_started_again(file: Path) -> None:
    seat = client.take_seat(ClientSettings(file=file))

    def joined(**run_config: Any) -> Any:
        return SimpleNamespace(run_config={key.replace("_", "-"): value for key, value in run_config.items()})

    client.require_same_split(seat, joined(seed=0, test_share=0.25, rounds=3))
    client.require_same_split(seat, joined(seed=0, test_share=0.25, rounds=9))
    client.require_same_split(seat, joined(seed=0, test_share=0.25, validation=0.3))
    for other in (
        joined(seed=0, test_share=0.25, validation=0.3, patience=1),
        joined(seed=1, test_share=0.25),
        joined(seed=0, test_share=0.26),
        joined(seed=[], test_share=None),
    ):
        with pytest.raises(RunError, match=r"the server asks for another split .* start this client again"):
            client.require_same_split(seat, other)
    client.require_same_split(client.take_seat(ClientSettings(file=file)), joined(seed=1, test_share=0.25))


def finish_message(**config: float) -> Any:
    return SimpleNamespace(content=RecordDict({"config": ConfigRecord(dict(config))}))


@pytest.mark.parametrize(
    ("config", "more"), [({}, ""), ({"threshold": 0.435}, ", by which a patient is called ill from a risk of 0.435")]
)
def test_a_hospital_reads_from_which_risk_a_patient_is_called_ill_if_that_was_chosen(
    file: Path, config: dict[str, float], more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    context: Any = None
    client.keep_model(ClientSettings(file=file), finish_message(**config), context)
    assert capsys.readouterr().out == f"the run is over; this hospital has the final model{more}\n"


def test_a_model_that_cannot_be_saved_is_one_line(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedhealth import client_app, model

    def fail(path: Path, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client_app, "final_model", lambda *_: {})
    monkeypatch.setattr(model, "save_model", fail)
    path = tmp_path / "model.keras"
    context: Any = None
    with pytest.raises(RunError) as caught:
        client.keep_model(ClientSettings(file=file, save_model=path), finish_message(), context)
    assert str(caught.value) == f"--save-model {path}: the final model cannot be saved (No space left on device)"


def test_what_could_not_be_answered_is_told_here_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    client.warn_of(RunError("training diverged"))
    client.warn_of(ValueError("patient 17"))
    client.warn_of(DataError(["row 3"]))
    assert capsys.readouterr().err == "warning: training diverged\nwarning: ValueError: patient 17\nwarning: row 3\n"


# --- as a process -----------------------------------------------------------------------------------------------------


@contextmanager
def run(
    file: Path,
    *flags: str,
    rounds: int = 3,
    server_flags: tuple[str, ...] = (),
    command: tuple[str, ...] = ("client.py",),
) -> Iterator[tuple[Process, Process]]:
    """A server for one hospital, and its client."""
    address, out = f"127.0.0.1:{free_port()}", str(file.parent / "run")
    server_command = ("server.py", "--address", address, "--hospitals", "1", "--rounds", str(rounds), "--out", out)
    with (
        started(*server_command, *server_flags) as server,
        started(*command, str(file), "--server", address, *flags) as hospital,
    ):
        yield server, hospital


@pytest.mark.processes
@pytest.mark.enable_socket
def test_everything_that_leaves_has_its_receipt_and_a_second_run_goes_on(file: Path) -> None:
    path = file.parent / "receipts" / f"{NAME}.jsonl"
    for runs, flags in ((1, ()), (2, ("--verbose",))):
        with run(file, *flags) as (server, hospital):
            assert server.end() == 0, server.output
            assert hospital.end() == 0, hospital.output
        shutil.rmtree(file.parent / "run")
        audit = audit_receipts(path)
        assert audit.runs == set(range(1, runs + 1))
        assert audit.kinds["train"] == audit.kinds["evaluate"] == 3 * runs
        assert audit.kinds["join"] == audit.kinds["query.describe"] == audit.kinds["query.finish"] == runs
        assert audit.lines == audit.kinds.total() == 12 * runs
        assert hospital.lines[-1] == f"receipts of all that left: {path} (last hash {audit.last_hash})"
        told = [line for line in hospital.lines if line.startswith('{"number":')]
        assert told == (path.read_text().splitlines()[12:] if flags else [])
    rounds = [json.loads(line).get("round") for line in path.read_text().splitlines()]
    assert [number for number in rounds if number] == [1, 1, 2, 2, 3, 3] * 2


@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_second_client_of_the_same_hospital_is_told_so(file: Path) -> None:
    with run(file, rounds=100_000) as (server, hospital):
        hospital.wait_for("round")
        with started("client.py", str(file), "--server", "127.0.0.1:1") as twin:
            assert twin.end() == 2
            assert twin.lines[-1] == (
                f"error: {file.parent / 'receipts' / NAME}.jsonl: another client is writing it; is this hospital running "
                "already? If not, give --receipts a folder"
            )
        assert server.process.poll() is None


@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_message_without_receipt_does_not_leave(file: Path) -> None:
    command = ("-c", LIMITED, "4000", "client.py")
    with run(file, rounds=100_000, command=command) as (server, hospital):
        assert hospital.end() == 1, hospital.output
        path = file.parent / "receipts" / f"{NAME}.jsonl"
        assert hospital.lines[-1].startswith(
            f"error: {path}: a receipt cannot be written (File too large), and nothing "
        )
        assert "Traceback" not in hospital.output
        server.wait_for(f"left: {NAME}")
        audit = audit_receipts(path)
        assert path.stat().st_size <= 4000
        assert "round" not in server.output or audit.kinds["evaluate"] >= 1


@pytest.mark.processes
@pytest.mark.enable_socket
@pytest.mark.parametrize(("number", "code", "line"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_client_that_is_stopped_says_so_in_one_line_and_its_receipts_are_whole(
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


@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_client_that_waits_for_its_server_can_be_stopped_too(file: Path) -> None:
    with started("client.py", str(file), "--server", f"127.0.0.1:{free_port()}") as waiting:
        waiting.wait_for("trying again")
        waiting.process.send_signal(signal.SIGTERM)
        assert waiting.end() == 143, waiting.output
        assert waiting.lines[-1] == "stopped by SIGTERM"
        assert "Traceback" not in waiting.output


@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_folder_that_is_gone_when_the_model_comes_is_one_line(file: Path) -> None:
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


@pytest.mark.processes
@pytest.mark.enable_socket
def test_a_hospital_that_is_too_small_for_the_split_sends_nothing_but_that(file: Path) -> None:
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
