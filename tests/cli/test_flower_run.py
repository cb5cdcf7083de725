"""`flwr run`: its settings, its error messages, and a whole federation on a real SuperLink with real SuperNodes."""

import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk

import fedhealth
from fedhealth.cli.commands.simulate import main as simulate
from fedhealth.cli.flower_run import flower_home, opened_flower_run
from fedhealth.client.error_mod import error_mod
from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.config.scripts import ServerSettings
from fedhealth.config.simulate import SimulateSettings
from fedhealth.transport.messages import RUN_ID
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.supernode_keys import PRIVATE, PUBLIC, ensure_supernode_keys
from tests.support.hospital_files import write_hospitals
from tests.support.processes import ROOT
from tests.support.toy_hospitals import three_hospitals

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LONGEST_RUN = 600.0


# --- one set of settings ---------------------------------------------------------------------------------------------


def test_pyproject_holds_every_setting_with_its_default_and_nothing_else() -> None:
    config = PYPROJECT["tool"]["flwr"]["app"]["config"]
    defaults = {**FederationSettings().to_run_config(), **EngineSettings().to_run_config()}
    assert config == defaults
    assert {key: type(value) for key, value in config.items()} == {key: type(value) for key, value in defaults.items()}


def test_scripts_and_simulations_have_every_setting_with_the_same_default_and_help() -> None:
    for kind in (ServerSettings, SimulateSettings):
        ours = {field.name: field.default for field in dataclasses.fields(kind)}
        for field in dataclasses.fields(FederationSettings):
            assert ours[field.name] == field.default or (kind, field.name) == (SimulateSettings, "hospitals")
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for section in ("server.py", "python -m fedhealth simulate"):
        (help_text,) = [part for part in text.split("\n## ") if part.startswith(section)]
        missing = [key for key in FederationSettings().to_run_config() if f"--{key}" not in help_text]
        assert missing == []


def test_a_run_config_with_a_value_that_is_not_allowed_or_of_another_type_is_refused() -> None:
    for name, hint in get_type_hints(FederationSettings).items():
        key, wrong = name.replace("_", "-"), "nonsense" if get_origin(hint) is Literal else None
        with pytest.raises(UsageError, match=f"^--{key} is "):
            FederationSettings.from_run_config({key: wrong})


def test_the_version_is_the_packages() -> None:
    assert PYPROJECT["project"]["version"] == fedhealth.__version__


@pytest.mark.slow
def test_the_bundle_contains_the_whole_package_and_no_data(tmp_path: Path) -> None:
    import io
    import zipfile

    names = set(zipfile.ZipFile(io.BytesIO(build_fab_from_disk(ROOT))).namelist()) - {".info/CONTENT", "pyproject.toml"}
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "fedhealth").rglob("*.py")}
    schemas = {f"fedhealth/schemas/{table}.toml" for table in ("heart-disease", "breast-cancer", "lung-cancer")}
    assert names == package | schemas | {f"fedhealth/data/sources/{name}.toml" for name in ("fitted", "known_rows")}


# --- the server's side -----------------------------------------------------------------------------------------------


@pytest.fixture
def _traceback_limit() -> Iterator[None]:
    yield
    if hasattr(sys, "tracebacklimit"):
        del sys.tracebacklimit


@pytest.mark.usefixtures("_traceback_limit")
@pytest.mark.parametrize(
    ("run_config", "line"),
    [
        ({"rounds": 0}, "--rounds is 0; give 1 or more"),
        ({"rounds": "many"}, "--rounds is 'many'; give a value of type int"),
        ({"rouns": 3}, "run config: unknown key rouns; known are hospitals, "),
        ({"out": "runs/x"}, "--out is runs/x; give an absolute path"),
    ],
)
def test_a_wrong_run_config_is_one_line_before_any_message_is_sent(run_config: dict[str, Any], line: str) -> None:
    toy = three_hospitals()
    with pytest.raises(UsageError) as caught, opened_flower_run(toy.grid, run_config):
        pytest.fail("the run began")
    assert str(caught.value).startswith(line)
    assert toy.heard == []
    assert sys.tracebacklimit == 0


