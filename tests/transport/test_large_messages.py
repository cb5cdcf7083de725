"""Large messages over the real link: in chunks, a few at a time, and a hospital that stalls or leaves holds up nobody."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict

from fedhealth.transport import messages
from fedhealth.transport.frames import CHUNK_BYTES, begins_transfer, encode_all, read_head
from fedhealth.transport.grpc import receiving, server
from fedhealth.transport.grpc.client import Connection, join
from tests.support.grpc_federation import Federation, double, make_app
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket
LARGE = np.arange(CHUNK_BYTES, dtype=np.float32)
"""Four chunks."""
NAMES = ("cleveland", "hungary", "va")


@contextmanager
def federation(monkeypatch: pytest.MonkeyPatch, most_held: int = 1) -> Iterator[Federation]:
    """A federation whose server holds so many bytes of large replies; with 1 it receives one after the other."""
    monkeypatch.setattr(server, "MOST_HELD_BYTES", most_held)
    started = Federation()
    with started.grid.listening("127.0.0.1:0") as started.address:
        yield started
    started.pool.shutdown(wait=True)


def requests(names: Sequence[str]) -> list[Message]:
    content = RecordDict({"arrays": ArrayRecord({"w": Array(LARGE)})})
    return [Message(content, dst_node_id=messages.node_id_of(name), message_type="train") for name in names]


def weights_of(reply: Message) -> np.ndarray:
    values: np.ndarray = reply.content.array_records["arrays"]["w"].numpy()
    return values


def ask(fed: Federation, names: Sequence[str]) -> dict[str | None, Message]:
    replies = fed.grid.send_and_receive(requests(names))
    return {fed.grid.name_of(reply.metadata.src_node_id): reply for reply in replies}


def read_request(connection: Connection) -> Message:
    """The next message, which is large."""
    head = next(connection._stream)
    assert begins_transfer(head)
    lengths, message = read_head(head)
    missing = sum(lengths)
    while missing:
        missing -= len(next(connection._stream))
    return messages.decode_message(message)


def large_reply(request: Message) -> list[bytes]:
    reply = Message(RecordDict({"arrays": ArrayRecord({"w": Array(LARGE * 3)})}), reply_to=request)
    (encoded,) = encode_all([reply])
    return list(encoded.frames())


@pytest.mark.parametrize("most_held", [1, 2 * LARGE.nbytes, 100 * LARGE.nbytes])
def test_large_weights_go_there_and_back_however_few_replies_may_be_held(
    most_held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with federation(monkeypatch, most_held) as fed:
        for name in NAMES:
            fed.start(name, make_app(double))
        for _ in range(2):
            replies = ask(fed, NAMES)
            assert list(replies) == sorted(NAMES, key=messages.node_id_of)
            for reply in replies.values():
                np.testing.assert_array_equal(weights_of(reply), LARGE * 2)


def test_pushed_messages_get_all_their_large_replies_although_nobody_pulls_them_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with federation(monkeypatch) as fed:
        for name in NAMES:
            fed.start(name, make_app(double))
        ids = fed.grid.push_messages(requests(NAMES))
        ask(fed, NAMES)  # replies come in order, so the pushed ones have come, too
        assert len(fed.grid.pull_messages(ids)) == 3


def test_a_caller_that_takes_no_more_replies_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation(monkeypatch) as fed:
        for name in NAMES:
            fed.start(name, make_app(double))
        replies = iter(fed.grid.receive_each(requests(NAMES)))
        next(replies)
        del replies
        assert not any(reply.has_error() for reply in ask(fed, NAMES).values())


def test_small_replies_do_not_wait_for_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = threading.Event()

    def count(message: Message, context: Context) -> RecordDict:
        return RecordDict({"metrics": MetricRecord({"count": 1})})

    with federation(monkeypatch) as fed:
        stalling = stall(fed, "va", rest)
        fed.start("hungary", make_app(count))
        replies = iter(fed.grid.receive_each(requests(("va", "hungary"))))
        assert next(replies).content.metric_records["metrics"]["count"] == 1
        rest.set()
        np.testing.assert_array_equal(weights_of(next(replies)), LARGE * 3)
    stalling.result(PATIENCE)


def stall(fed: Federation, name: str, rest: threading.Event) -> "Future[None]":
    """A hospital that sends the rest of its reply only after `rest`."""

    def run() -> None:
        with join(fed.address, name, {}) as connection:
            head, first, *others = large_reply(read_request(connection))
            connection._outbox.put([head, first])
            assert rest.wait(PATIENCE)
            connection._outbox.put(others)
            assert next(connection._stream, None) is None

    future = fed.pool.submit(run)
    fed.wait_for("joined", name)
    return future


def test_a_hospital_that_stalls_within_its_reply_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "LONGEST_TRANSFER_SECONDS", 0.05)
    rest = threading.Event()
    with federation(monkeypatch) as fed:
        stalling = stall(fed, "va", rest)
        for name in ("cleveland", "hungary"):
            fed.start(name, make_app(double))
        replies = iter(fed.grid.receive_each(requests(NAMES)))
        for reply in (next(replies), next(replies)):
            np.testing.assert_array_equal(weights_of(reply), LARGE * 2)
        rest.set()
        np.testing.assert_array_equal(weights_of(next(replies)), LARGE * 3)
    stalling.result(PATIENCE)


def test_the_timeout_ends_a_round_in_which_a_hospital_stalls_within_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = threading.Event()
    with federation(monkeypatch) as fed:
        stalling = stall(fed, "va", rest)
        (reply,) = fed.grid.send_and_receive(requests(("va",)), timeout=0.05)
        assert reply.error.reason == "no reply within 0.05 s"
        assert fed.grid.get_node_ids() == ()
        rest.set()
        fed.wait_for("late", "va")
        fed.start("hungary", make_app(double))
        np.testing.assert_array_equal(weights_of(ask(fed, ("hungary",))["hungary"]), LARGE * 2)
    stalling.result(PATIENCE)


def test_a_hospital_whose_connection_breaks_within_its_reply_gives_an_error_and_can_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leave() -> None:
        with join(fed.address, "va", {}) as connection:
            connection._outbox.put(large_reply(read_request(connection))[:3])

    with federation(monkeypatch) as fed:
        leaving = fed.pool.submit(leave)
        fed.wait_for("joined", "va")
        fed.start("hungary", make_app(double))
        replies = ask(fed, ("va", "hungary"))
        assert (replies["va"].error.code, replies["va"].error.reason) == (messages.ABSENT, "left the federation")
        assert not replies["hungary"].has_error()
        leaving.result(PATIENCE)
        fed.start("va", make_app(double))
        fed.wait_for("joined", "va", count=2)
        assert not any(reply.has_error() for reply in ask(fed, ("va", "hungary")).values())
        assert [who for what, who in fed.changes if what == "refused"] == []


def test_a_run_that_ends_within_a_message_to_a_hospital_reports_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def read_half() -> grpc.StatusCode:
        with join(fed.address, "va", {}) as connection:
            next(connection._stream)
            assert ended.wait(PATIENCE)
            with pytest.raises(grpc.RpcError):
                list(connection._stream)
            return connection._stream.code()

    with federation(monkeypatch) as fed:
        half = fed.pool.submit(read_half)
        fed.wait_for("joined", "va")
        huge = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(40 * CHUNK_BYTES // 4, np.float32))})})
        fed.grid.push_messages([Message(huge, dst_node_id=messages.node_id_of("va"), message_type="train")])
        fed.grid.expel("va", "its weights are not finite")
        ended.set()
        assert half.result(PATIENCE) == grpc.StatusCode.PERMISSION_DENIED
