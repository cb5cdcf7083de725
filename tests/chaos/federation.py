"""A federation of real processes over TLS, each client behind a proxy of its own, and the faults that can be injected."""

import contextlib
import json
import resource
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedhealth.common.errors import FedHealthError
from fedhealth.transport.grpc.client import ServerLostError, join
from fedhealth.transport.tls.identity import load_identity
from tests.support.processes import ANY_PORT, NUMPY_CLIENT, Process, started
from tests.support.proxy import Proxy

HOSPITALS = ("synthetic-cleveland", "synthetic-hungary", "synthetic-switzerland", "synthetic-va")
PATIENTS = 160
NO_LIMIT = resource.RLIM_INFINITY


def make_files(folder: Path) -> None:
    """Data and certificates of the federation, and certificates of an intruder with another CA."""
    commands = [
        ["create_dataset.py", "--source", "synthetic", "--patients", str(PATIENTS), "--out", str(folder / "data")],
        ["-m", "fedhealth", "certificates", "--hospitals", *HOSPITALS, "evil", "--out", str(folder / "certs")],
        ["-m", "fedhealth", "certificates", "--hospitals", *HOSPITALS, "--out", str(folder / "strange")],
    ]
    for command in commands:
        with started(*command) as process:
            assert process.end() == 0, process.output


