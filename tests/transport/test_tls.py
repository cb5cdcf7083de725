"""The gRPC link with TLS on loopback: valid certificates are accepted, others refused in one line, and the run continues."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.app import Context, Message, RecordDict

from fedhealth.common.errors import RunError, UsageError
from fedhealth.data.sources.heart import HEART
from fedhealth.transport import messages
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.diagnosis import HELLO, Target, find_reason
from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.preflight import check_server
from fedhealth.transport.grpc.retry import Attempt, ServerLostError, keep_trying
from fedhealth.transport.tls import authority, proxy
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.identity import Identity, load_identity
from tests.support.grpc_federation import Federation, double, make_app
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket


def issue(out: Path, *hospitals: str, server: str = "127.0.0.1", days: float = 365) -> Path:
    issue_certificates(out, hospitals, (server,), days=days, ca_days=3650, force=False)
    return out


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue(tmp_path_factory.mktemp("tls") / "certs", "va", "hungary", "cleveland", "病院 Zürich")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another federation's, with hospitals of the same names."""
    return issue(tmp_path_factory.mktemp("tls") / "others", "va")


class TlsFederation(Federation):
    """A listening grid with TLS and its hospitals, each on a thread."""

    def __init__(self, certs: Path, allow: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.certs = certs
        self.grid = GrpcGrid({"rounds": 2}, 4, self._on_change, load_identity(certs / "server"), allow)

    def start(self, name, app, tls=None):
        tls = tls or load_identity(self.certs / name)

        def run() -> None:
            with join(self.address, name, {"data": "none", "name": name}, tls=tls) as connection:
                connection.serve(app, on_reply=lambda message, reply: None, on_failure=lambda error: None)

        count = self.changes.count(("joined", name)) + 1
        future = self.pool.submit(run)
        self.wait_for("joined", name, count)
        return future

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def goes_on(self) -> None:
        """Hungary, which is connected all the time, still replies, and is the only hospital."""
        assert self.grid.get_node_ids() == (messages.node_id_of("hungary"),)
        (reply,) = self.ask(self.grid.get_node_ids())
        assert not reply.has_error()

    def refusals(self) -> list[str]:
        with self.changed:
            return [who for what, who in self.changes if what == "refused"]


@contextmanager
def federation(certs: Path, *, allow: tuple[str, ...] = ()) -> Iterator[TlsFederation]:
    started = TlsFederation(certs, allow)
    with started.grid.listening("127.0.0.1:0") as started.address:
        started.start("hungary", make_app(double))
        yield started
    started.pool.shutdown(wait=True)


def refuse(fed: TlsFederation, tls: Identity | None, name: str = "va") -> str:
    """The error of a client that may not join; it does not try again."""
    pauses: list[tuple[object, ...]] = []
    with pytest.raises(UsageError) as caught:
        keep_trying(
            lambda attempt: enter(fed.address, name, tls, attempt), fed.address, 30, lambda *args: pauses.append(args)
        )
    assert pauses == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def enter(address: str, name: str, tls: Identity | None, attempt: Attempt) -> None:
    with join(address, name, {}, tls=tls, attempt=attempt):
        pass


def reported_once(fed: TlsFederation, reason: str) -> None:
    """The server has reported the refused address and the reason, in one line."""
    fed.wait_for("refused", reason)
    (line,) = fed.refusals()
    peer, _, why = line.partition(": ")
    host, _, port = peer.rpartition(":")
    assert (host, why) == ("127.0.0.1", reason)
    assert 0 < int(port) != fed.port


# --- accepted clients --------------------------------------------------------------------------------------------------


def test_a_hospital_with_a_good_certificate_joins_under_its_name_and_answers(certs: Path) -> None:
    with federation(certs) as fed:
        futures = [fed.start(name, make_app(double)) for name in ("va", "病院 Zürich")]
        assert len(fed.grid.get_node_ids()) == 3
        assert not any(reply.has_error() for reply in fed.ask(fed.grid.get_node_ids()))
        assert fed.refusals() == []
    assert [future.result(PATIENCE) for future in futures] == [None, None]


def test_a_server_that_is_given_a_hospitals_folder_does_not_start(certs: Path) -> None:
    with pytest.raises(
        UsageError, match=r"va/cert\.pem: is a client certificate; give a folder with a server certificate"
    ):
        GrpcGrid({}, 1, lambda what, who: None, load_identity(certs / "va"))


def test_a_client_that_is_given_the_servers_folder_does_not_connect(certs: Path) -> None:
    with federation(certs) as fed:
        why = refuse(fed, load_identity(certs / "server"))
        assert why.endswith("server/cert.pem: is a server certificate; give a folder with a client certificate")
        assert fed.refusals() == []


def test_a_busy_port_is_one_clear_line(certs: Path) -> None:
    with federation(certs) as fed:
        second = GrpcGrid({}, 1, lambda what, who: None, load_identity(certs / "server"))
        with (
            pytest.raises(UsageError, match=r"cannot listen on 127.*another one with --address"),
            second.listening(fed.address),
        ):
            pass


def test_a_second_connection_with_the_same_certificate_replaces_the_first(certs: Path) -> None:
    with federation(certs) as fed:
        asked, release = threading.Event(), threading.Event()

        def wait(message: Message, context: Context) -> RecordDict:
            asked.set()
            release.wait(PATIENCE)
            return double(message, context)

        older = fed.start("va", make_app(wait))
        va = messages.node_id_of("va")
        question = fed.pool.submit(fed.ask, (va,), None)
        assert asked.wait(PATIENCE)
        fed.start("va", make_app(double))
        (lost,) = question.result(PATIENCE)  # at once: nobody waits for the older one any more
        assert (lost.error.code, lost.error.reason) == (messages.ABSENT, "left the federation")
        assert not fed.ask((va,))[0].has_error()
        release.set()
        with pytest.raises(UsageError, match="another program has joined with this hospital's certificate"):
            older.result(PATIENCE)
        assert not fed.ask((va,))[0].has_error()
        assert [what for what, who in fed.changes if who == "va"] == ["joined", "left", "joined"]


# --- refused clients ---------------------------------------------------------------------------------------------------


def test_a_client_without_a_certificate_is_refused(certs: Path) -> None:
    with federation(certs) as fed:
        context = ssl.create_default_context(cafile=certs / "ca" / "ca.pem")
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", fed.port)) as sock,
            context.wrap_socket(sock, server_hostname="127.0.0.1") as stream,
            pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
        ):
            stream.recv(1)
        reported_once(fed, "it sent no certificate")
        fed.goes_on()


