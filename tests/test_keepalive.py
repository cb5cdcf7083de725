"""A long training through a router that forgets silent connections: with keep-alive the answer arrives, else it does not."""

import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from fedhealth.wire.authority import issue_certificates
from fedhealth.wire.identity import Identity, load_identity
from fedhealth.wire.link import join
from tests.test_wire import Federation, double, make_app

pytestmark = pytest.mark.enable_socket
KEEPALIVE, FORGETS_AFTER = 0.1, 0.6
"""Seconds between pings, and of silence until the router forgets a connection: as 30 s are to a router's few minutes."""
ENOUGH_PULSES = 16
"""Signs of life through the router during one training: some 0.8 s of pings from both ends, and more than it forgives."""
PATIENCE = 20


class ForgetfulRouter:
    """Carries bytes both ways and drops a connection without a word once it was silent for `FORGETS_AFTER` seconds."""

    def __init__(self, server_port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server_port = server_port
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.forgot = threading.Event()
        self.pulses = 0
        self.pulse = threading.Condition()

    def carry(self) -> None:
        """One connection, until either end closes it or it is forgotten."""
        inside, _ = self._listener.accept()
        with inside, socket.create_connection(("127.0.0.1", self._server_port)) as outside:
            other = {inside: outside, outside: inside}
            while ready := select.select([inside, outside], [], [], FORGETS_AFTER)[0]:
                for end in ready:
                    if not (chunk := end.recv(65536)):
                        return
                    other[end].sendall(chunk)
                with self.pulse:
                    self.pulses += 1
                    self.pulse.notify_all()
            self.forgot.set()

    def wait_for_pulses(self, more: int) -> bool:
        """Wait until the router has carried something `more` times, or has forgotten the connection."""
        with self.pulse:
            enough = self.pulses + more
            return self.pulse.wait_for(lambda: self.pulses >= enough or self.forgot.is_set(), PATIENCE)

    def close(self) -> None:
        self._listener.close()


@contextmanager
def routed(server_port: int) -> Iterator[ForgetfulRouter]:
    router = ForgetfulRouter(server_port)
    with ThreadPoolExecutor(1) as pool:
        carrying = pool.submit(router.carry)
        try:
            yield router
        finally:
            carrying.result(PATIENCE)
            router.close()


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keepalive") / "certs"
    issue_certificates(out, ["va"], ["127.0.0.1"], days=365, ca_days=3650, force=False)
    return out


def identities(certs: Path, encrypted: bool) -> tuple[Identity | None, Identity | None]:
    return (load_identity(certs / "server"), load_identity(certs / "va")) if encrypted else (None, None)


def train_through_a_router(fed: Federation, tls: Identity | None) -> tuple[Message, BaseException | None, bool]:
    """One question while the hospital trains in silence: the reply, how its link ended, and whether it was forgotten."""
    with fed.grid.listening("127.0.0.1:0") as address, routed(int(address.rpartition(":")[2])) as router:

        def train(message: Message, context: Context) -> RecordDict:
            if not router.wait_for_pulses(ENOUGH_PULSES):
                raise TimeoutError
            return double(message, context)

        def take_part() -> None:
            with join(router.address, "va", {"name": "va"}, tls=tls) as connection:
                joined.set()
                connection.serve(make_app(train), lambda message, reply: done.set(), lambda error: None)

        joined, done = threading.Event(), threading.Event()
        hospital = fed.pool.submit(take_part)
        assert joined.wait(PATIENCE)
        (reply,) = fed.ask(fed.grid.get_node_ids(), timeout=PATIENCE)
        forgot = router.forgot.is_set()
        if forgot:
            return reply, hospital.exception(PATIENCE), forgot
    return reply, hospital.exception(PATIENCE), forgot