def test_a_run_without_out_is_written_to_flowers_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fedhealth.cli.flower_run import app

    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    assert flower_home() == tmp_path
    toy = three_hospitals()
    app(toy.grid, Context(1, 1, {}, RecordDict(), {"hospitals": 3, "rounds": 2, "strategy": "fedavg"}))
    (folder,) = (tmp_path / "fedhealth-runs").iterdir()
    assert {"settings.json", "history.jsonl", "model.npz", "summary.json"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "checkpoints").exists()
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[-1] == f"run folder: {folder} (python -m fedhealth report {folder} makes report.html and MODEL_CARD.md)"
    )


# --- the hospitals' side ---------------------------------------------------------------------------------------------


def fail_with(error: Exception, run_id: int) -> Message:
    def call_next(message: Message, context: Context) -> Message:
        raise error

    three_hospitals()  # gives this process an identity; Flower makes no message without one
    message = Message(RecordDict(), dst_node_id=7, message_type="train")
    return error_mod(message, Context(run_id, 7, {}, RecordDict(), {}), call_next)


def test_a_supernode_sends_only_texts_of_our_own_errors(caplog: pytest.LogCaptureFixture) -> None:
    patient = DataError(["row 17: chol is -4 mg/dl"])
    with caplog.at_level(logging.ERROR, logger="flwr"):
        logging.getLogger("flwr").disabled = False
        logging.getLogger("flwr").propagate = True
        assert fail_with(patient, run_id=99).error.reason == "DataError"
    assert fail_with(ValueError("age 63"), run_id=99).error.reason == "ValueError"
    assert fail_with(RunError("too few patients"), run_id=99).error.reason == "too few patients"
    assert "row 17: chol is -4 mg/dl" in caplog.text


def test_our_own_engines_receive_the_error_itself() -> None:
    with pytest.raises(DataError, match="row 17"):
        fail_with(DataError(["row 17: chol is -4 mg/dl"]), run_id=RUN_ID)


