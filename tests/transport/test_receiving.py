"""The bytes of large replies that a server holds: others wait in order, and a hospital that stalls or leaves holds none."""

import asyncio
from collections.abc import Iterable

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict

from fedhealth.transport import messages
from fedhealth.transport.frames import CHUNK_BYTES, encode_all
from fedhealth.transport.grpc import receiving
from fedhealth.transport.grpc.receiving import ByteBudget, Lease, Received, read_message

FOR_EVER = 3600.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "LONGEST_TRANSFER_SECONDS", FOR_EVER)


class Stream:
    """A hospital's stream; without another frame it waits for ever."""

    def __init__(self, frames: Iterable[object]) -> None:
        self.frames = list(frames)

    async def read(self) -> object:
        await asyncio.sleep(0)
        return self.frames.pop(0) if self.frames else await asyncio.Future()


messages.set_identity(messages.SERVER_NODE_ID)


def frames(num_values: int) -> list[bytes]:
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(num_values, np.float32))})})
    (encoded,) = encode_all([Message(content, dst_node_id=5, message_type="train")])
    return list(encoded.frames())


SMALL, LARGE = frames(10), frames(CHUNK_BYTES)
LARGE_BYTES = sum(map(len, LARGE))


async def settle() -> None:
    """Let every coroutine go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


def reading(budget: ByteBudget, sent: Iterable[object]) -> "asyncio.Task[Received | None]":
    return asyncio.ensure_future(read_message(Stream(sent), budget))


def test_a_large_reply_waits_until_another_one_is_released_and_small_ones_do_not_wait() -> None:
    async def run() -> None:
        budget = ByteBudget(LARGE_BYTES)
        first, second, small = (reading(budget, each) for each in (LARGE, LARGE, SMALL))
        await settle()
        assert [each.done() for each in (first, second, small)] == [True, False, True]
        first.result().release()
        await settle()
        assert second.result().reply.message().content == first.result().reply.message().content

    asyncio.run(run())


def test_those_that_wait_get_their_turn_in_the_order_in_which_they_came() -> None:
    async def run() -> None:
        budget = ByteBudget(10)
        leases = [asyncio.ensure_future(budget.lease(size)) for size in (10, 9, 1, 1)]
        await settle()
        assert [each.done() for each in leases] == [True, False, False, False]
        leases[0].result().release()
        leases[0].result().release()  # once more has no effect
        await settle()
        assert [each.done() for each in leases] == [True, True, True, False]

    asyncio.run(run())


def test_a_reply_larger_than_all_that_may_be_held_is_received_alone() -> None:
    async def run() -> None:
        budget = ByteBudget(1)
        first, second = reading(budget, LARGE), reading(budget, LARGE)
        await settle()
        assert (first.done(), second.done()) == (True, False)

    asyncio.run(run())


def test_a_hospital_that_leaves_while_it_waits_or_sends_holds_nothing() -> None:
    async def run() -> None:
        budget = ByteBudget(LARGE_BYTES)
        sending, waiting, next_one = (reading(budget, each) for each in (LARGE[:2], LARGE, LARGE))
        await settle()
        waiting.cancel()
        sending.cancel()
        await settle()
        assert next_one.done()

    asyncio.run(run())


def test_a_stream_that_ends_within_a_message_is_over_and_holds_nothing() -> None:
    async def run() -> None:
        budget = ByteBudget(LARGE_BYTES)
        cut, next_one = reading(budget, [*LARGE[:2], grpc.aio.EOF]), reading(budget, LARGE)
        await settle()
        assert cut.result() is None
        assert next_one.done()

    asyncio.run(run())


def test_a_hospital_that_violates_the_protocol_within_a_message_holds_nothing() -> None:
    async def run() -> None:
        budget = ByteBudget(LARGE_BYTES)
        invalid, next_one = reading(budget, [LARGE[0], b""]), reading(budget, LARGE)
        await settle()
        with pytest.raises(ValueError, match="a part of 0 bytes"):
            invalid.result()
        assert next_one.done()

    asyncio.run(run())


def test_a_transfer_that_takes_too_long_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        budget, stream = ByteBudget(LARGE_BYTES), Stream(LARGE[:2])
        monkeypatch.setattr(receiving, "LONGEST_TRANSFER_SECONDS", 0.0)
        slow = asyncio.ensure_future(read_message(stream, budget))
        await settle()
        assert (await reading(budget, LARGE)) is not None
        assert not slow.done()

    asyncio.run(run())


def test_a_reply_that_is_here_counts_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        timers: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()
        call_later = loop.call_later
        monkeypatch.setattr(loop, "call_later", lambda *args: timers.append(call_later(*args)) or timers[-1])
        received = await reading(ByteBudget(LARGE_BYTES), LARGE)
        assert received is not None
        assert isinstance(received.lease, Lease)
        assert [timer.cancelled() for timer in timers] == [True]

    asyncio.run(run())
