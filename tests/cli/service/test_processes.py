"""A standing service of real processes: runs in a row, a killed server, runs that policies refuse, TLS and its health."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fedhealth.transport.tls.authority import issue_certificates
from tests.support.processes import NUMPY_CLIENT, PATIENCE, Process, started

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.enable_socket]
RUN = "hospitals = {hospitals}\nmin-hospitals = {hospitals}\nrounds = {rounds}\n"


HOSPITALS = ("synthetic-cleveland", "synthetic-hungary", "synthetic-switzerland")


class Ground:
    """Data, a queue, certificates if they are issued, and the processes of one server and its hospitals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certs = folder / "certs"
        self.processes: list[Process] = []
        (folder / "queue").mkdir()
        command = ("create_dataset.py", "--source", "synthetic", "--patients", "200", "--out", str(folder / "data"))
        with started(*command) as process:
            assert process.end() == 0, process.output

    def queue(self, name: str, rounds: int, hospitals: int = 2) -> None:
        hidden = self.folder / "queue" / f".{name}.tmp"
        hidden.write_text(RUN.format(rounds=rounds, hospitals=hospitals))
        hidden.rename(self.folder / "queue" / f"{name}.toml")

    def start(self, *command: str) -> Process:
        self.processes.append(Process(*command))
        return self.processes[-1]

    def start_server(self, address: str = "127.0.0.1:0") -> Process:
        tls = 'tls = "certs/server"\n' if self.certs.exists() else ""
        (self.folder / "service.toml").write_text(f'address = "{address}"\nmax-wait = 300\n{tls}')
        return self.start("server.py", "--service", str(self.folder / "service.toml"))

    def start_client(self, number: int, address: str, policy: str) -> Process:
        file = self.folder / f"policy_{number}.toml"
        file.write_text(policy)
        data = str(self.folder / "data" / f"client_{number}.csv")
        tls = ["--tls", str(self.certs / HOSPITALS[number - 1])] if self.certs.exists() else []
        return self.start(*NUMPY_CLIENT, data, "--server", address, "--service", str(file), *tls)

    def issue_certificates(self) -> None:
        """From now on the server and its hospitals use TLS."""
        issue_certificates(self.certs, HOSPITALS, ("localhost",), days=90, ca_days=900, force=False)

    def ask_health(self, address: str) -> int:
        """What a standard health client with the first hospital's certificate is answered."""
        ca, key, cert = ((self.certs / HOSPITALS[0] / f"{name}.pem").read_bytes() for name in ("ca", "key", "cert"))
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
            request = health_pb2.HealthCheckRequest(service="fedhealth.Federation")
            return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE).status)

    def state(self, run: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / "runs" / run / "state.json").read_text()))

    def weights(self, run: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / "runs" / run / "model.npz", allow_pickle=False) as model:
            return {name: model[name] for name in model.files if name.startswith("weights/")}


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    ground = Ground(folder)
    try:
        yield ground
    finally:
        for process in ground.processes:
            if process.process.poll() is None:
                process.process.kill()
            process.process.wait()
            process.reader.join()


