"""The gRPC link on loopback, with toy hospitals: admission, replies and their order, and lost connections."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.common.errors import PROTOCOL_VIOLATION, RunError, UsageError
from fedhealth.data.sources.heart import HEART
from fedhealth.transport import messages, options
from fedhealth.transport.grpc import client, grid, server
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.retry import LONGEST_PAUSE, Attempt, ServerLostError, keep_trying
from tests.support.grpc_federation import Federation, double, make_app
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket
NAMES = ("cleveland", "hungary", "switzerland", "va")


@contextmanager
def federation(capacity: int = 4) -> Iterator[Federation]:
    started = Federation(capacity)
    with started.grid.listening("127.0.0.1:0") as started.address:
        yield started
    started.pool.shutdown(wait=True)


def test_replies_come_in_the_order_of_node_ids_whoever_joined_first() -> None:
    orders = []
    for names in (NAMES, NAMES[::-1]):
        with federation() as fed:
            futures = [fed.start(name, make_app(double)) for name in names]
            replies = fed.ask(fed.grid.get_node_ids())
            orders.append([reply.metadata.src_node_id for reply in replies])
            for reply in replies:
                np.testing.assert_array_equal(reply.content.array_records["arrays"]["w"].numpy(), [2, 2, 2])
        assert all(future.result(timeout=PATIENCE) is None for future in futures)
    assert orders[0] == orders[1] == sorted(messages.node_id_of(name) for name in NAMES)


def test_the_servers_settings_reach_every_hospital() -> None:
    with federation() as fed, join(fed.address, "va", {"data": "x.csv"}) as connection:
        assert dict(connection.context.run_config) == {"rounds": 2, "model": "mlp"}
        assert connection.context.node_config == {"data": "x.csv"}
        assert connection.context.node_id == messages.node_id_of("va")


@pytest.mark.parametrize("send", ["push_messages", "send_and_receive"])
def test_the_same_message_twice_is_an_error_and_the_link_goes_on(send: str) -> None:
    with federation() as fed:
        fed.start("va", make_app(double))
        node = messages.node_id_of("va")
        message = Message(RecordDict(), dst_node_id=node, message_type="train")
        with pytest.raises(ValueError, match="the same Message object occurs twice"):
            getattr(fed.grid, send)([message, message])
        assert not fed.ask((node, node))[0].has_error()


def test_a_message_with_a_time_to_live_is_an_error() -> None:
    with federation() as fed:
        fed.start("va", make_app(double))
        node = messages.node_id_of("va")
        with pytest.raises(ValueError, match=r"ttl=2\.5, which is not supported; leave ttl out, and give .* a timeout"):
            fed.grid.push_messages([Message(RecordDict(), dst_node_id=node, message_type="train", ttl=2.5)])
        assert not fed.ask((node,))[0].has_error()


def test_an_apps_state_is_kept_when_a_hospital_joins_the_same_run_again() -> None:
    with federation() as fed:
        with join(fed.address, "va", {}) as connection:
            first = connection.context
            first.state["count"] = MetricRecord({"rounds": 2})
        fed.wait_for("left", "va")
        with join(fed.address, "va", {}, previous=first) as connection:
            assert connection.context.state["count"] == MetricRecord({"rounds": 2})
        fed.wait_for("left", "va", 2)
        with join(fed.address, "va", {}) as connection:
            assert len(connection.context.state) == 0
        first.run_config["rounds"] = 3
        fed.wait_for("left", "va", 3)
        with join(fed.address, "va", {}, previous=first) as connection:  # another run
            assert len(connection.context.state) == 0


def test_names_may_contain_any_letters() -> None:
    with federation() as fed:
        fed.start("Universitätsspital Zürich 病院", make_app(double))
        assert fed.grid.get_node_ids() == (messages.node_id_of("Universitätsspital Zürich 病院"),)


def test_a_second_hospital_of_one_name_is_refused_and_the_first_continues() -> None:
    with federation() as fed:
        fed.start("va", make_app(double))
        with pytest.raises(UsageError, match="named va is already connected; give this one another --name"):
            fed.start("va", make_app(double)).result(timeout=PATIENCE)
        assert len(fed.ask(fed.grid.get_node_ids())) == 1


def test_a_second_hospital_whose_name_differs_only_in_case_is_refused_by_the_name_of_the_first() -> None:
    with federation() as fed:
        fed.start("Zürich VA", make_app(double))
        expected = (
            "named Zürich VA is already connected, and zürich va differs from it only in case; give this one another"
        )
        with pytest.raises(UsageError, match=expected), join(fed.address, "zürich va", {}):
            pass
        assert len(fed.ask(fed.grid.get_node_ids())) == 1


def test_one_hospital_too_many_is_refused() -> None:
    with federation(capacity=1) as fed:
        fed.start("va", make_app(double))
        with (
            pytest.raises(UsageError, match="all 1 places are taken"),
            join(fed.address, "hungary", {}),
        ):
            pass
        fed.wait_for("refused", "all 1 places are taken")


def test_a_client_with_another_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation() as fed:
        monkeypatch.setattr(client, "agreement", lambda schema: {"protocol": messages.PROTOCOL, "schema": "0ld5chema"})
        with (
            pytest.raises(UsageError, match="the columns stand in another order; use the coordinator"),
            join(fed.address, "va", {}),
        ):
            pass
        assert fed.grid.get_node_ids() == ()


def test_once_the_run_has_begun_no_new_hospital_can_replace_one_that_left() -> None:
    with federation() as fed:
        with join(fed.address, "va", {}):
            fed.wait_for("joined", "va")
            fed.grid.admit_only(["va", "hungary"])
        fed.wait_for("left", "va")
        with pytest.raises(UsageError, match="the run has started without stranger"), join(fed.address, "stranger", {}):
            pass
        with join(fed.address, "va", {}):
            pass


def test_a_name_with_control_characters_is_refused() -> None:
    for name in ("\x1b[31mred", "two\nlines", "x" * 101, " "):
        with federation() as fed, pytest.raises(UsageError, match="printable characters"), join(fed.address, name, {}):
            pass


def test_messages_may_be_pushed_now_and_pulled_later() -> None:
    with federation() as fed:
        fed.start("va", make_app(double))
        content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(3, dtype=np.float32))})})
        node = fed.grid.get_node_ids()[0]
        ids = fed.grid.push_messages([Message(content, dst_node_id=node, message_type="train")])
        fed.ask((node,))  # replies come in order, so the pushed one has come, too
        (reply,) = fed.grid.pull_messages(ids)
        assert reply.metadata.reply_to_message_id == ids[0]
        assert fed.grid.pull_messages(ids) == []


def test_no_messages_means_no_waiting() -> None:
    with federation() as fed:
        assert fed.ask((), timeout=None) == []


def test_a_hospital_whose_app_fails_gives_an_error_reply_and_stays() -> None:
    def fail(message: Message, context: Context) -> RecordDict:
        raise ValueError("row 3: age is 71")

    with federation() as fed:
        fed.start("va", make_app(fail))
        fed.start("hungary", make_app(double))
        replies = {reply.metadata.src_node_id: reply for reply in fed.ask(fed.grid.get_node_ids())}
        failed = replies[messages.node_id_of("va")]
        assert failed.has_error()
        assert "71" not in str(failed.error.reason)
        assert not replies[messages.node_id_of("hungary")].has_error()
        assert len(fed.grid.get_node_ids()) == 2


def test_a_hospital_that_leaves_before_it_replies_gives_an_error_reply_at_once() -> None:
    asked = threading.Event()
    with federation() as fed:
        fed.start("hungary", make_app(double))

        def leave() -> None:
            with join(fed.address, "va", {}) as connection:
                next(connection._stream)
                asked.set()

        leaving = fed.pool.submit(leave)
        fed.wait_for("joined", "va")
        replies = fed.ask(fed.grid.get_node_ids(), timeout=None)
        leaving.result(timeout=PATIENCE)
        assert asked.is_set()
        reasons = {reply.metadata.src_node_id: reply.error.reason for reply in replies if reply.has_error()}
        assert reasons == {messages.node_id_of("va"): "left the federation"}
        fed.wait_for("left", "va")
        assert fed.grid.get_node_ids() == (messages.node_id_of("hungary"),)


def test_a_hospital_that_left_may_come_back_under_its_name() -> None:
    with federation() as fed:
        with join(fed.address, "va", {}):
            fed.wait_for("joined", "va")
        fed.wait_for("left", "va")
        fed.start("va", make_app(double))
        fed.wait_for("joined", "va", count=2)
        assert not fed.ask(fed.grid.get_node_ids())[0].has_error()


def test_a_hospital_that_does_not_reply_in_time_gives_an_error_reply() -> None:
    release = threading.Event()

    def wait(message: Message, context: Context) -> RecordDict:
        release.wait(PATIENCE)
        return double(message, context)

    with federation() as fed:
        fed.start("va", make_app(wait))
        (reply,) = fed.ask(fed.grid.get_node_ids(), timeout=0.05)
        assert reply.error.reason == "no reply within 0.05 s"
        assert fed.grid.get_node_ids() == ()
        release.set()
        # The late reply belongs to no pending message; until it has come, the hospital gets no further message.
        fed.wait_for("late", "va")
        (reply,) = fed.ask(fed.grid.get_node_ids())
        np.testing.assert_array_equal(reply.content.array_records["arrays"]["w"].numpy(), [2, 2, 2])


def test_a_message_to_an_absent_hospital_gives_an_error_reply() -> None:
    with federation() as fed:
        (reply,) = fed.ask((messages.node_id_of("nobody"),), timeout=None)
        assert reply.error.reason == "not connected"


def test_when_the_run_fails_the_reason_is_sent_to_the_hospitals() -> None:
    fed = Federation()
    with pytest.raises(RunError, match="too few"), fed.grid.listening("127.0.0.1:0") as fed.address:
        future = fed.start("va", make_app(double))
        raise RunError("too few hospitals")
    with pytest.raises(RunError, match="the server ended the run: too few hospitals"):
        future.result(timeout=PATIENCE)


def test_an_unknown_client_that_sends_garbage_is_refused_and_the_others_continue() -> None:
    with federation() as fed:
        fed.start("hungary", make_app(double))
        with grpc.insecure_channel(fed.address) as channel:
            metadata = [*messages.agreement(HEART).items(), ("hospital-bin", b"stranger")]
            stream = channel.stream_stream(messages.METHOD)(iter([b"\xff garbage"]), metadata=metadata)
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        fed.wait_for("refused", "stranger: not a Flower message")
        assert len(fed.ask(fed.grid.get_node_ids())) == 1


def test_a_hospital_cannot_reply_for_another() -> None:
    with federation() as fed:
        forged = threading.Event()

        def forge(message: Message, context: Context) -> RecordDict:
            # Reply to hungary's message (ids are numbers in sequence) with our own weights first.
            reply = Message(double(message, context), reply_to=message)
            reply.metadata.__dict__["_reply_to_message_id"] = str(int(message.metadata.message_id) + 1)
            outboxes["va"].put([messages.encode_message(reply)])
            forged.set()
            return double(message, context)

        def honest(message: Message, context: Context) -> RecordDict:
            forged.wait(PATIENCE)
            return RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(3, dtype=np.float32))})})

        outboxes = {}

        def run(name: str, app: ClientApp) -> None:
            with join(fed.address, name, {"name": name}) as connection:
                outboxes[name] = connection._outbox
                connection.serve(app, on_reply=lambda message, reply: None, on_failure=lambda error: None)

        fed.pool.submit(run, "va", make_app(forge))
        fed.pool.submit(run, "hungary", make_app(honest))
        fed.wait_for("joined", "va")
        fed.wait_for("joined", "hungary")
        va, hungary = messages.node_id_of("va"), messages.node_id_of("hungary")
        replies = {reply.metadata.src_node_id: reply for reply in fed.ask((va, hungary))}
        np.testing.assert_array_equal(replies[hungary].content.array_records["arrays"]["w"].numpy(), [0, 0, 0])


def test_a_busy_port_is_one_clear_line() -> None:
    with federation() as fed:
        second = GrpcGrid({}, 1, lambda what, who: None)
        with (
            pytest.raises(UsageError, match=f"cannot listen on {fed.address}: .*another one with --address"),
            second.listening(fed.address),
        ):
            pass


def test_nobody_at_the_port_is_a_lost_server() -> None:
    with pytest.raises(ServerLostError), join("127.0.0.1:9", "va", {}):
        pass


def test_another_program_at_the_port_is_reported_as_no_federation_server() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(UsageError, match="not a federation server"), join(f"127.0.0.1:{port}", "va", {}):
            pass
    finally:
        server.stop(None)


def test_another_grpc_server_is_reported_as_no_federation_server() -> None:
    def nonsense(requests: object, context: object) -> Iterator[bytes]:
        yield b"\xff garbage"

    server = grpc.server(ThreadPoolExecutor(1))
    service, method = messages.METHOD.strip("/").split("/")
    handlers = {method: grpc.stream_stream_rpc_method_handler(nonsense)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(UsageError, match="not a federation server"), join(f"127.0.0.1:{port}", "va", {}):
            pass
    finally:
        server.stop(None)


def test_retries_pause_longer_each_time_and_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    pauses: list[tuple[int, float, float, str]] = []

    def nobody(attempt: Attempt) -> None:
        raise ServerLostError("nobody there")

    with pytest.raises(
        RunError, match=r"no connection to host:1 within 60 s \(\d+ attempts; nobody there\); start the server"
    ):
        keep_trying(nobody, "host:1", max_wait=60, on_pause=lambda *args: pauses.append(args))
    assert [attempts for attempts, _, _, _ in pauses] == list(range(1, len(pauses) + 1))
    assert pauses[0][1] < 0.5 < pauses[3][1] <= LONGEST_PAUSE * 1.2
    assert clock[0] == pytest.approx(60)


def test_after_a_lost_connection_the_waiting_time_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    hours = iter([3600.0, 3600.0])

    def lose_server(attempt: Attempt) -> None:
        if (worked := next(hours, None)) is None:
            return
        attempt.joined = True
        clock[0] += worked
        raise ServerLostError("gone")

    keep_trying(lose_server, "host:1", max_wait=5, on_pause=lambda *args: None)
    assert clock[0] > 7200


# --- clients that violate the protocol, reply late or twice, and a listener that fails -----------------------------------

OPEN_ENDED = 30
"""Seconds after which a test that waits for an event has failed."""


def forge(reply: Message, **metadata: object) -> bytes:
    """A reply with other metadata than honest ones have."""
    for key, value in metadata.items():
        reply.metadata.__dict__[f"_{key}"] = value
    return messages.encode_message(reply)


def cheat(fed: Federation, name: str, answer: Callable[[Message], list[bytes]]) -> "Future[grpc.StatusCode]":
    """A hospital that replies to its first message with any bytes; returns the status of its stream."""

    def run() -> grpc.StatusCode:
        with join(fed.address, name, {}) as connection:
            question = messages.decode_message(next(connection._stream))
            for payload in answer(question):
                connection._outbox.put([payload])
            with pytest.raises(grpc.RpcError):
                list(connection._stream)
            return connection._stream.code()

    future = fed.pool.submit(run)
    fed.wait_for("joined", name)
    return future


def honest_reply(question: Message) -> Message:
    return Message(RecordDict(), reply_to=question)


LIES: dict[str, tuple[Callable[[Message], bytes], str]] = {
    "another's name": (
        lambda question: forge(honest_reply(question), src_node_id=messages.node_id_of("hungary")),
        "it replied under another hospital's node id",
    ),
    "another's question": (
        lambda question: forge(honest_reply(question), reply_to_message_id=str(int(question.metadata.message_id) + 1)),
        "it replied to another hospital's message",
    ),
    "another type": (
        lambda question: forge(honest_reply(question), message_type="evaluate"),
        "its reply to train is of another type",
    ),
    "garbage": (lambda question: b"\xff\xff", "not a Flower message (DecodeError)"),
    "nothing": (lambda question: b"", "not a Flower message (ValueError)"),
    "too much": (lambda question: b"x" * 5001, "it sent a message of 5001 bytes; the maximum is 5000"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_hospital_that_violates_the_protocol_is_disconnected_and_the_others_continue(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "MAX_FRAME_BYTES", 5000)
    answer, reason = LIES[lie]
    with federation() as fed:

        def double_later(message: Message, context: Context) -> RecordDict:
            fed.wait_for("refused", "va")
            return double(message, context)

        fed.start("hungary", make_app(double_later))
        ended = cheat(fed, "va", lambda question: [answer(question), messages.encode_message(honest_reply(question))])
        va, hungary = messages.node_id_of("va"), messages.node_id_of("hungary")
        replies = {reply.metadata.src_node_id: reply for reply in fed.ask((va, hungary), timeout=None)}
        assert (replies[va].error.code, replies[va].error.reason) == (
            PROTOCOL_VIOLATION,
            f"violated the protocol: {reason}",
        )
        assert not replies[hungary].has_error()
        assert fed.grid.get_node_ids() == (hungary,)
        assert ended.result(OPEN_ENDED) == grpc.StatusCode.INVALID_ARGUMENT
        assert [change for change in fed.changes if change[0] == "refused"] == [("refused", f"va: {reason}")]
        assert not fed.ask((hungary,))[0].has_error()


def test_a_repeated_reply_is_ignored() -> None:
    with federation() as fed:
        again = threading.Event()

        def answer_and_repeat() -> None:
            said: list[bytes] = []
            with join(fed.address, "va", {}) as connection:
                for value in (1, 2):
                    question = messages.decode_message(next(connection._stream))
                    content = RecordDict({"metrics": MetricRecord({"value": value})})
                    said.append(messages.encode_message(Message(content, reply_to=question)))
                    for payload in said:  # the second time, the first reply comes first again
                        connection._outbox.put([payload])
                again.wait(OPEN_ENDED)

        leaving = fed.pool.submit(answer_and_repeat)
        fed.wait_for("joined", "va")
        values = [fed.ask(fed.grid.get_node_ids())[0].content.metric_records["metrics"]["value"] for _ in range(2)]
        assert values == [1, 2]
        assert fed.grid.get_node_ids() == (messages.node_id_of("va"),)
        assert [what for what, _ in fed.changes] == ["joined"]
        again.set()
        leaving.result(OPEN_ENDED)


def test_a_late_hospital_gets_no_message_until_its_late_reply_has_come() -> None:
    release = threading.Event()

    def wait(message: Message, context: Context) -> RecordDict:
        release.wait(OPEN_ENDED)
        return double(message, context)

    va, hungary = messages.node_id_of("va"), messages.node_id_of("hungary")
    with federation() as fed:
        fed.start("va", make_app(wait))
        fed.start("hungary", make_app(double))
        assert set(fed.grid.get_node_ids()) == {va, hungary}
        replies = {reply.metadata.src_node_id: reply for reply in fed.ask((va, hungary), timeout=0.2)}
        assert (replies[va].error.code, replies[va].error.reason) == (messages.ABSENT, "no reply within 0.2 s")
        assert not replies[hungary].has_error()
        for _ in range(3):
            assert fed.grid.get_node_ids() == (hungary,)
            assert not fed.ask(fed.grid.get_node_ids())[0].has_error()
        release.set()
        fed.wait_for("late", "va")
        assert set(fed.grid.get_node_ids()) == {va, hungary}
        assert not any(reply.has_error() for reply in fed.ask(fed.grid.get_node_ids()))


def test_replies_of_others_do_not_prolong_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    release, elapsed, waits = threading.Event(), [0.0], []

    def wait(message: Message, context: Context) -> RecordDict:
        release.wait(OPEN_ENDED)
        return double(message, context)

    def take(arrived: Any, seconds: float | None) -> object:
        waits.append(seconds)
        elapsed[0] += 20  # which hungary took
        return original(arrived, seconds)

    original = grid._take
    monkeypatch.setattr(grid, "time", SimpleNamespace(monotonic=lambda: elapsed[0]))
    monkeypatch.setattr(grid, "_take", take)
    with federation() as fed:
        fed.start("va", make_app(wait))
        fed.start("hungary", make_app(double))
        hungary, va = sorted(fed.ask(fed.grid.get_node_ids()), key=Message.has_error)
        release.set()
        fed.wait_for("late", "va")
    assert not hungary.has_error()
    assert va.error.reason == "no reply within 20 s"
    assert waits == [10, None], "there is no second wait"


def test_a_hospital_that_left_owing_a_reply_owes_none_when_it_comes_back() -> None:
    with federation() as fed:
        with join(fed.address, "va", {}):
            fed.wait_for("joined", "va")
            assert fed.ask(fed.grid.get_node_ids(), timeout=0.01)[0].has_error()
            assert fed.grid.get_node_ids() == ()
        fed.wait_for("left", "va")
        fed.start("va", make_app(double))
        fed.wait_for("joined", "va", count=2)
        assert not fed.ask(fed.grid.get_node_ids())[0].has_error()


def test_the_server_reports_whose_reply_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "REMIND_SECONDS", 0.02)
    with federation() as fed:

        def alone() -> bool:
            return any(what == "awaited" and who.startswith("va (") for what, who in fed.changes)

        def answer_when_awaited_alone(message: Message, context: Context) -> RecordDict:
            with fed.changed:
                assert fed.changed.wait_for(alone, OPEN_ENDED)
            return double(message, context)

        fed.start("va", make_app(answer_when_awaited_alone))
        fed.start("hungary", make_app(double))
        assert not any(reply.has_error() for reply in fed.ask(fed.grid.get_node_ids(), timeout=None))
        assert {who.rpartition(" (")[0] for what, who in fed.changes if what == "awaited"} <= {"va", "hungary, va"}


def test_a_host_that_is_refused_again_for_the_same_reason_is_not_reported_again_so_soon() -> None:
    with federation(capacity=1) as fed, join(fed.address, "hungary", {}):
        for name in ("va", "va", "a\nb", "va"):
            with pytest.raises(UsageError), join(fed.address, name, {}):
                pass
        reasons = [who.partition(": ")[2] for what, who in fed.changes if what == "refused"]
    assert [reason.partition(";")[0] for reason in reasons] == [
        "all 1 places are taken",
        "give --name a name of 1 to 100 printable characters",
    ]


def test_a_listener_that_fails_ends_no_stream_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with federation(capacity=2) as fed:
        fed.failure = BrokenPipeError()
        for count in (1, 2, 3):
            with join(fed.address, "va", {}):
                fed.wait_for("joined", "va", count)
            fed.wait_for("left", "va", count)
        fed.start("va", make_app(double))
        fed.start("hungary", make_app(double))
        with pytest.raises(UsageError, match="all 2 places are taken"), join(fed.address, "cleveland", {}):
            pass
        fed.wait_for("refused", "all 2 places are taken")
        assert [reply.has_error() for reply in fed.ask(fed.grid.get_node_ids())] == [False, False]
    assert "va joined was not reported (BrokenPipeError)" in caplog.text


def test_an_expelled_hospital_gets_the_reason_and_is_refused_from_then_on() -> None:
    with federation() as fed:
        asked, release = threading.Event(), threading.Event()

        def wait(message: Message, context: Context) -> RecordDict:
            asked.set()
            release.wait(OPEN_ENDED)
            return double(message, context)

        shown_out = fed.start("va", make_app(wait))
        fed.start("hungary", make_app(double))
        question = fed.pool.submit(fed.ask, fed.grid.get_node_ids(), None)
        assert asked.wait(OPEN_ENDED)
        fed.grid.expel("va", "its weights are not finite")
        replies = {reply.metadata.src_node_id: reply for reply in question.result(OPEN_ENDED)}
        assert replies[messages.node_id_of("va")].error.reason == "left the federation"
        assert not replies[messages.node_id_of("hungary")].has_error()
        release.set()
        why = "va takes no part in this run: its weights are not finite"
        with pytest.raises(RunError, match=f"^{why}$"):
            shown_out.result(OPEN_ENDED)
        with pytest.raises(UsageError, match=f"the server refused: {why}"), join(fed.address, "va", {}):
            pass
        fed.wait_for("refused", "va takes no part in this run")
        assert fed.grid.get_node_ids() == (messages.node_id_of("hungary"),)


def test_a_message_above_the_maximum_size_is_one_line_at_the_hospital(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation() as fed:
        monkeypatch.setattr(options, "MAX_MESSAGE_BYTES", 1000)

        def too_much(message: Message, context: Context) -> RecordDict:
            return RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(1000, dtype=np.float32))})})

        future = fed.start("va", make_app(too_much))
        fed.ask(fed.grid.get_node_ids(), timeout=None)
        with pytest.raises(UsageError, match=r"larger than the maximum \(.*\); use a smaller model"):
            future.result(OPEN_ENDED)


def test_more_calls_than_the_server_accepts_are_told_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SPARE_CALLS", 0)
    with federation(capacity=1) as fed:
        fed.start("va", make_app(double))
        with (
            pytest.raises(ServerLostError, match="too many connections at the moment"),
            join(fed.address, "hungary", {}),
        ):
            pass


def test_a_silent_port_takes_no_longer_than_the_attempts_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        started = time.monotonic()
        with (
            pytest.raises(ServerLostError, match=r"it did not reply within 0\.3 s"),
            join(address, "va", {}, attempt=Attempt(0.3)),
        ):
            pass
        assert time.monotonic() - started < 3
