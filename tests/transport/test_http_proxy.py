"""A proxy in the environment or in --proxy: used as gRPC uses it, named in every error, and no reason to try for ever."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fedhealth.common.errors import RunError, UsageError
from fedhealth.transport.grpc import diagnosis, http_proxy
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.diagnosis import Target, find_reason
from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.http_proxy import EXCEPTIONS, VARIABLES, connect, explain_unused, find_proxy
from fedhealth.transport.grpc.preflight import check_server
from fedhealth.transport.grpc.retry import Attempt, ServerLostError, keep_trying
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.identity import Identity, load_identity
from tests.support.connect_proxy import ConnectProxy
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket

SERVER = "fed.example.org:8443"
PROXY = "http://proxy.example.org:3128"
DIRECTLY = "if the server can be reached without a proxy, "
REMEDY = f"{DIRECTLY}add fed.example.org to no_proxy (in small letters), or give --proxy none"


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *EXCEPTIONS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


# --- which proxy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIABLES)
def test_each_of_the_three_variables_names_a_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://va:secret@proxy.example.org:3128")
    found = find_proxy(SERVER)
    assert found
    assert (found.url.host, found.url.port, found.url.credentials) == ("proxy.example.org", 3128, "va:secret")
    assert str(found) == f"the proxy {PROXY} of {name}"
    assert found.remedy == REMEDY
    assert "secret" not in repr(found)


@pytest.mark.parametrize("server", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_a_server_on_this_machine_is_reached_without_the_proxy_of_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    assert find_proxy(server) is None
    assert explain_unused(server) == ""
    assert find_proxy(server, PROXY)


@pytest.mark.parametrize("server", ["10.1.2.3:1", "127.example.org:1", "localhost.example.org:1", "[fd00::5]:1"])
def test_every_other_server_is_reached_through_it(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    assert find_proxy(server)


@pytest.mark.parametrize(
    ("no_proxy", "server", "used"),
    [
        ("fed.example.org", SERVER, False),
        ("other, Fed.Example.ORG ,", SERVER, False),
        ("example.org", SERVER, False),
        (".example.org", SERVER, False),
        ("d.example.org", SERVER, True),
        ("*", SERVER, True),
        ("*.example.org", SERVER, True),
        ("fed.example.org:8443", SERVER, True),
        ("", SERVER, True),
        (" , ", SERVER, True),
        ("10.1.2.3", "10.1.2.3:1", False),
        ("10.0.0.0/8", "10.1.2.3:1", False),
        ("10.2.0.0/16", "10.1.2.3:1", True),
        ("10.", "10.1.2.3:1", True),
        ("10.0.0.0/x", "10.1.2.3:1", True),
        ("10.0.0.0/8", SERVER, True),
        ("fd00::/8", "[fd00::5]:1", False),
        ("fd00::/8", "10.1.2.3:1", True),
    ],
)
def test_exceptions_are_hosts_domains_and_networks(
    no_proxy: str, server: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, {"http_proxy": PROXY, "no_proxy": no_proxy})
    assert (find_proxy(server) is not None) == used
    assert explain_unused(server) == ""


def test_the_flag_settles_it_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"http_proxy": "http://other.example.org:1", "no_proxy": "fed.example.org"})
    found = find_proxy(SERVER, PROXY)
    assert str(found) == f"the proxy {PROXY} of --proxy"
    assert found and found.remedy == f"{DIRECTLY}give --proxy none"
    monkeypatch.delenv("no_proxy")
    assert find_proxy(SERVER, "none") is None
    assert find_proxy(SERVER)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, ""),
        ({"http_proxy": ""}, ""),
        ({"HTTPS_PROXY": PROXY}, "HTTPS_PROXY is not used, for gRPC reads it in small letters only; give --proxy"),
        (
            {"https_proxy": "va:secret@proxy.example.org:3128", "http_proxy": PROXY},
            "https_proxy is proxy.example.org:3128, which gRPC does not use; write http://HOST:PORT, or give --proxy",
        ),
    ],
)
def test_a_proxy_variable_that_grpc_does_not_use_is_explained(
    variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    assert find_proxy(SERVER) is None
    assert explain_unused(SERVER) == why
    assert explain_unused(SERVER, "none") == ""


GRPC_CASES = [
    ("localhost", {"grpc_proxy": "{url}"}),
    ("localhost", {"https_proxy": "{url}"}),
    ("127.0.0.1", {"http_proxy": "{url}"}),
    ("localhost", {"HTTP_PROXY": "{url}", "HTTPS_PROXY": "{url}"}),
    ("localhost", {"http_proxy": "{url}", "grpc_proxy": ""}),
    ("localhost", {"http_proxy": "{url}", "https_proxy": "127.0.0.1:9"}),
    ("localhost", {"http_proxy": "{url}", "https_proxy": "https://127.0.0.1:9"}),
    ("localhost", {"http_proxy": "{url}", "no_proxy": "LocalHost"}),
    ("localhost", {"http_proxy": "{url}", "no_proxy": ".localhost"}),
    ("localhost", {"http_proxy": "{url}", "no_proxy": "host"}),
    ("localhost", {"http_proxy": "{url}", "no_proxy": "*"}),
    ("localhost", {"http_proxy": "{url}", "NO_PROXY": "localhost"}),
    ("localhost", {"http_proxy": "{url}", "no_proxy": "127.0.0.0/8"}),
    ("127.0.0.1", {"http_proxy": "{url}", "no_proxy": "127.0.0.0/8"}),
    ("127.0.0.1", {"http_proxy": "{url}", "no_proxy": "127.1.0.0/16"}),
    ("127.0.0.1", {"http_proxy": "{url}", "no_proxy": "0.1"}),
    ("127.0.0.1", {"http_proxy": "{url}", "no_proxy": "x, ,"}),
    ("localhost", {"http_proxy": "{url}", "no_grpc_proxy": "localhost"}),
    ("localhost", {"http_proxy": "{url}", "no_grpc_proxy": "", "no_proxy": "localhost"}),
]


@pytest.mark.parametrize(("host", "variables"), GRPC_CASES)
def test_the_rules_are_those_of_the_grpc_that_is_installed(
    host: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Server and proxy are the same port: the first word of the call says for which of the two gRPC takes it."""
    monkeypatch.setattr(http_proxy, "is_loopback", lambda _: False)
    with first_word() as (port, heard):
        set_variables(
            monkeypatch, {name: text.format(url=f"http://127.0.0.1:{port}") for name, text in variables.items()}
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"{host}:{port}", options=options) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/any/call")(b"", timeout=PATIENCE)
        assert heard[0] in (b"CONNECT", b"PRI * H")
        assert (find_proxy(f"{host}:{port}") is not None) == (heard[0] == b"CONNECT")


