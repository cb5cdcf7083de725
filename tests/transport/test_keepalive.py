"""Long training through a router that drops silent connections: the reply arrives only with keep-alive."""

import select
import socket
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from flwr.app import Context, Message, RecordDict

from fedhealth.transport import options
from fedhealth.transport.grpc import client, port
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.retry import ServerLostError
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.identity import Identity, load_identity
from tests.support.grpc_federation import Federation, double, make_app
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket
Identities = tuple[Identity | None, Identity | None]

both_kinds = pytest.mark.parametrize("identities", ["plain", "tls"], indirect=True)
plain_only = pytest.mark.parametrize("identities", ["plain"], indirect=True)


@pytest.fixture
def identities(request: pytest.FixtureRequest, tmp_path: Path) -> Identities:
    """The server's and the hospital's."""
    if request.param == "plain":
        return None, None
    issue_certificates(tmp_path, ["va"], ["127.0.0.1"], days=365, ca_days=3650, force=False)
    return load_identity(tmp_path / "server"), load_identity(tmp_path / "va")


class ForgetfulRouter:
    """Carries one connection's bytes both ways and drops it once it was silent for `forgets_after` seconds."""

    def __init__(self, forgets_after: float) -> None:
        self._forgets_after = forgets_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.server_port = 0
        self.forgot = False
        self._pulse = threading.Condition()

    def carry(self) -> None:
        """Until either end closes the connection or it is forgotten."""
        inside, _ = self._listener.accept()
        self._listener.close()  # a hospital that is cut off cannot come back through it
        with inside, socket.create_connection(("127.0.0.1", self.server_port)) as outside:
            other = {inside: outside, outside: inside}
            while ready := select.select([inside, outside], [], [], self._forgets_after)[0]:
                for end in ready:
                    if not (chunk := end.recv(65536)):
                        return
                    other[end].sendall(chunk)
                self._tell()
        self.forgot = True
        self._tell()

    def _tell(self) -> None:
        with self._pulse:
            self._pulse.notify_all()

    def wait(self, seconds: float) -> None:
        """Until it has carried something so much later, or has forgotten the connection."""
        until = time.monotonic() + seconds
        with self._pulse:
            assert self._pulse.wait_for(lambda: self.forgot or time.monotonic() >= until, PATIENCE)


def train_through_a_router(
    router: ForgetfulRouter, identities: Identities, seconds: float
) -> tuple[Message, BaseException | None]:
    """Send one message, which the hospital processes without traffic: the reply, and how its connection ended."""
    server, hospital = identities
    fed = Federation()
    fed.grid = GrpcGrid({}, 1, fed._on_change, server)
    carrying = fed.pool.submit(router.carry)

    def train(message: Message, context: Context) -> RecordDict:
        router.wait(seconds)
        return double(message, context)

    def take_part() -> None:
        with join(router.address, "va", {"name": "va"}, tls=hospital) as connection:
            connection.serve(make_app(train), lambda message, reply: None, lambda error: None)

    with fed.grid.listening("127.0.0.1:0") as address:
        router.server_port = int(address.rpartition(":")[2])
        taking_part = fed.pool.submit(take_part)
        fed.wait_for("joined", "va")
        (reply,) = fed.ask(fed.grid.get_node_ids(), timeout=PATIENCE)
    ended = taking_part.exception(PATIENCE)
    carrying.result(PATIENCE)
    fed.pool.shutdown()
    return reply, ended


def ping_every(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "KEEPALIVE_SECONDS", seconds)


def never_ping(module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One end of the link sends no pings."""
    choose = getattr(module, name)
    others = lambda *args: [option for option in choose(*args) if option[0] != "grpc.keepalive_time_ms"]  # noqa: E731
    monkeypatch.setattr(module, name, others)


@both_kinds
def test_long_training_does_not_end_the_connection(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    ping_every(0.1, monkeypatch)
    router = ForgetfulRouter(forgets_after=0.7)
    reply, ended = train_through_a_router(router, identities, seconds=1.1)
    assert (reply.has_error(), ended, router.forgot) == (False, None, False)


@plain_only
def test_the_servers_pings_are_enough(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    ping_every(0.1, monkeypatch)
    never_ping(client, "client_options", monkeypatch)
    router = ForgetfulRouter(forgets_after=0.7)
    reply, ended = train_through_a_router(router, identities, seconds=1.1)
    assert (reply.has_error(), ended, router.forgot) == (False, None, False)


@pytest.mark.slow
@plain_only
def test_the_hospitals_pings_are_enough(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    ping_every(1.0, monkeypatch)  # gRPC lets no client ping more often
    never_ping(port, "server_options", monkeypatch)
    router = ForgetfulRouter(forgets_after=1.8)
    reply, ended = train_through_a_router(router, identities, seconds=2.5)
    assert (reply.has_error(), ended, router.forgot) == (False, None, False)


@both_kinds
def test_without_keep_alive_the_same_training_is_cut_off(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping_every(1000, monkeypatch)
    router = ForgetfulRouter(forgets_after=0.7)
    reply, ended = train_through_a_router(router, identities, seconds=1.1)
    assert reply.error.reason == "left the federation"
    assert isinstance(ended, ServerLostError)
    assert router.forgot
