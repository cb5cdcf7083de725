"""Secure aggregation with the real scripts over TLS: what people see, and what the files hold."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedhealth.client.masking_state import masking_path
from fedhealth.client.receipts_audit import audit_receipts
from tests.support.processes import ANY_PORT, NUMPY_CLIENT, Process, started
from tests.support.secured_hospitals import NAMES, issue, write_files

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.enable_socket]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certs"
    issue(folder, *NAMES)
    return folder


@contextmanager
def running(
    folder: Path, certs: Path, out: str, *server_flags: str, flags: dict[str, tuple[str, ...]] | None = None
) -> Iterator[tuple[Process, dict[str, Process]]]:
    """A server with TLS, and the client of each hospital with its own flags."""
    command = ("server.py", "--address", ANY_PORT, "--tls", str(certs / "server"), "--hospitals", "3", "--rounds", "3")
    with ExitStack() as stack:
        server = stack.enter_context(started(*command, "--out", str(folder / out), *server_flags))
        port = server.address().rpartition(":")[2]
        clients = {}
        for name in NAMES:
            link = ("--server", f"localhost:{port}", "--tls", str(certs / name), "--receipts", str(folder / "receipts"))
            own = (flags or {}).get(name, ())
            clients[name] = stack.enter_context(started(*NUMPY_CLIENT, str(folder / f"{name}.csv"), *link, *own))
        yield server, clients


def weights_in(folder: Path) -> dict[str, bytes]:
    with np.load(folder / "model.npz", allow_pickle=False) as model:
        return {name: model[name].tobytes() for name in model.files if name.startswith("weights/")}


def the_pin(client: Process) -> str:
    return client.wait_for("--pin is").partition("--pin is ")[2]


def test_all_show_the_same_digits_each_sees_its_own_figures_and_the_weights_are_those_in_the_clear(
    tmp_path: Path, certs: Path
) -> None:
    write_files(tmp_path)
    with running(tmp_path, certs, "masked", "--secure-aggregation") as (server, clients):
        assert server.end() == 0, server.output
        assert [client.end() for client in clients.values()] == [0, 0, 0]
    digits = json.loads((tmp_path / "masked" / "settings.json").read_text())["roster_digest"]
    assert f"roster {digits}" in server.output
    assert not any(line.startswith(NAMES) for line in server.lines)
    for name, client in clients.items():
        assert f"show the digits {digits}" in client.output
        assert the_pin(client).endswith(f" {name}")
        assert sum("own test patients" in line for line in client.lines) == 3
        assert '"kind": "key"' not in masking_path(tmp_path / f"{name}.csv").read_text()
        assert "Traceback" not in client.output
        path = tmp_path / "receipts" / f"{name}.jsonl"
        assert audit_receipts(path).kinds["train"] == 3
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all(list(line["arrays"]) == ["masked"] and "inside" in line for line in lines if line["kind"] == "train")
    with running(tmp_path, certs, "clear") as (server, clients):
        assert server.end() == 0, server.output
        assert [client.end() for client in clients.values()] == [0, 0, 0]
    assert weights_in(tmp_path / "masked") == weights_in(tmp_path / "clear")

    pins = tmp_path / "pins"
    pins.write_text(f"{'0' * 64} cleveland\n")
    strict = {"va": ("--secure-aggregation", "required", "--pin", str(pins))}
    with running(tmp_path, certs, "pinned", "--secure-aggregation", flags=strict) as (server, clients):
        assert server.end() == 1
        assert clients["va"].end() == 1
    reason = "the roster is not accepted: the certificate of cleveland is not the one in --pin"
    assert reason in clients["va"].output
    assert server.lines[-1] == (
        f"error: the hospitals have not agreed on a roster: va could not reply to query.roster: {reason}"
    )


def test_a_hospital_that_wishes_otherwise_ends_the_run_before_anything_is_sent(tmp_path: Path, certs: Path) -> None:
    write_files(tmp_path)
    for flag, server_flags, reason in (
        ("never", ("--secure-aggregation",), "takes no part in secure aggregation (--secure-aggregation never)"),
        ("required", (), "takes part with secure aggregation only (--secure-aggregation required)"),
    ):
        wish = {"va": ("--secure-aggregation", flag)}
        everybody = ("--min-hospitals", "3")
        with running(tmp_path, certs, f"run {flag}", *server_flags, *everybody, flags=wish) as (server, clients):
            assert server.end() == 1
            assert clients["va"].end() == 1
        assert reason in server.lines[-1]
        assert f"warning: this hospital {reason}" in clients["va"].output
        kinds = audit_receipts(tmp_path / "receipts" / "va.jsonl").kinds
        assert set(kinds) <= {"join", "query.describe"}
