"""One joined hospital at the server: its stream, what is still to be sent on it, and why it ends."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from fedhealth.transport.messages import Parts

LAST_WRITE_SECONDS = 5.0
"""How long a hospital that takes nothing any more may hold up the end of its own stream."""


@dataclass(eq=False)
class HospitalStream:
    """A hospital's name, what is still to be sent to it (None: no more), and why it has to go, once it has."""

    hospital: str
    node_id: int
    outbox: "asyncio.Queue[Parts | None]" = field(default_factory=asyncio.Queue)
    ending: "asyncio.Future[tuple[grpc.StatusCode, str]]" = field(default_factory=asyncio.Future)

    def end(self, code: grpc.StatusCode, reason: str) -> None:
        """Close the stream with a reason; the first one counts."""
        if not self.ending.done():
            self.ending.set_result((code, reason))

    async def converse(self, context: Any, hear: Callable[["HospitalStream", bytes], None]) -> None:
        """Send and `hear` until the stream ends, from whichever side."""
        reading = asyncio.ensure_future(self._read(context, hear))
        writing = asyncio.ensure_future(self._write(context))
        try:
            ends: set[asyncio.Future[Any]] = {reading, writing, self.ending}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # gRPC hangs if a stream is aborted in the middle of a write: let it end first.
            self.outbox.put_nowait(None)
            await asyncio.wait({writing}, timeout=LAST_WRITE_SECONDS)
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)  # a broken connection has been noticed

    async def _read(self, context: Any, hear: Callable[["HospitalStream", bytes], None]) -> None:
        while await self._read_one(context, hear):
            pass

    async def _write(self, context: Any) -> None:
        while await self._write_one(context):
            pass

    # One message per call: a loop's variable would hold the last one, perhaps of many megabytes, until the next comes.

    async def _read_one(self, context: Any, hear: Callable[["HospitalStream", bytes], None]) -> bool:
        payload = await context.read()
        if payload is grpc.aio.EOF:
            return False
        hear(self, payload)
        return True

    async def _write_one(self, context: Any) -> bool:
        parts = await self.outbox.get()
        if parts is None:
            return False
        await context.write(b"".join(parts))
        return True
