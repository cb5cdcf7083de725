"""The standing service under the same faults: five runs in a row, and clients that stay."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedhealth.transport.grpc.declining import decline_metadata
from fedhealth.transport.grpc.preflight import check_server
from fedhealth.transport.tls.identity import load_identity
from tests.chaos.federation import HOSPITALS, NO_LIMIT, Federation, harms_of, limit_files
from tests.support.processes import NUMPY_CLIENT, Process

RUNS = tuple(f"run-{number}" for number in range(1, 6))
BETWEEN_RUNS = ("kill_server_after_the_last_round", "kill_server_between_runs")
"""Faults that wait for the end of a run."""
SERVICE = """
address = "{address}"
tls = "{tls}"
allow = {hospitals}
max-wait = 300
"""
RUN = """
hospitals = {hospitals}
min-hospitals = {hospitals}
rounds = {rounds}
round-timeout = 120
learning-rate = {rate}
"""


class ServiceFederation(Federation):
    """A service with a queue of five runs of `rounds` rounds, each with another learning rate."""

    run_settings = ""
    """Of every run, besides those that every federation needs."""

    def __init__(self, folder: Path, rounds: int, seed: int) -> None:
        queue = folder / "queue"
        queue.mkdir()
        for number, name in enumerate(RUNS, 1):
            text = RUN.format(hospitals=len(HOSPITALS), rounds=rounds, rate=number / 100)
            (queue / f"{name}.toml").write_text(text + self.run_settings)
        (folder / "policy.toml").write_text(f"max-rounds = {rounds}\n")
        self.rounds_per_run = rounds
        super().__init__(folder, rounds * len(RUNS), seed)

    def _start_server(self, address: str) -> Process:
        tls, file = self.folder / "certs" / "server", self.folder / "service.toml"
        file.write_text(SERVICE.format(address=address, tls=tls, hospitals=json.dumps(HOSPITALS)))
        return self._start("server.py", "--service", str(file))

    def _start_client(self, number: int) -> Process:
        name = HOSPITALS[number]
        link = ["--server", f"localhost:{self.proxies[number].port}", "--tls", str(self.folder / "certs" / name)]
        keep = ["--receipts", str(self.folder / "receipts"), "--service", str(self.folder / "policy.toml")]
        return self._start(*NUMPY_CLIENT, str(self.folder / "data" / f"client_{number + 1}.csv"), *link, *keep)

    def last_round(self) -> int:
        """The number of rounds of all runs that are on the disk."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.glob("runs/*/history.jsonl"))

    def end(self) -> None:
        """Wait until all runs have ended well, then stop all."""
        self.server.wait_for("waiting for the next one")
        ended = [path.stem for path in sorted((self.folder / "queue" / "finished").iterdir())]
        assert ended == list(RUNS), ended
        for process in (*self.clients, self.server):
            process.process.send_signal(signal.SIGTERM)
            assert process.end() == 143, process.output
        self.admitted_strangers += sum(line.startswith("declined:") for log in self.logs for line in log.lines)

    def weights(self) -> dict[str, np.ndarray]:
        """The final models'."""
        return {f"{run}/{name}": array for run in RUNS for name, array in self.weights_of(self._run(run)).items()}

    def lost_rounds(self) -> int:
        """How many of the rounds are missing from the histories."""
        return sum(self.missing_rounds(self._run(run), self.rounds_per_run) for run in RUNS)

    def _run(self, name: str) -> Path:
        return self.folder / "runs" / name

    # --- harm ---------------------------------------------------------------------------------------------------------

    def harm_terminate_server(self, number: int) -> None:
        """SIGTERM; the clients stay, and the run goes on when the server is back."""
        self.server.process.send_signal(signal.SIGTERM)
        assert self.server.end() == 143, self.server.output
        self.server = self._start_server(f"127.0.0.1:{self.port}")

    def harm_full_disk_of_client(self, number: int) -> None:
        """Nothing is sent without a receipt; the client stays, and takes part again when there is room."""
        with self.more_lines(self.clients[number], "a receipt cannot be written"):
            limit_files(self.clients[number], 0)
        limit_files(self.clients[number], NO_LIMIT)

    def harm_decline_of_a_stranger(self, number: int) -> None:
        """A certificate of the federation that is not on the list declines, for itself and for a hospital."""
        address, identity = f"localhost:{self.port}", load_identity(self.folder / "certs" / "evil")
        found = check_server(address, "evil", identity)
        check_server(address, "evil", identity, decline=decline_metadata(found.run_config, "no"))

    def harm_kill_server_after_the_last_round(self, number: int) -> None:
        """The final model may have reached some of the hospitals."""
        with self.more_lines(self.server, f"round {self.rounds_per_run}/{self.rounds_per_run}"):
            pass
        self.harm_kill_server(number)

    def harm_kill_server_between_runs(self, number: int) -> None:
        with self.more_lines(self.server, "is finished; run folder"):
            pass
        self.harm_kill_server(number)


class SecuredServiceFederation(ServiceFederation):
    """The same runs with secure aggregation."""

    run_settings = "secure-aggregation = true\n"


def plan_service(schedule: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The faults spread over the runs; the faults between two runs are where each run ends."""
    planned = list[tuple[str, int]]()
    for number in range(len(RUNS)):
        begin, end = (len(schedule) * each // len(RUNS) for each in (number, number + 1))
        planned += schedule[begin:end]
        planned += [(BETWEEN_RUNS[number % 2], 0)]
    return planned[:-1]


SERVICE_HARMS = [harm for harm in harms_of(ServiceFederation) if harm not in BETWEEN_RUNS]