def test_two_runs_in_a_row_and_one_that_all_policies_refuse_before_the_next(tmp_path: Path) -> None:
    with ground(tmp_path) as on:
        on.queue("b-short", 3)
        on.queue("a-short", 3)
        server = on.start_server()
        clients = [on.start_client(number, server.address(), "max-rounds = 5") for number in (1, 2)]
        server.wait_for("run b-short is finished")
        on.queue("c-long", 6)
        on.queue("d-short", 3)
        reason = "it has 6 rounds, the policy allows 5 (max-rounds)"
        for client in clients:
            client.wait_for(f"run c-long: does not take part: {reason}")
        server.wait_for("run d-short is finished")
        on.queue("e-wide", 5, hospitals=3)
        server.wait_for("waiting: 2 of 3 hospitals have joined")
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 130
        assert server.lines[-1] == "stopped by Ctrl-C; e-wide goes on when the service starts again"
        for client in clients:
            client.wait_for("this client goes on trying")
            assert "Traceback" not in client.output
        states = {run: on.state(run) for run in ("a-short", "c-long", "d-short", "e-wide")}
        assert {run: (state["state"], state["round"]) for run, state in states.items()} == {
            "a-short": ("finished", 3),
            "c-long": ("failed", 0),
            "d-short": ("finished", 3),
            "e-wide": ("interrupted", 0),
        }
        assert states["c-long"]["reason"] == (
            "only 0 of 2 hospitals can take part, too few for --min-hospitals: "
            f"synthetic-cleveland declined: {reason}; synthetic-hungary declined: {reason}"
        )
        for name in ("synthetic-cleveland", "synthetic-hungary"):
            assert f"declined: {name}: {reason}" in server.lines
        assert f"warning: run c-long failed: {states['c-long']['reason']}" in server.lines
        finished = [path.name for path in sorted((tmp_path / "queue" / "finished").iterdir())]
        assert finished == ["a-short.toml", "b-short.toml", "d-short.toml"]
        for name, weights in on.weights("a-short").items():
            np.testing.assert_array_equal(weights, on.weights("b-short")[name])


def test_a_server_that_is_killed_goes_on_with_its_run_and_its_hospitals(tmp_path: Path) -> None:
    with ground(tmp_path) as on:
        on.queue("a-long", 400)
        server = on.start_server()
        address = server.address()
        for number in (1, 2):
            on.start_client(number, address, "")
        server.wait_for("round  20/400")
        server.process.kill()
        assert server.end() == -signal.SIGKILL
        assert [path.name for path in (tmp_path / "queue" / "running").iterdir()] == ["a-long.toml"]
        again = on.start_server(address)
        assert again.wait_for("run a-long").startswith("run a-long goes on")
        again.wait_for("run a-long is finished")
        on.queue("b-whole", 400)
        again.wait_for("run b-whole is finished")
        rounds = [json.loads(line)["round"] for line in (tmp_path / "runs" / "a-long" / "history.jsonl").open()]
        assert rounds == list(range(1, 401))
        for name, weights in on.weights("b-whole").items():
            np.testing.assert_array_equal(weights, on.weights("a-long")[name])


def test_over_tls_a_killed_service_goes_on_by_itself_with_both_runs_and_its_health_can_be_asked(tmp_path: Path) -> None:
    with ground(tmp_path) as on:
        on.issue_certificates()
        on.queue("a-long", 300, hospitals=3)
        on.queue("b-next", 3, hospitals=3)
        server = on.start_server()
        assert server.wait_for("listening on").endswith(" with TLS")
        port = server.address().rpartition(":")[2]
        address = f"localhost:{port}"
        clients = [on.start_client(number, address, "") for number in (1, 2, 3)]
        assert on.ask_health(address) == health_pb2.HealthCheckResponse.SERVING
        server.wait_for("round  20/300")
        server.process.kill()
        assert server.end() == -signal.SIGKILL
        with pytest.raises(grpc.RpcError) as caught:
            on.ask_health(address)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        again = on.start_server(f"127.0.0.1:{port}")
        assert again.wait_for("run a-long").startswith("run a-long goes on")
        assert on.ask_health(address) == health_pb2.HealthCheckResponse.SERVING
        again.wait_for("run b-next is finished")
        for run, rounds in (("a-long", 300), ("b-next", 3)):
            history = (tmp_path / "runs" / run / "history.jsonl").read_text().splitlines()
            assert [json.loads(line)["round"] for line in history] == list(range(1, rounds + 1))
            settings = json.loads((tmp_path / "runs" / run / "settings.json").read_text())
            assert [hospital["name"] for hospital in settings["hospitals"]] == list(HOSPITALS)
            assert on.state(run)["state"] == "finished"
        for process in (again, *clients):
            assert "Traceback" not in process.output
            assert process.process.poll() is None