class Federation:
    """Server and clients; each `harm_*` method injects a fault, repairs it and returns afterwards."""

    server_flags: tuple[str, ...] = ()
    """Of a new run, besides those that every federation needs."""

    def __init__(self, folder: Path, rounds: int, seed: int) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.rounds = rounds
        self.admitted_strangers = 0
        self.logs: list[Process] = []
        self.server = self._start_server(ANY_PORT)
        self.port = int(self.server.address().rpartition(":")[2])
        self.proxies = [Proxy(self.port, seed + number) for number in range(len(HOSPITALS))]
        self.clients = [self._start_client(number) for number in range(len(HOSPITALS))]

    def _start(self, *command: str) -> Process:
        self.logs.append(Process(*command))
        return self.logs[-1]

    def _start_server(self, address: str) -> Process:
        place = ["--address", address, "--tls", str(self.folder / "certs" / "server")]
        names = ["--allow", *HOSPITALS]
        if self.run.exists():
            return self._start("server.py", *place, "--resume", str(self.run), *names)
        everybody = ["--hospitals", str(len(HOSPITALS)), "--min-hospitals", str(len(HOSPITALS))]
        more = ["--rounds", str(self.rounds), "--max-wait", "300", "--round-timeout", "120", "--out", str(self.run)]
        return self._start("server.py", *place, *everybody, *more, *names, *self.server_flags)

    def _start_client(self, number: int) -> Process:
        name = HOSPITALS[number]
        link = ["--server", f"localhost:{self.proxies[number].port}", "--tls", str(self.folder / "certs" / name)]
        file = str(self.folder / "data" / f"client_{number + 1}.csv")
        return self._start(*NUMPY_CLIENT, file, *link, "--max-wait", "300", "--receipts", str(self.folder / "receipts"))

    def wait_for_rounds(self, more: int) -> None:
        """Return when `more` rounds have ended since now, or the run is over."""
        before = self.last_round()
        self.server.wait_until(lambda _: self.last_round() >= min(before + more, self.rounds), f"{more} more rounds")

    def last_round(self) -> int:
        """The last round that the current server process has printed."""
        for line in reversed(self.server.lines[-50:]):
            if line.startswith("round ") and "/" in line:
                return int(line.split()[1].partition("/")[0])
        return 0

    @contextlib.contextmanager
    def more_lines(self, process: Process, text: str) -> Iterator[None]:
        """Wait, at the end of the block, until the process has printed one more line with `text`."""
        before = sum(text in line for line in process.lines)
        yield
        process.wait_until(lambda lines: sum(text in line for line in lines) > before, f"further line with {text!r}")

    def memory(self) -> dict[str, float]:
        """Resident megabytes of the server and of the first client."""
        return {
            who: _resident(each.process.pid) for who, each in (("server", self.server), ("client", self.clients[0]))
        }

    def end(self) -> None:
        """Wait until all have ended well by themselves, however many rounds are left."""
        assert self.server.end() == 0, self.server.output
        for client in self.clients:
            assert client.end() == 0, client.output

    def close(self) -> None:
        """Leave nothing behind."""
        for proxy in self.proxies:
            proxy.close()
        for process in self.logs:
            if process.process.poll() is None:
                process.process.kill()
            process.process.wait()
            process.reader.join()

    def weights(self) -> dict[str, np.ndarray]:
        """The final model's."""
        return self.weights_of(self.run)

    def weights_of(self, run: Path) -> dict[str, np.ndarray]:
        """The final model's in a run folder."""
        with np.load(run / "model.npz", allow_pickle=False) as model:
            return {name: model[name] for name in model.files if name.startswith("weights/")}

    def lost_rounds(self) -> int:
        """How many of the rounds are missing from the history."""
        return self.missing_rounds(self.run, self.rounds)

    def missing_rounds(self, run: Path, rounds: int) -> int:
        """How many of the rounds are missing from the history in a run folder."""
        lines = (run / "history.jsonl").read_text().splitlines()
        return len(set(range(1, rounds + 1)) - {json.loads(line)["round"] for line in lines})

    # --- harm ---------------------------------------------------------------------------------------------------------

    def harm_kill_client(self, number: int) -> None:
        self.clients[number].process.kill()
        self.clients[number].process.wait()
        self.clients[number] = self._start_client(number)

    def harm_kill_server(self, number: int) -> None:
        self.server.process.kill()
        self.server.process.wait()
        self.server = self._start_server(f"127.0.0.1:{self.port}")

    def harm_terminate_server(self, number: int) -> None:
        """SIGTERM; the server sends the reason to the clients, which end; all are started again."""
        self.server.process.send_signal(signal.SIGTERM)
        assert self.server.end() == 143, self.server.output
        for client in self.clients:
            assert client.end() == 1, client.output
        self.server = self._start_server(f"127.0.0.1:{self.port}")
        self.clients = [self._start_client(each) for each in range(len(HOSPITALS))]

    def harm_full_disk(self, number: int) -> None:
        """No file of the server can grow, until it says so."""
        with self.more_lines(self.server, "files are written as soon as that is possible"):
            limit_files(self.server, 0)
        with self.more_lines(self.server, "can be written again, and no file is missing"):
            limit_files(self.server, NO_LIMIT)

    def harm_full_disk_of_client(self, number: int) -> None:
        """Nothing is sent without a receipt: the client ends, and is started again."""
        limit_files(self.clients[number], 0)
        assert self.clients[number].end() == 1, self.clients[number].output
        self.clients[number] = self._start_client(number)

    def harm_hang_client(self, number: int) -> None:
        client = self.clients[number].process
        client.send_signal(signal.SIGSTOP)
        self._send_and_close()  # for as long as an intruder takes
        client.send_signal(signal.SIGCONT)

    def harm_hang_server(self, number: int) -> None:
        self.server.process.send_signal(signal.SIGSTOP)
        self._send(b"anybody there?")  # takes the second that this waits for a reply
        self.server.process.send_signal(signal.SIGCONT)

    def harm_cut(self, number: int) -> None:
        self.proxies[number].cut()

    def harm_cut_all(self, number: int) -> None:
        for proxy in self.proxies:
            proxy.cut()

    def harm_corrupt(self, number: int) -> None:
        self.proxies[number].corrupt()

    def harm_block(self, number: int) -> None:
        self.proxies[number].hold()
        self._send_and_close()
        self.proxies[number].release()

    def harm_garbage(self, number: int) -> None:
        self._send(np.random.default_rng(number).bytes(4096))

    def harm_replay(self, number: int) -> None:
        self._send(self.proxies[number].recorded)

    def harm_plain_http(self, number: int) -> None:
        self._send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    def harm_half_frame(self, number: int) -> None:
        """A member's certificate, and then half an HTTP/2 frame."""
        with self._tls(self.folder / "certs" / HOSPITALS[number]) as line:
            line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x40\x04\x00\x00\x00\x00\x00half")

    def harm_garbage_inside(self, number: int) -> None:
        """A member's certificate, and then no HTTP/2 at all."""
        with self._tls(self.folder / "certs" / HOSPITALS[number]) as line:
            line.sendall(np.random.default_rng(number).bytes(2000))

    def harm_unknown_ca(self, number: int) -> None:
        self._try_to_join(HOSPITALS[number], self.folder / "strange" / HOSPITALS[number])

    def harm_not_on_the_list(self, number: int) -> None:
        self._try_to_join("evil", self.folder / "certs" / "evil")

    def harm_another_name(self, number: int) -> None:
        self._try_to_join(HOSPITALS[number], self.folder / "certs" / "evil")

    def harm_no_tls(self, number: int) -> None:
        self._try_to_join(HOSPITALS[number], None)

    def _try_to_join(self, name: str, folder: Path | None) -> None:
        identity = load_identity(folder) if folder else None
        with (
            contextlib.suppress(FedHealthError, ServerLostError),
            join(f"localhost:{self.port}", name, {}, tls=identity),
        ):
            self.admitted_strangers += 1

    def _send_and_close(self) -> None:
        self._try_to_join("evil", self.folder / "certs" / "evil")

    def _send(self, content: bytes) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=20) as line:
            line.sendall(content)
            line.settimeout(1)
            line.recv(1000)

    @contextlib.contextmanager
    def _tls(self, folder: Path) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        context.set_alpn_protocols(["h2"])
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as line,
            context.wrap_socket(line, server_hostname="localhost") as wrapped,
        ):
            yield wrapped


class SecuredFederation(Federation):
    """The same federation with secure aggregation."""

    server_flags = ("--secure-aggregation",)


def limit_files(process: Process, most: int) -> None:
    """Let no file of a process grow beyond so many bytes, as on a full disk."""
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (most, NO_LIMIT))


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def harms_of(kind: type[Federation]) -> list[str]:
    """The names of all faults that can be injected."""
    return sorted(name.removeprefix("harm_") for name in dir(kind) if name.startswith("harm_"))