@contextlib.contextmanager
def first_word() -> Iterator[tuple[int, list[bytes]]]:
    """A port that keeps the first seven bytes of every caller and closes the connection."""
    heard: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as caller:
                    caller.settimeout(PATIENCE)
                    heard.append(caller.recv(7))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)


# --- through the proxy ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue(tmp_path_factory.mktemp("proxy") / "certs", "fed.example.org")


def issue(folder: Path, server_name: str) -> Path:
    issue_certificates(folder, ("va",), (server_name,), days=365, ca_days=3650, force=False)
    return folder


@contextlib.contextmanager
def behind_a_proxy(certs: Path | None, monkeypatch: pytest.MonkeyPatch | None = None) -> Iterator[ConnectProxy]:
    """A server that callers reach only through the proxy; `http_proxy` names the proxy if `monkeypatch` is given."""
    tls = load_identity(certs / "server") if certs else None
    grid = GrpcGrid({"rounds": 2}, 4, lambda *_: None, tls)
    with grid.listening("127.0.0.1:0") as address, ConnectProxy(int(address.rpartition(":")[2])) as proxy:
        if monkeypatch:
            monkeypatch.setenv("http_proxy", proxy.url)
        yield proxy


def enter(tls: Identity | None, proxy: str | None = None, patience: float = PATIENCE) -> None:
    with join(SERVER, "va", {}, tls=tls, proxy=proxy, attempt=Attempt(patience)):
        pass


def refusal(tls: Identity | None, proxy: str | None = None) -> str:
    """The one line that ends an attempt at once."""
    with pytest.raises(UsageError) as caught:
        keep_trying(lambda _: enter(tls, proxy), SERVER, 30, no_pause)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def no_pause(*said: object) -> None:
    raise AssertionError(f"it waits for another attempt: {said}")


def test_a_hospital_joins_through_the_proxy_of_the_environment(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with behind_a_proxy(certs, monkeypatch) as proxy:
        enter(load_identity(certs / "va"))
        assert proxy.requests[0].startswith(f"CONNECT {SERVER} HTTP/1.")
        assert check_server(SERVER, "va", load_identity(certs / "va")).refusal is None
        assert len(proxy.requests) == 2


def test_a_hospital_joins_through_the_proxy_of_the_flag_with_its_password_though_no_proxy_names_the_server(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind_a_proxy(certs) as proxy:
        set_variables(monkeypatch, {"http_proxy": "http://127.0.0.1:9", "no_grpc_proxy": "fed.example.org"})
        flag = proxy.url.replace("//", "//va:p%40ss@")
        enter(load_identity(certs / "va"), flag)
        assert check_server(SERVER, "va", load_identity(certs / "va"), proxy=flag).refusal is None
        assert os.environ[EXCEPTIONS[0]] == "fed.example.org", "gRPC's own switch is back where it was"
        for header in proxy.requests:
            assert "\r\nProxy-Authorization: Basic dmE6cEBzcw==\r\n" in header


def test_what_the_server_sends_at_once_is_not_lost_behind_the_answer_of_the_proxy() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        ConnectProxy(mute.getsockname()[1], first=b"hello") as proxy,
        connect(SERVER, find_proxy(SERVER, proxy.url), PATIENCE) as sock,
    ):
        assert sock.recv(5) == b"hello"


def test_the_flag_none_reaches_the_server_without_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, {"http_proxy": "http://127.0.0.1:9"})
    monkeypatch.setattr(http_proxy, "is_loopback", lambda _: False)
    with GrpcGrid({}, 4, lambda *_: None).listening("127.0.0.1:0") as address:
        with join(address, "va", {}, proxy="none"):
            pass
        with (
            pytest.raises(ServerLostError, match=r"^the proxy http://127\.0\.0\.1:9 of http_proxy takes no connection"),
            join(address, "va", {}),
        ):
            pass


