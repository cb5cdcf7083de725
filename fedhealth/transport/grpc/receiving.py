"""Replies as they are received: how many bytes of large ones the server holds at a time, and one from its frames.

Used only on the event loop of the gRPC link. A large reply waits in the hospital until the server has room for it: the
server reads no more of its stream, and gRPC's flow control holds it back. Small replies never wait.
"""

import asyncio
from collections import deque
from typing import Any, NamedTuple

import grpc

from fedhealth.transport import options
from fedhealth.transport.frames import Transfer, begins_transfer
from fedhealth.transport.incoming import Incoming

MOST_HELD_BYTES = 48 * 1024 * 1024
"""Bytes of large replies that are being received, or wait for the strategy; a single longer one is received alone."""
LONGEST_TRANSFER_SECONDS = 10.0
"""A reply that takes longer to arrive counts no more, so hospitals with slow or broken connections hold up nobody."""


class Lease:
    """A part of the budget."""

    def __init__(self, budget: "ByteBudget", size: int) -> None:
        self.size = size
        self._budget: ByteBudget | None = budget
        self._timer = asyncio.get_running_loop().call_later(LONGEST_TRANSFER_SECONDS, self.release)

    def keep(self) -> None:
        """Hold it until it is released, since the reply is here."""
        self._timer.cancel()

    def release(self) -> None:
        """Give it back; only the first call has an effect."""
        self._timer.cancel()
        if self._budget:
            self._budget.give_back(self.size)
            self._budget = None


class ByteBudget:
    """At most so many bytes are held at a time; others wait in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[Lease]]] = deque()

    async def lease(self, size: int) -> Lease:
        """A lease of so many bytes, as soon as they are free; more than the whole budget if nothing else is held."""
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        self._grant()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                granted.result().release()
            self._grant()  # the next ones need not wait for this one
            raise

    def give_back(self, size: int) -> None:
        """End a lease."""
        self._held -= size
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size, granted = self._waiting[0]
            if granted.done():  # its hospital has left
                self._waiting.popleft()
                continue
            if self._held and self._held + size > self._most:
                return
            self._waiting.popleft()
            self._held += size
            granted.set_result(Lease(self, size))


class Received(NamedTuple):
    """A message of a hospital; the lease of a large one is held until the message is released."""

    reply: Incoming
    lease: Lease | None = None

    def release(self) -> None:
        """End the lease: the message is dropped, or kept by somebody outside the budget."""
        if self.lease:
            self.lease.release()


async def read_message(context: Any, budget: ByteBudget) -> Received | None:
    """The next message of a stream; None at its end.

    Raises
    ------
    ValueError
        The hospital violates the protocol; the text says how.
    """
    frame = await context.read()
    if frame is grpc.aio.EOF:
        return None
    if len(frame) > options.MAX_FRAME_BYTES:
        raise ValueError(f"it sent a message of {len(frame)} bytes; the maximum is {options.MAX_FRAME_BYTES}")
    if not begins_transfer(frame):
        return Received(Incoming.read(frame))
    transfer = Transfer(frame)
    lease = await budget.lease(transfer.size)
    try:
        while transfer.missing:
            chunk = await context.read()
            if chunk is grpc.aio.EOF:  # as after a lost connection
                lease.release()
                return None
            transfer.add(chunk)
        message = transfer.message()
    except BaseException:
        lease.release()
        raise
    lease.keep()
    return Received(Incoming.of(message), lease)