def test_a_plain_text_client_gets_a_line_about_tls(certs: Path) -> None:
    with federation(certs) as fed:
        assert refuse(fed, None) == "the server requires TLS; give this hospital's folder of certificates with --tls"
        reported_once(fed, "it uses plain text instead of TLS")
        fed.goes_on()


def test_a_plain_text_browser_is_refused(certs: Path) -> None:
    with federation(certs) as fed, socket.create_connection(("127.0.0.1", fed.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while sock.recv(100):
            pass
        reported_once(fed, "it uses plain text instead of TLS")
        fed.goes_on()


def with_ca(folder: Path, ca: Path, out: Path) -> Identity:
    """The identity of `folder`, but trusting another CA, as an intruder would do."""
    identity = load_identity(folder)
    out.mkdir()
    for name, content in {"ca.pem": ca.read_bytes(), "cert.pem": identity.cert, "key.pem": identity.key}.items():
        (out / name).write_bytes(content)
    return Identity(**{**vars(identity), "folder": out, "ca": ca.read_bytes()})


def test_a_certificate_of_another_ca_is_refused(certs: Path, others: Path, tmp_path: Path) -> None:
    with federation(certs) as fed:
        stranger = with_ca(others / "va", certs / "ca" / "ca.pem", tmp_path / "stranger")
        assert refuse(fed, stranger) == (
            "the server closed the connection during the handshake: it does not trust this end's certificate (another CA)"
        )
        reported_once(fed, "its certificate is signed by an unknown CA")
        fed.goes_on()


def sign(folder: Path, ca: Path, certificate: Callable[[ec.EllipticCurvePrivateKey], x509.Certificate]) -> Identity:
    """A folder with an invalid certificate, and an identity that hides the fault from the client's own checks."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate(key)
    folder.mkdir()
    pems = {"ca.pem": ca.read_bytes(), "cert.pem": authority._pem(leaf), "key.pem": authority._key_pem(key)}
    for name, content in pems.items():
        (folder / name).write_bytes(content)
    since, until = (datetime.now(UTC) + timedelta(days=days) for days in (-300, 300))
    return Identity(folder, *pems.values(), "va", since, until, frozenset({"client"}), ())


def common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.mark.parametrize("own_name", ["va", authority.CA_NAME])
def test_a_self_signed_certificate_is_refused(certs: Path, tmp_path: Path, own_name: str) -> None:
    name = common_name(own_name)

    def self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        until = datetime.now(UTC) + timedelta(days=300)
        builder = authority._builder(name, name, key.public_key(), key.public_key(), until)
        return builder.sign(key, hashes.SHA256())

    with federation(certs) as fed:
        why = refuse(fed, sign(tmp_path / "self", certs / "ca" / "ca.pem", self_signed))
        assert why.startswith("the server closed the connection during the handshake: it does not ")
        reported_once(fed, "its certificate is self-signed")
        fed.goes_on()


def dated(
    certs: Path, not_before: timedelta, not_after: timedelta
) -> Callable[[ec.EllipticCurvePrivateKey], x509.Certificate]:
    ca = authority._load_authority(certs / "ca")

    def certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name("va"))
            .issuer_name(ca.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + not_before)
            .not_valid_after(now + not_after)
        )
        return builder.sign(ca.key, hashes.SHA256())

    return certificate


def test_an_expired_certificate_is_refused_by_the_server_too(certs: Path, tmp_path: Path) -> None:
    expired = dated(certs, timedelta(days=-2), timedelta(days=-1))
    with federation(certs) as fed:
        why = refuse(fed, sign(tmp_path / "old", certs / "ca" / "ca.pem", expired))
        assert why.endswith("it reports that this end's certificate has expired")
        reported_once(fed, "its certificate has expired")
        fed.goes_on()


def test_a_certificate_of_tomorrow_is_refused_by_the_server_too(certs: Path, tmp_path: Path) -> None:
    tomorrow = dated(certs, timedelta(days=1), timedelta(days=2))
    with federation(certs) as fed:
        why = refuse(fed, sign(tmp_path / "early", certs / "ca" / "ca.pem", tomorrow))
        assert why.startswith("the server closed the connection during the handshake: it does not accept this end's")
        reported_once(fed, "its certificate is not valid yet")
        fed.goes_on()


def test_a_server_certificate_is_refused_as_a_client_certificate(certs: Path) -> None:
    with federation(certs) as fed:
        server = load_identity(certs / "server")
        why = refuse(fed, Identity(**{**vars(server), "purposes": frozenset({"client"})}))
        assert why.startswith("the server closed the connection during the handshake: it does not accept this end's")
        reported_once(fed, "its certificate is for another purpose")
        fed.goes_on()


def test_a_hospital_cannot_join_under_anothers_name(certs: Path) -> None:
    with federation(certs) as fed:
        why = "the certificate is for 'va', but this client's name is cleveland; give a matching --name"
        assert refuse(fed, load_identity(certs / "va"), "cleveland") == f"the server refused: {why}"
        reported_once(fed, why)
        fed.goes_on()


def test_a_hospital_that_is_not_on_the_list_is_refused(certs: Path) -> None:
    with federation(certs, allow=("hungary", "cleveland")) as fed:
        why = "va is not on the server's list of hospitals (server.py --allow)"
        assert refuse(fed, load_identity(certs / "va")) == f"the server refused: {why}"
        reported_once(fed, why)
        fed.goes_on()
        fed.start("cleveland", make_app(double))


def test_an_expelled_hospital_is_refused_whatever_its_certificate(certs: Path) -> None:
    with federation(certs) as fed:
        shown_out = fed.start("va", make_app(double))
        fed.grid.expel("va", "its weights are not finite")
        why = "va takes no part in this run: its weights are not finite"
        with pytest.raises(RunError, match=f"^{why}$"):
            shown_out.result(PATIENCE)
        assert refuse(fed, load_identity(certs / "va")) == f"the server refused: {why}"
        reported_once(fed, why)
        fed.goes_on()


def test_the_port_behind_the_tls_proxy_refuses_other_programs(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner: list[int] = []
    opened = proxy.TlsProxy.open

    async def note_port(self: proxy.TlsProxy, host: str, port: int, inner_port: int) -> int:
        inner.append(inner_port)
        return await opened(self, host, port, inner_port)

    monkeypatch.setattr(proxy.TlsProxy, "open", note_port)
    with federation(certs) as fed:
        (inner_port,) = inner
        assert inner_port != fed.port
        metadata = [*messages.agreement(HEART).items(), ("hospital-bin", b"va")]
        with grpc.insecure_channel(f"127.0.0.1:{inner_port}") as channel:
            stream = channel.stream_stream(messages.METHOD)(iter([]), metadata=metadata)
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(messages.CHECK_METHOD)(b"{}", metadata=metadata)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        (line,) = fed.refusals()  # the second for the same reason is not reported so soon
        assert line.endswith("did not come through the TLS proxy")
        fed.goes_on()


def test_a_program_with_a_certificate_but_without_http2_is_refused(certs: Path) -> None:
    with federation(certs) as fed:
        context = load_identity(certs / "va").client_context()
        context.set_alpn_protocols(["http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", fed.port)) as sock,
            context.wrap_socket(sock, server_hostname="127.0.0.1") as stream,
        ):
            assert stream.recv(1) == b""
        reported_once(fed, "it does not use HTTP/2 (va)")
        fed.goes_on()


@pytest.mark.parametrize("name", [None, "\x1b[31mred"])
def test_a_certificate_without_a_fit_name_is_refused(
    certs: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    with federation(certs) as fed:
        monkeypatch.setattr(proxy, "name_of", lambda certificate: name)
        with knock(fed, load_identity(certs / "va"), greeted=False):
            reported_once(fed, "its certificate does not have exactly one printable common name")
        fed.goes_on()


def test_a_certificate_that_only_openssl_can_read_is_refused(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(certificate: x509.Certificate) -> str:
        raise ValueError("invalid utf-8")

    with federation(certs) as fed:
        monkeypatch.setattr(proxy, "name_of", fail)
        with knock(fed, load_identity(certs / "va"), greeted=False):
            reported_once(fed, "its certificate cannot be read")
        fed.goes_on()


def test_tls_below_1_3_is_refused(certs: Path) -> None:
    with federation(certs) as fed:
        context = load_identity(certs / "va").client_context()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", fed.port)) as sock,
            pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"),
        ):
            context.wrap_socket(sock, server_hostname="127.0.0.1")
        reported_once(fed, "it does not support TLS 1.3")
        fed.goes_on()


def test_a_silent_unauthenticated_connection_is_closed(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "HANDSHAKE_SECONDS", 0.1)
    with federation(certs) as fed, socket.create_connection(("127.0.0.1", fed.port)) as sock:
        sock.settimeout(PATIENCE)
        assert sock.recv(1) == b""
        reported_once(fed, "it did not finish the handshake in time")
        fed.goes_on()


def test_too_many_pending_handshakes_are_refused_and_members_stay(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MOST_PENDING_PER_HOST", 3)
    with federation(certs) as fed:
        mute = [socket.create_connection(("127.0.0.1", fed.port)) for _ in range(3)]
        with socket.create_connection(("127.0.0.1", fed.port)) as one_more:
            one_more.settimeout(PATIENCE)
            assert one_more.recv(1) == b""
        reported_once(fed, "too many handshakes are pending")
        fed.goes_on()
        with pytest.raises(ServerLostError):  # later there may be room: worth another attempt
            enter(fed.address, "va", load_identity(certs / "va"), Attempt(PATIENCE))
        for sock in mute:
            sock.close()
        keep_trying(
            lambda attempt: enter(fed.address, "va", load_identity(certs / "va"), attempt),
            fed.address,
            PATIENCE,
            lambda *args: None,
        )


def test_the_number_of_connections_per_certificate_is_limited(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MOST_PER_PEER", 2)
    with federation(certs) as fed:
        identity = load_identity(certs / "va")
        held = [knock(fed, identity) for _ in range(2)]
        with knock(fed, identity, greeted=False):
            reported_once(fed, "va already has 2 connections")
        for stream in held:
            stream.close()
        fed.goes_on()


def knock(fed: TlsFederation, identity: Identity, *, greeted: bool = True) -> ssl.SSLSocket:
    """A raw TLS connection to the proxy, accepted when the gRPC server has sent its first bytes."""
    sock = socket.create_connection(("127.0.0.1", fed.port))
    stream = identity.client_context().wrap_socket(sock, server_hostname="127.0.0.1")
    stream.settimeout(PATIENCE)
    stream.sendall(HELLO)
    assert bool(stream.recv(1)) == greeted
    return stream


def test_the_same_refusal_of_the_same_host_is_reported_once(certs: Path) -> None:
    with federation(certs) as fed:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", fed.port)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while sock.recv(100):
                    pass
        reported_once(fed, "it uses plain text instead of TLS")


def test_a_connection_closed_during_the_handshake_is_reported(certs: Path) -> None:
    with federation(certs) as fed:
        with socket.create_connection(("127.0.0.1", fed.port)) as sock:
            sock.sendall(b"\x16\x03\x01")
        reported_once(fed, "it closed the connection during the handshake")
        fed.goes_on()


def test_a_connection_that_is_closed_without_a_byte_is_no_refusal(certs: Path) -> None:
    with federation(certs) as fed:
        socket.create_connection(("127.0.0.1", fed.port)).close()
        with socket.create_connection(("127.0.0.1", fed.port)) as later:
            later.sendall(b"\x16\x03\x01")
            port = later.getsockname()[1]
        fed.wait_for("refused", "it closed the connection during the handshake")
        assert fed.refusals() == [f"127.0.0.1:{port}: it closed the connection during the handshake"]


# --- the errors at the hospital ----------------------------------------------------------------------------------------


def test_a_server_of_another_ca_is_not_trusted(certs: Path, others: Path) -> None:
    with federation(certs) as fed:
        why = refuse(fed, load_identity(others / "va"))
        trusted = others / "va" / "ca.pem"
        assert why == (
            f"the server cannot be trusted: its certificate is signed by an unknown CA (trusted CA: {trusted}); "
            "check --server and --tls"
        )
        fed.wait_for("refused", "it does not trust this end's certificate (another CA)")
        fed.goes_on()


@pytest.mark.parametrize("named", ["localhost", "10.0.0.1"])
def test_a_server_under_another_name_is_not_trusted(tmp_path: Path, named: str) -> None:
    certs = issue(tmp_path / "certs", "va", server=named)
    fed = TlsFederation(certs)
    with fed.grid.listening("127.0.0.1:0") as fed.address:
        assert refuse(fed, load_identity(certs / "va")) == (
            "the server's certificate is not for 127.0.0.1; give --server the name in the certificate, "
            "or ask the coordinator to make one for 127.0.0.1 (certificates --server-names)"
        )
        if named == "localhost":
            enter(f"localhost:{fed.port}", "va", load_identity(certs / "va"), Attempt(PATIENCE))
            fed.wait_for("joined", "va")


def test_tls_to_a_server_without_is_one_line(certs: Path) -> None:
    fed = Federation()
    with fed.grid.listening("127.0.0.1:0") as fed.address:
        assert refuse(fed, load_identity(certs / "va")) == (
            "the server does not use TLS; leave out --tls, or ask the coordinator to start it with --tls"
        )


def test_the_preflight_check_is_refused_with_the_same_text(certs: Path, others: Path) -> None:
    with federation(certs) as fed:
        with pytest.raises(UsageError, match="the server requires TLS; give this hospital's folder"):
            check_server(fed.address, "va")
        with pytest.raises(UsageError, match="the server cannot be trusted"):
            check_server(fed.address, "va", load_identity(others / "va"))
        with pytest.raises(UsageError, match="but this client's name is cleveland"):
            check_server(fed.address, "cleveland", load_identity(certs / "va"))
        answer = check_server(fed.address, "va", load_identity(certs / "va"))
        assert (answer.refusal, answer.run_config) == (None, {"rounds": 2})
        assert [what for what, _ in fed.changes if what == "joined"] == ["joined"]
        fed.goes_on()


def test_a_silent_port_takes_no_longer_than_the_attempts_patience(certs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(ServerLostError, match=r"it did not reply within 0\.3 s"):
            enter(f"127.0.0.1:{mute.getsockname()[1]}", "va", load_identity(certs / "va"), Attempt(0.3))
        assert time.monotonic() - started < 3


def test_a_port_that_closes_at_once_may_be_tried_again(certs: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, ThreadPoolExecutor(1) as pool:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        pool.submit(hang_up)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        for tls in (None, load_identity(certs / "va")):
            with pytest.raises(ServerLostError):
                enter(address, "va", tls, Attempt(PATIENCE))
        listener.shutdown(socket.SHUT_RDWR)


def test_without_another_reason_grpcs_text_is_reported(certs: Path) -> None:
    with federation(certs) as fed:
        found = find_reason(ServerLostError("gRPC's own words"), Target(fed.address, load_identity(certs / "va")))
        assert isinstance(found, ServerLostError)
        assert str(found) == "gRPC's own words"
