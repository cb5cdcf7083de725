"""One port for many runs: between them nobody is admitted, and everybody may come back."""

import threading
from collections.abc import Iterator

import pytest

from fedhealth.common.errors import RunError
from fedhealth.data.sources.heart import HEART
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.declining import decline_metadata, read_decline
from fedhealth.transport.grpc.preflight import check_server
from fedhealth.transport.grpc.retry import ServerLostError
from fedhealth.transport.grpc.service import ServiceGrid
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket


class Runs:
    """A listening grid, and who joined or left."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.joined = threading.Event()
        self.grid = ServiceGrid(4, self.hear)
        self.address = ""

    def hear(self, what: str, who: str) -> None:
        self.changes.append((what, who))
        if what == "joined":
            self.joined.set()


@pytest.fixture
def runs() -> Iterator[Runs]:
    started = Runs()
    with started.grid.listening("127.0.0.1:0") as started.address:
        yield started


def take_part(address: str, ends: list[object]) -> threading.Thread:
    """A hospital on a thread; how its run ended is appended to `ends`."""

    def serve() -> None:
        try:
            with join(address, "lakeside", {}) as connection:
                run = connection.context.run_config["run"]
                connection.serve(lambda message, context: message, lambda *_: None, lambda error: None)
                ends.append(run)
        except RunError as error:
            ends.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_between_runs_nobody_joins_and_the_server_counts_as_away(runs: Runs) -> None:
    with pytest.raises(ServerLostError, match="no run is on; come back later"), join(runs.address, "lakeside", {}):
        pass
    answer = check_server(runs.address, "lakeside")
    assert (answer.run_config, answer.refusal) == ({}, "no run is on; come back later")
    assert runs.changes == []


def test_one_hospital_takes_part_in_two_runs_over_one_port(runs: Runs) -> None:
    ends: list[object] = []
    for name in ("first", "second"):
        runs.joined.clear()
        with runs.grid.running({"run": name}, 1, runs.hear, HEART):
            assert check_server(runs.address, "lakeside").run_config == {"run": name}
            thread = take_part(runs.address, ends)
            assert runs.joined.wait(PATIENCE)
            assert len(runs.grid.get_node_ids()) == 1
        assert runs.grid.get_node_ids() == ()
        thread.join()
    assert ends == ["first", "second"]
    assert runs.changes == [("joined", "lakeside")] * 2


def test_a_run_that_fails_is_sent_its_reason_and_the_port_stays(runs: Runs) -> None:
    ends: list[object] = []
    with pytest.raises(RunError), runs.grid.running({"run": "first"}, 1, runs.hear, HEART):
        thread = take_part(runs.address, ends)
        assert runs.joined.wait(PATIENCE)
        raise RunError("too few hospitals")
    thread.join()
    assert ends == ["the server ended the run: too few hospitals"]
    assert check_server(runs.address, "lakeside").run_config == {}


def test_each_run_has_its_own_list_and_members(runs: Runs) -> None:
    with runs.grid.running({"run": "first"}, 1, runs.hear, HEART, allow=("hillside",)):
        assert "not on the server's list" in str(check_server(runs.address, "lakeside").refusal)
        assert check_server(runs.address, "hillside").refusal is None
    with runs.grid.running({"run": "second"}, 2, runs.hear, HEART, members=["lakeside"]):
        assert (
            check_server(runs.address, "hillside").refusal
            == "the run has started without hillside; wait for the next run"
        )
        assert check_server(runs.address, "lakeside").refusal is None


def test_a_hospital_declines_the_run_that_is_on_and_may_join_it_later(runs: Runs) -> None:
    settings = {"run": "first", "rounds": 9}
    with runs.grid.running(settings, 2, runs.hear, HEART, allow=("lakeside", "hillside")):
        for config in ({**settings, "rounds": 8}, settings, settings):
            check_server(runs.address, "lakeside", decline=decline_metadata(config, "too many\nrounds"))
        assert runs.grid.declined() == {"lakeside": "too many\\nrounds"}
        assert runs.changes == [("declined", "lakeside: too many\\nrounds")]
        thread = take_part(runs.address, [])
        assert runs.joined.wait(PATIENCE)
        check_server(runs.address, "hillside", decline=decline_metadata(settings, "no"))
        assert runs.grid.declined() == {"hillside": "no"}
    thread.join()
    with runs.grid.running(settings, 1, runs.hear, HEART, allow=("lakeside",)):
        assert runs.grid.declined() == {}
        check_server(runs.address, "hillside", decline=decline_metadata(settings, "not on the list"))
        assert runs.grid.declined() == {}


def test_a_decline_without_its_reason_or_with_another_type_is_none() -> None:
    whole = decline_metadata({"run": "first"}, "no")
    assert read_decline(whole, {"run": "first"}) == "no"
    for part in ({}, {"declined-run": whole["declined-run"]}, {**whole, "declined-reason-bin": "no"}):
        assert read_decline(part, {"run": "first"}) is None
