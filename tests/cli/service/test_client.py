"""A hospital of a service: looks before it joins, says once why it does not, and stays whatever happens."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import client
from fedhealth.cli.client_session import ClientSession
from fedhealth.cli.service import client as service_client
from fedhealth.cli.service.client import ServiceClient, serve_file
from fedhealth.client.receipts import Receipts
from fedhealth.client.split_memory import SplitMemory
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.scripts import ClientSettings
from fedhealth.config.service import ServicePolicy
from fedhealth.transport.grpc.declining import read_decline
from fedhealth.transport.grpc.retry import Attempt, ServerLostError
from tests.support.hospital_files import write_hospitals

NAME = "synthetic-cleveland"
NOON = datetime(2026, 11, 24, 12)


def run(name: str = "spring", **settings: Any) -> dict[str, Any]:
    return {**FederationSettings(**settings).to_run_config(), "run": name}


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))[NAME]


class Server:
    """What a look at the server finds, and what becomes of a run that is joined."""

    def __init__(self) -> None:
        self.found: Callable[[], Any] = lambda: SimpleNamespace(run_config={}, refusal=None)
        self.end: Exception | None = None
        self.joined: list[str] = []
        self.proxies = set[str | None]()
        self.declines: list[str | None] = []
        """Why the found run is declined, by look."""

    def offers(self, run_config: Mapping[str, Any], refusal: str | None = None) -> None:
        self.found = lambda: SimpleNamespace(run_config=run_config, refusal=refusal)

    def is_lost(self) -> None:
        def fail() -> None:
            raise ServerLostError("connection refused")

        self.found = fail


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    def check_server(*_: object, proxy: str | None, decline: Mapping[str, str | bytes], **__: object) -> Any:
        server.proxies.add(proxy)
        found = server.found()
        server.declines.append(read_decline(decline, found.run_config))
        return found

    monkeypatch.setattr(service_client, "check_server", check_server)

    def take_part(session: ClientSession, receipts: Receipts, attempt: Attempt) -> None:
        session.approve(server.found().run_config)
        attempt.joined = True
        server.joined.append(session.run_name)
        if server.end:
            raise server.end

    monkeypatch.setattr(ClientSession, "take_part", take_part)
    return server


@contextmanager
def made_client(
    csv: Path, tmp_path: Path, policy: ServicePolicy, clock: Callable[[], datetime] = lambda: NOON, **flags: Any
) -> Iterator[ServiceClient]:
    session = ClientSession.prepare(ClientSettings(file=csv, receipts=tmp_path / "receipts", **flags))
    with session.opened_receipts() as receipts:
        yield ServiceClient(session, policy, SplitMemory(policy.splits), receipts, clock)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    return lambda: capsys.readouterr().out.splitlines()  # noqa: PLW0108  # read at each call


def test_a_run_that_the_policy_does_not_allow_is_not_joined_and_named_once(
    csv: Path, tmp_path: Path, server: Server, printed: Callable[[], list[str]]
) -> None:
    with made_client(csv, tmp_path, ServicePolicy(max_rounds=9)) as client:
        printed()
        server.offers(run(rounds=10))
        assert [client.visit() for _ in range(3)] == [False] * 3
        assert printed() == ["run spring: does not take part: it has 10 rounds, the policy allows 9 (max-rounds)"]
        server.offers(run("summer", rounds=9))
        assert client.visit()
    assert server.joined == ["summer"]


@pytest.mark.parametrize(
    "end",
    [
        (RunError("the server ended the run: stopped"), "the server ended the run: stopped"),
        (ServerLostError("socket closed"), "lost 127.0.0.1:8080 (socket closed); this client goes on trying"),
    ],
    ids=["stopped", "lost"],
)
def test_nothing_that_ends_a_run_sends_the_hospital_home(
    csv: Path, tmp_path: Path, server: Server, printed: Callable[[], list[str]], end: tuple[Exception, str]
) -> None:
    with made_client(csv, tmp_path, ServicePolicy()) as client:
        server.offers(run())
        server.end, line = end
        assert client.visit()
        assert printed()[-1] == line
        server.is_lost()
        assert [client.visit() for _ in range(2)] == [False] * 2
        assert printed() == ["no connection to 127.0.0.1:8080 (connection refused); this client goes on trying"]
        server.offers(run())
        server.end = None
        assert client.visit()
    assert server.joined == ["spring", "spring"]


def test_no_run_a_refusal_and_a_plain_server_are_one_line_each(
    csv: Path, tmp_path: Path, server: Server, printed: Callable[[], list[str]]
) -> None:
    with made_client(csv, tmp_path, ServicePolicy()) as client:
        printed()
        server.offers({}, "no run is on; come back later")
        client.visit()
        server.offers(run(), "the run has begun without it")
        client.visit()
        server.offers(FederationSettings().to_run_config())
        client.visit()
    assert printed() == [
        "no run is on at 127.0.0.1:8080; waiting for the next one",
        "run spring: the server would refuse (the run has begun without it)",
        "the server's run has no valid name; is the server started with --service?",
    ]
    assert server.joined == []


def test_hours_hold_for_the_begin_of_a_run_and_not_for_its_return(csv: Path, tmp_path: Path, server: Server) -> None:
    times = iter((NOON.replace(hour=19), NOON.replace(hour=20), NOON.replace(hour=20), NOON.replace(hour=7)))
    with made_client(csv, tmp_path, ServicePolicy(hours="20:00-06:00"), lambda: next(times)) as client:
        server.offers(run())
        server.end = ServerLostError("socket closed")
        assert [client.visit() for _ in range(3)] == [False, True, True]  # the last needs no clock
        server.offers(run("summer"))
        assert not client.visit()


def test_the_next_look_declines_the_run_with_the_reason_and_no_run_with_other_settings(
    csv: Path, tmp_path: Path, server: Server
) -> None:
    with made_client(csv, tmp_path, ServicePolicy(max_rounds=9)) as client:
        for rounds in (10, 10, 11, 9, 9):
            server.offers(run(rounds=rounds))
            client.visit()
        server.offers({})
        client.visit()
        told = [json.loads(line)["told"] for line in client.receipts.path.read_text().splitlines()]
    reason = "it has 10 rounds, the policy allows 9 (max-rounds)"
    assert server.declines == [None, reason, None, None, None, None]
    assert [each.get("declined-reason-bin", "") for each in told] == [
        "",
        reason,
        "it has 11 rounds, the policy allows 9 (max-rounds)",
        "",
    ]


def test_a_run_is_declined_at_once_and_the_pauses_grow_again(csv: Path, tmp_path: Path, server: Server) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            server.offers(run(rounds=10))
        if len(pauses) == 11:
            raise KeyboardInterrupt

    (tmp_path / "policy.toml").write_text("max-rounds = 9")
    with pytest.raises(KeyboardInterrupt):
        serve_file(ClientSettings(file=csv, receipts=tmp_path / "receipts"), tmp_path / "policy.toml", sleep)
    assert all(8 <= pause <= 12 for pause in pauses[6:8])
    assert [pause < 0.31 for pause in pauses[8:]] == [True, False, False]


def test_a_run_at_another_hour_is_not_declined(csv: Path, tmp_path: Path, server: Server) -> None:
    with made_client(csv, tmp_path, ServicePolicy(hours="20:00-06:00")) as client:
        server.offers(run())
        assert [client.visit(), client.visit()] == [False, False]
    assert server.declines == [None, None]


def test_one_split_for_all_runs_unless_the_policy_allows_another(csv: Path, tmp_path: Path, server: Server) -> None:
    with made_client(csv, tmp_path, ServicePolicy(splits=2)) as client:
        seeds = []
        for seed in (0, 1, 2, 0):
            server.offers(run(f"run-{seed}", seed=seed))
            seeds.append(client.visit())
    assert seeds == [True, True, False, True]


def test_each_run_has_its_own_number_in_the_receipts_and_its_own_models(
    csv: Path, tmp_path: Path, server: Server
) -> None:
    with made_client(csv, tmp_path, ServicePolicy()) as client:
        runs = []
        for name in ("spring", "spring", "summer"):
            server.offers(run(name))
            client.visit()
            message = SimpleNamespace(
                metadata=SimpleNamespace(message_type="train"),
                has_error=lambda: True,
                error=SimpleNamespace(code=0, reason=""),
            )
            client.receipts.write_message(message, b"")
            runs.append(client.receipts.path.read_text().splitlines()[-1].partition('"run":')[2][0])
        assert client.session.run_name == "summer"
    assert runs == ["1", "1", "2"]


def test_the_service_looks_at_the_server_through_the_proxy_of_the_flag(
    csv: Path, tmp_path: Path, server: Server
) -> None:
    with made_client(csv, tmp_path, ServicePolicy(), proxy="none") as client:
        client.visit()
    assert server.proxies == {"none"}


@pytest.mark.parametrize("policy", ["max-rounds = 'ten'", "max-rounds = [", None])
def test_a_faulty_policy_is_the_first_and_only_line(
    csv: Path, tmp_path: Path, policy: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.toml"
    if policy is not None:
        file.write_text(policy, encoding="utf-8")
    assert client.main([str(csv), "--service", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(file) in err
