"""One connected hospital at the server: its stream, its outgoing messages, and the reason for the stream's end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from fedhealth.transport.frames import Encoded

LAST_WRITE_SECONDS = 5.0
"""How long to wait, at the end of a stream, for a write to a hospital that no longer reads."""


@dataclass(eq=False)
class HospitalStream:
    """A hospital's name, its outgoing messages (None ends them), and the reason for the end of its stream."""

    hospital: str
    node_id: int
    outbox: "asyncio.Queue[Encoded | None]" = field(default_factory=asyncio.Queue)
    ending: "asyncio.Future[tuple[grpc.StatusCode, str]]" = field(default_factory=asyncio.Future)
    _is_ending: bool = False

    def end(self, code: grpc.StatusCode, reason: str) -> None:
        """Close the stream with a reason; only the first call has an effect."""
        if not self.ending.done():
            self.ending.set_result((code, reason))

    async def converse(self, context: Any, read: Callable[["HospitalStream", Any], Awaitable[bool]]) -> None:
        """Send messages, and call `read` until it returns False, until either side ends the stream."""
        reading = asyncio.ensure_future(self._read(context, read))
        writing = asyncio.ensure_future(self._write(context))
        try:
            ends: set[asyncio.Future[Any]] = {reading, writing, self.ending}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # gRPC hangs if a stream is aborted during a write: let the write end first.
            self._is_ending = True
            self.outbox.put_nowait(None)
            await asyncio.wait({writing}, timeout=LAST_WRITE_SECONDS)
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)  # a broken connection has been handled

    async def _read(self, context: Any, read: Callable[["HospitalStream", Any], Awaitable[bool]]) -> None:
        while await read(self, context):
            pass

    async def _write(self, context: Any) -> None:
        while await self._write_one(context):
            pass

    # One message per call: the variable of a loop would keep the last message in memory until the next one arrives.

    async def _write_one(self, context: Any) -> bool:
        message = await self.outbox.get()
        if message is None:
            return False
        for frame in message.frames():
            await context.write(frame)
            if self._is_ending:
                return False
        return True