def test_the_keys_of_a_supernode_are_private_kept_and_flowers(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

    issue_certificates(tmp_path, ["köln"], ["localhost"], days=9, ca_days=99, force=False)
    assert ensure_supernode_keys(tmp_path / "köln", force=False)
    private, public = (tmp_path / "köln" / name for name in (PRIVATE, PUBLIC))
    assert private.stat().st_mode & 0o777 == 0o600
    key = load_ssh_private_key(private.read_bytes(), None)
    assert key.public_key() == load_ssh_public_key(public.read_bytes())
    before = private.read_bytes()
    assert not ensure_supernode_keys(tmp_path / "köln", force=False)
    assert private.read_bytes() == before
    assert ensure_supernode_keys(tmp_path / "köln", force=True)
    assert private.read_bytes() != before


# --- a real SuperLink ------------------------------------------------------------------------------------------------


def unused_port() -> int:
    """A port that is free now; Flower's programs pass their port on to others, so port 0 cannot be used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(folder: Path, environment: dict[str, str], command: Sequence[str]) -> Iterator[Path]:
    """Run one of Flower's programs in its own folder; yields its log and ends it with all processes that it started."""
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        program = str(Path(sys.executable).with_name(command[0]))
        process = subprocess.Popen(
            [program, *command[1:]], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield folder / "log"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def flwr(environment: dict[str, str], *arguments: str) -> str:
    """The output of a Flower command; it is repeated until the SuperLink listens."""
    deadline = time.monotonic() + LONGEST_RUN
    while True:
        command = [str(Path(sys.executable).with_name("flwr")), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.5)  # Flower offers no event to wait for


def run_on_supernodes(folder: Path, nodes: dict[str, str], run_config: str) -> dict[str, str]:
    """Run a federation of SuperNodes with these node configs, by name; returns their logs.

    Their certificates are in `folder`/certs, and the run folder is `folder`/run.
    """
    home, certs, port = folder / "home", folder / "certs", unused_port()
    home.mkdir()
    connection = (
        f'[superlink.federation]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{certs / "ca" / "ca.pem"}"\n'
    )
    (home / "config.toml").write_text(connection, encoding="utf-8")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # Flower's programs start each other by name
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_", "FLWR_"))}
    environment = {**kept, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "PATH": programs}
    environment["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    server = [
        f"--ssl-{name}=" + str(certs / "server" / file)
        for name, file in (("ca-certfile", "ca.pem"), ("certfile", "cert.pem"), ("keyfile", "key.pem"))
    ]
    with ExitStack() as stack:
        superlink = ["flower-superlink", *server, "--enable-supernode-auth", "--port", str(port)]
        superlink.append("--disable-runtime-dependency-installation")
        log = stack.enter_context(running(folder / "superlink", environment, superlink))
        for hospital, node_config in nodes.items():
            ensure_supernode_keys(certs / hospital, force=False)
            flwr(environment, "supernode", "register", str(certs / hospital / PUBLIC), "federation")
            node = ["flower-supernode", "--superlink", f"127.0.0.1:{port}", "--port", str(unused_port())]
            node += ["--root-certificates", str(certs / hospital / "ca.pem")]
            node += ["--auth-supernode-private-key", str(certs / hospital / PRIVATE)]
            node += ["--node-config", node_config]
            stack.enter_context(running(folder / hospital, environment, node))
        flwr(environment, "run", str(ROOT), "federation", "--run-config", f'{run_config} out="{folder / "run"}"')
        deadline = time.monotonic() + LONGEST_RUN
        while not (folder / "run" / "summary.json").exists():
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.5)
    return {hospital: (folder / hospital / "log").read_text(encoding="utf-8") for hospital in nodes}


def require_same_model(run: Path, other: Path) -> None:
    with np.load(run / "model.npz") as found, np.load(other / "model.npz") as expected:
        for name in expected.files:
            if name != "about":
                np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_two_supernodes_with_tls_and_keys_give_the_weights_of_the_scripts_bit_for_bit(tmp_path: Path) -> None:
    """The node config of a third is refused, and the run goes on without it."""
    data = tmp_path / "data"
    data.mkdir()
    files = list(write_hospitals(data).values())
    for file in files[2:]:
        file.unlink()
    names = ["one", "two", "three"]
    issue_certificates(tmp_path / "certs", names, ["localhost", "127.0.0.1"], days=9, ca_days=99, force=False)
    nodes = {
        "one": f'data="{files[0]}"',
        "two": f'data="{files[1]}"',
        "three": f'data="{files[0]}" max_epsilon=3.0',
    }
    logs = run_on_supernodes(tmp_path, nodes, "hospitals=3 rounds=2")
    told = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert list(told["left_out"].values()) == ["could not reply to query.describe: UsageError"]
    parsed = f"node config: file {files[0]}, schema heart disease, name as in the file, min-count 5, max-epsilon none"
    assert parsed in logs["one"]
    assert "max_epsilon is not a key of a node config; did you mean max-epsilon?" in logs["three"]
    assert simulate(["--data", str(data), "--engine", "keras", "--rounds", "2", "--out", str(tmp_path / "same")]) == 0
    require_same_model(tmp_path / "run", tmp_path / "same")


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.enable_socket
def test_three_supernodes_with_secure_aggregation_give_the_weights_of_the_same_run_in_the_clear(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    files = dict(list(write_hospitals(data).items())[:3])
    for file in set(data.glob("*.csv")) - set(files.values()):
        file.unlink()
    certs = tmp_path / "certs"
    issue_certificates(certs, list(files), ["localhost", "127.0.0.1"], days=9, ca_days=99, force=False)
    nodes = {name: f'data="{file}" tls="{certs / name}" secure-aggregation="required"' for name, file in files.items()}
    run_on_supernodes(tmp_path, nodes, "hospitals=3 rounds=2 secure-aggregation=true")
    told = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert told["roster"] == sorted(files)
    assert [hospital["name"] for hospital in told["hospitals"]] == ["all hospitals together"]
    assert simulate(["--data", str(data), "--engine", "keras", "--rounds", "2", "--out", str(tmp_path / "same")]) == 0
    require_same_model(tmp_path / "run", tmp_path / "same")
