"""`python -m fedhealth doctor`: each of its eleven checks, good and bad, against a real server on loopback."""

import dataclasses
import datetime
import socket
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fedhealth.cli.commands.doctor import main
from fedhealth.client import preflight
from fedhealth.client.preflight import Finding, Preflight, train_once
from fedhealth.client.trainers import Trainers
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.commands import DoctorSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import parse_hospital
from fedhealth.data.schema_file import parse_schema
from fedhealth.models.local_training import Examples, LocalObjective, Weights
from fedhealth.models.numpy_training import NumpyTrainer
from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.http_proxy import EXCEPTIONS, VARIABLES
from fedhealth.transport.grpc.preflight import check_server, own_facts
from fedhealth.transport.grpc.retry import ServerLostError
from fedhealth.transport.tls.authority import issue_certificates
from tests.support.asking import write_hospital
from tests.support.connect_proxy import ConnectProxy

pytestmark = pytest.mark.enable_socket
CHECKS = [
    *("file", "receipts", "certificate", "name", "port", "server"),
    *("versions", "code", "clock", "admission", "training"),
]


class StubTrainer:
    """A model without weights to speak of: training adds 1 to its only weight, and every risk is 0.5."""

    weight_names = ["w"]  # noqa: RUF012  # as a trainer has it
    is_dense = False

    def __init__(self, **choices: Any) -> None:
        self.num_inputs = choices["num_inputs"]

    def initial_weights(self) -> Weights:
        return [np.zeros(1, np.float32)]

    def warm_up(self) -> None:
        pass

    def train(
        self,
        weights: Weights,
        examples: Examples,
        orders: NDArray[np.int32],
        objective: LocalObjective | None = None,
    ) -> tuple[Weights, float]:
        return [weights[0] + np.float32(1)], 0.7

    def predict(self, weights: Weights, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full(len(inputs), 0.5, np.float32)


class DivergingTrainer(StubTrainer):
    def train(self, *_: Any) -> tuple[Weights, float]:
        return [np.full(1, np.nan, np.float32)], 0.7


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_hospital(tmp_path / "client_1.csv")


@pytest.fixture
def address() -> Iterator[str]:
    """A federation's server that listens on a free port of this machine."""
    with GrpcGrid(FederationSettings().to_run_config(), 4, lambda *_: None).listening("127.0.0.1:0") as address:
        yield address


def examine(csv: Path, address: str, trainer: Any = StubTrainer, **flags: Any) -> dict[str, Finding]:
    """Check -> its finding."""
    settings = DoctorSettings(server=address, data=csv, **flags)
    return {finding.check: finding for finding in Preflight(settings, Trainers(trainer)).findings()}


def alter_reply(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change the server's reply."""
    original = preflight.check_server
    monkeypatch.setattr(
        preflight, "check_server", lambda *asked, **more: dataclasses.replace(original(*asked, **more), **changes)
    )


def alter_facts(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change the facts about this end."""
    monkeypatch.setattr(preflight, "own_facts", lambda: dataclasses.replace(own_facts(), **changes))


def failed_checks(found: dict[str, Finding]) -> list[str]:
    return [check for check, finding in found.items() if not finding.passed and not finding.skipped]


def skipped(found: dict[str, Finding]) -> list[str]:
    return [check for check, finding in found.items() if finding.skipped]


# --- all checks pass --------------------------------------------------------------------------------------------------


def test_where_all_is_well_every_check_says_so_in_its_order(csv: Path, address: str) -> None:
    found = examine(csv, address)
    assert list(found) == CHECKS
    assert failed_checks(found) == []
    port = address.rpartition(":")[2]
    starts = {
        "file": f"{csv}: 60 patients, 30 ill; columns and units fit the schema",
        "receipts": f"{csv.parent} can be written to",
        "certificate": "none given (--tls); without one, only a server on this machine can be joined",
        "name": "127.0.0.1 is 127.0.0.1",
        "port": f"{port} is open",
        "server": "replies; 2180 bytes of probe arrays came back intact in ",
        "versions": "fedhealth ",
        "code": "the same on both ends: data/schema.py, ",
        "clock": "within 1 s of the server's",
        "admission": "the server would admit client_1",
        "training": "TensorFlow is installed (",
    }
    for check, start in starts.items():
        assert found[check].text.startswith(start)
    assert not any(finding.warnings for finding in found.values())


def test_the_command_ends_with_1_if_a_check_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        Finding("file", "60 patients", passed=True, warnings=("two rows repeat",)),
        Finding("port", "shut", passed=False),
        Finding("server", "needs the port check", passed=False, skipped=True),
    ]
    monkeypatch.setattr(Preflight, "findings", lambda _: iter(found))
    assert main(["--data", str(tmp_path / "x.csv")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok      file        60 patients",
        "                    note: two rows repeat",
        "BAD     port        shut",
        "SKIPPED server      needs the port check",
        "not ready: fix what is BAD, from the top, and run this command again",
    ]
    monkeypatch.setattr(Preflight, "findings", lambda _: iter(found[:1]))
    assert main(["--data", str(tmp_path / "x.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready to take part"


# --- this computer ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing_is_bad_and_leaves_out_the_training_alone(csv: Path, address: str) -> None:
    found = examine(csv.with_name("nowhere.csv"), address)
    assert (failed_checks(found), skipped(found)) == (["file"], ["training"])
    assert "nowhere.csv: " in found["file"].text
    assert found["training"].text == "needs the file check"
    assert found["admission"].text == "the server would admit nowhere"


def test_what_is_odd_about_the_file_is_a_warning(csv: Path, address: str) -> None:
    pd.read_csv(csv).assign(ward="north").to_csv(csv, index=False)
    found = examine(csv, address)
    assert found["file"].passed
    assert found["file"].warnings == ("unknown columns are ignored: ward",)


def test_a_folder_that_cannot_be_written_to_is_bad_for_receipts(
    csv: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path != csv.parent)
    found = examine(csv, address)
    assert failed_checks(found) == ["receipts"]
    assert found["receipts"].text == (
        f"{csv.parent} cannot be written to; give client.py another folder with --receipts"
    )


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    issue_certificates(tmp_path / "certs", ("lakeside",), ("127.0.0.1",), days=20, ca_days=900, force=False)
    return tmp_path / "certs"


def test_a_certificate_names_the_hospital_and_says_when_it_ends(csv: Path, address: str, certs: Path) -> None:
    found = examine(csv, address, tls=certs / "lakeside")["certificate"]
    ends = datetime.datetime.now(datetime.UTC) + timedelta(days=20)
    assert found.passed
    assert found.text in {f"lakeside, valid until {ends + timedelta(hours=hours):%Y-%m-%d}" for hours in (-1, 0, 1)}
    assert [warning.partition(" days; ")[2] for warning in found.warnings] == ["ask the coordinator for a new one"]


def test_a_certificate_that_is_missing_is_bad_and_so_is_all_that_needs_the_server(csv: Path, address: str) -> None:
    found = examine(csv, address, tls=csv.parent / "nowhere")
    assert failed_checks(found) == ["certificate"]
    assert skipped(found) == ["server", "versions", "code", "clock", "admission", "training"]
    assert found["server"].text == "needs the certificate check"
    assert found["versions"].text == "needs the server check"


# --- the connection to the server -------------------------------------------------------------------------------------


def test_a_name_that_cannot_be_resolved_is_bad_and_no_port_is_tried(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    found = examine(csv, "fed.example.org:8080")
    assert (failed_checks(found), skipped(found)) == ([CHECKS[3]], CHECKS[4:])
    assert found["name"].text == (
        "fed.example.org cannot be resolved (Name or service not known); check --server, or ask the coordinator for the IP "
        "address"
    )
    assert found["port"].text == "needs the name check"


def test_a_port_that_accepts_no_connection_is_bad(csv: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        port = taken.getsockname()[1]
        found = examine(csv, f"127.0.0.1:{port}")
    assert (failed_checks(found), skipped(found)) == ([CHECKS[4]], CHECKS[5:])
    assert found["port"].text == (
        f"{port} at 127.0.0.1 does not accept connections (Connection refused); is the server running, and does "
        "the firewall allow outgoing connections to this port?"
    )


def test_a_server_that_does_not_reply_is_bad(csv: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ServerLostError("the connection was cut")

    monkeypatch.setattr(preflight, "check_server", fail)
    found = examine(csv, address)
    assert (failed_checks(found), skipped(found)) == ([CHECKS[5]], CHECKS[6:])
    assert found["server"].text == (
        "does not reply (the connection was cut); ask the coordinator whether it is running"
    )


def test_arrays_that_are_altered_on_the_way_are_bad(csv: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    altered: Sequence[NDArray[np.float32]] = [array + 2 for array in preflight.probe_arrays()]
    alter_reply(monkeypatch, arrays=altered)
    found = examine(csv, address)
    assert (failed_checks(found), skipped(found)) == ([CHECKS[5]], CHECKS[6:])
    assert found["server"].text.startswith("probe arrays came back changed; something between here and the server")


def test_a_server_with_tls_that_is_asked_without_is_bad(csv: Path, certs: Path) -> None:
    from fedhealth.transport.tls.identity import load_identity

    grid = GrpcGrid(FederationSettings().to_run_config(), 4, lambda *_: None, load_identity(certs / "server"))
    with grid.listening("127.0.0.1:0") as address:
        found = examine(csv, address)
        assert (failed_checks(found), skipped(found)) == ([CHECKS[5]], CHECKS[6:])
        assert failed_checks(examine(csv, address, tls=certs / "lakeside")) == []


@pytest.mark.parametrize("encrypted", [True, False])
def test_the_checks_are_not_reported_at_the_server(csv: Path, certs: Path, encrypted: bool) -> None:
    from fedhealth.transport.tls.identity import load_identity

    events: list[tuple[str, str]] = []
    tls = load_identity(certs / "server") if encrypted else None
    grid = GrpcGrid(FederationSettings().to_run_config(), 1, lambda *event: events.append(event), tls, ("kiel",))
    with grid.listening("127.0.0.1:0") as address:
        found = examine(csv, address, tls=certs / "lakeside" if encrypted else None)
        assert failed_checks(found) == ["admission"]
        with pytest.raises(UsageError, match="printable"):
            check_server(address, "a\nb", load_identity(certs / "lakeside") if encrypted else None)
    assert events == []


# --- a proxy between the two ------------------------------------------------------------------------------------------


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy yet."""
    for name in (*VARIABLES, *EXCEPTIONS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_a_server_behind_a_proxy_is_examined_through_it(csv: Path, address: str, variables: pytest.MonkeyPatch) -> None:
    server = "fed.example.org:8443"
    with ConnectProxy(int(address.rpartition(":")[2])) as proxy:
        variables.setenv("http_proxy", proxy.url)
        found = examine(csv, server)
        assert failed_checks(found) == []
        used = f"the proxy {proxy.url} of http_proxy"
        assert found["name"].text == f"fed.example.org is left to {used}, which connects to it"
        assert found["port"].text == f"8443 is open, through {used}"
        variables.setenv("http_proxy", "http://127.0.0.1:9")
        found = examine(csv, server, proxy=proxy.url)
        assert failed_checks(found) == []
        assert found["port"].text == f"8443 is open, through the proxy {proxy.url} of --proxy"


def test_a_proxy_that_takes_no_connection_is_bad_and_not_the_server(csv: Path, variables: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        variables.setenv("http_proxy", url)
        found = examine(csv, "fed.example.org:8443")
    assert failed_checks(found) == ["port"]
    assert skipped(found) == CHECKS[5:]
    assert found["port"].text == (
        f"8443 at fed.example.org is not reached: the proxy {url} of http_proxy takes no connection: connection refused; "
        "if the server can be reached without a proxy, add fed.example.org to no_proxy (in small letters), or give "
        "--proxy none"
    )


def test_a_server_that_is_not_reached_directly_may_need_a_proxy_that_grpc_does_not_read(
    csv: Path, variables: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    variables.setattr(socket, "getaddrinfo", fail)
    variables.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    assert examine(csv, "fed.example.org:8080")["name"].text.endswith(
        " (HTTPS_PROXY is not used, for gRPC reads it in small letters only; give --proxy)"
    )


def test_a_proxy_that_does_not_let_this_computer_through_is_bad(csv: Path, variables: pytest.MonkeyPatch) -> None:
    with ConnectProxy(status=403) as proxy:
        variables.setenv("http_proxy", proxy.url)
        found = examine(csv, "fed.example.org:8443")
    assert failed_checks(found) == ["port"]
    assert skipped(found) == CHECKS[5:]
    assert found["port"].text.startswith(
        f"the proxy {proxy.url} of http_proxy does not let this computer connect to fed.example.org:8443 (HTTP 403); "
    )


# --- the two ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["fedhealth", "flwr"])
def test_another_version_of_what_they_must_share_is_bad(
    csv: Path, address: str, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    there = own_facts().versions
    alter_facts(monkeypatch, versions={**there, package: "0.0.7"})
    found = examine(csv, address)
    assert failed_checks(found) == ["versions"]
    assert found["versions"].text == (f"{package} is 0.0.7 here and {there[package]} there; install the same on both")


def test_another_python_is_a_warning(csv: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = own_facts().versions
    alter_facts(monkeypatch, versions={**there, "python": "3.0.1"})
    found = examine(csv, address)
    assert found["versions"].passed
    assert found["versions"].warnings == (f"Python is 3.0.1 here and {there['python']} there; this may work",)


@pytest.mark.parametrize("source", list(own_facts().sources))
def test_other_code_here_than_there_is_bad(
    csv: Path, address: str, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    alter_facts(monkeypatch, sources={**own_facts().sources, source: "0" * 64})
    found = examine(csv, address)
    assert failed_checks(found) == ["code"]
    assert found["code"].text == (f"{source} is not the same code here and there; install the same version on both")


@pytest.mark.parametrize(("seconds", "shown"), [(61, "+61 s"), (-3600, "-3600 s")])
def test_clocks_that_differ_by_more_than_a_minute_are_bad(
    csv: Path, address: str, monkeypatch: pytest.MonkeyPatch, seconds: int, shown: str
) -> None:
    alter_reply(monkeypatch, ahead=timedelta(seconds=seconds))
    found = examine(csv, address)
    assert failed_checks(found) == ["clock"]
    assert found["clock"].text.startswith(
        f"the server's clock is {shown} from this one, so valid certificates may be rejected"
    )


def test_clocks_that_differ_by_less_are_good(csv: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_reply(monkeypatch, ahead=timedelta(seconds=-59))
    assert examine(csv, address)["clock"].text == "within 59 s of the server's"


def test_a_server_that_would_refuse_this_hospital_is_bad(csv: Path) -> None:
    grid = GrpcGrid(FederationSettings().to_run_config(), 4, lambda *_: None, allow=("lakeside",))
    with grid.listening("127.0.0.1:0") as address:
        found = examine(csv, address)
    assert failed_checks(found) == ["admission"]
    assert found["admission"].text.startswith("the server would refuse client_1: ")


# --- one round here ---------------------------------------------------------------------------------------------------


def test_training_that_fails_here_is_bad_with_the_message_that_failed(csv: Path, address: str) -> None:
    found = examine(csv, address, DivergingTrainer)
    assert failed_checks(found) == ["training"]
    assert found["training"].text == (
        "train fails here: training diverged: the weights are not finite; lower --learning-rate at the server"
    )


ONE_COLUMN = """
title = "a test"
source = "a test"
[[column]]
name = "age"
meaning = "age"
kind = "number"
range = [0, 120]
[[outcome]]
name = "dead"
meaning = "dead"
kind = "yes/no"
positive = [1]
"""


@pytest.mark.parametrize("asked", [{"strategy": "newton"}, {"strategy": "newton", "personalise": "intercept"}, {}])
def test_a_run_with_newton_or_without_training_is_tried_as_well(asked: dict[str, Any]) -> None:
    rows = "".join(f"{30 + number},{number % 2}\n" for number in range(60))
    hospital = parse_hospital(f"age,dead\n{rows}".encode(), Path("p.csv"), schema=parse_schema(ONE_COLUMN, "a.toml"))
    train_once(hospital, FederationSettings(**asked, feasibility=not asked), Trainers(NumpyTrainer))


def test_a_file_with_too_few_patients_for_the_servers_split_is_bad(tmp_path: Path, address: str) -> None:
    found = examine(write_hospital(tmp_path / "small.csv", 18), address)
    assert failed_checks(found) == ["training"]
    assert found["training"].text.startswith("query.describe fails here: too few patients for --test-share 0.25")


def test_a_library_that_cannot_be_loaded_is_bad(csv: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Trainers) -> None:
        raise RunError("TensorFlow cannot be loaded")

    monkeypatch.setattr(Trainers, "load", fail)
    assert examine(csv, address)["training"] == Finding("training", "TensorFlow cannot be loaded", passed=False)