@pytest.mark.parametrize("named", ["localhost", "10.0.0.1"])
def test_a_certificate_for_another_name_ends_the_first_attempt(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certs = issue(tmp_path / "certs", named)
    with behind_a_proxy(certs, monkeypatch) as proxy:
        why = refusal(load_identity(certs / "va"))
        assert why.startswith("the server's certificate is not for fed.example.org; ")
        assert "(certificates --server-names)" in why
        assert len(proxy.requests) == 2, "gRPC's connection, and one for the reason"


def test_a_certificate_that_is_not_trusted_ends_the_first_attempt_and_may_be_the_proxys_own(
    certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = issue(tmp_path / "others", "fed.example.org")
    with behind_a_proxy(certs, monkeypatch) as proxy:
        why = refusal(load_identity(others / "va"))
        assert why.startswith("the server cannot be trusted: its certificate is signed by an unknown CA ")
        assert why.endswith(
            f"; if the proxy {proxy.url} of http_proxy decrypts TLS, ask its administrator for an exception for {SERVER}"
        )


def test_tls_at_one_end_only_ends_the_first_attempt(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with behind_a_proxy(certs, monkeypatch):
        assert refusal(None) == "the server requires TLS; give this hospital's folder of certificates with --tls"
    with behind_a_proxy(None, monkeypatch):
        assert refusal(load_identity(certs / "va")).startswith("the server does not use TLS; leave out --tls")


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (
            403,
            f"does not let this computer connect to {SERVER} (HTTP 403); ask its administrator for access, or, {REMEDY}",
        ),
        (
            407,
            "asks for a user name and a password (HTTP 407); write http://USER:PASSWORD@HOST:PORT in http_proxy",
        ),
    ],
)
def test_a_proxy_that_refuses_ends_the_first_attempt(status: int, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(status=status) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert refusal(None) == f"the proxy {proxy.url} of http_proxy {why}"


def test_a_proxy_that_does_not_reach_the_server_may_do_so_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(status=503) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(RunError) as caught:
            keep_trying(lambda _: enter(None), SERVER, 0, no_pause)
        assert str(caught.value) == (
            f"no connection to {SERVER} within 0 s (1 attempt; the proxy {proxy.url} of http_proxy does not reach {SERVER} "
            f"(HTTP 503)); start the server, or, {REMEDY}"
        )


def test_a_proxy_that_takes_no_connection_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        port = taken.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://va:secret@127.0.0.1:{port}")
        with pytest.raises(RunError) as caught:
            keep_trying(lambda _: enter(None), SERVER, 0, no_pause)
    assert str(caught.value) == (
        f"no connection to {SERVER} within 0 s (1 attempt; the proxy http://127.0.0.1:{port} of https_proxy takes no "
        f"connection: connection refused); {REMEDY}"
    )


def test_a_port_that_is_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with first_word() as (port, _):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        reason = find_reason(ServerLostError("lost"), Target(SERVER))
    assert str(reason) == (
        f"the proxy http://127.0.0.1:{port} of http_proxy takes connections but gives no HTTP answer"
    )


def test_a_silent_server_behind_a_proxy_is_distinguished_from_a_silent_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute, ConnectProxy(mute.getsockname()[1]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        reason = find_reason(ServerLostError("lost"), Target(SERVER))
        assert str(reason) == f"it accepts connections but sends nothing (through the proxy {proxy.url} of http_proxy)"
        with pytest.raises(ServerLostError) as caught:
            enter(None, patience=0.2)
        assert str(caught.value) == f"it did not reply within 0.2 s (through the proxy {proxy.url} of http_proxy)"
        assert caught.value.advice.endswith(REMEDY)


def test_a_lost_connection_names_a_proxy_variable_that_was_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert str(Target(SERVER).lost("connection refused")) == (
        "connection refused; HTTPS_PROXY is not used, for gRPC reads it in small letters only; give --proxy"
    )
