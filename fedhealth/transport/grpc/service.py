"""The server side of the link for many runs: the port stays open, and between two runs no hospital is admitted."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from flwr.app import Context, RecordDict

from fedhealth.data.schema import Schema
from fedhealth.transport.grpc.admission import Admission, Caller, Names, RefusedError
from fedhealth.transport.grpc.grid import GrpcGrid, failure_text
from fedhealth.transport.grpc.server import SHUTDOWN_SECONDS, OnChange, StreamServer
from fedhealth.transport.messages import RUN_ID, SERVER_NODE_ID
from fedhealth.transport.tls.identity import Identity

NO_RUN = "no run is on; come back later"
POLL_SECONDS = 0.02


class ClosedAdmission(Admission):
    """Refuses all hospitals between two runs, with the code of an unavailable server, so that clients try again."""

    def __init__(self) -> None:
        super().__init__(capacity=0, schema=None)

    def check(self, caller: Caller, here: Names) -> None:
        """Refuse every hospital."""
        raise RefusedError(grpc.StatusCode.UNAVAILABLE, NO_RUN)


class ServiceServer(StreamServer):
    """The streams of successive runs, each of at most `most_hospitals`; `on_idle` is called with changes between runs."""

    def __init__(self, most_hospitals: int, on_idle: OnChange, tls: Identity | None) -> None:
        super().__init__({}, most_hospitals, on_idle, tls, (), schema=None)
        self.admission = ClosedAdmission()
        self._on_idle = on_idle

    async def open_run(self, run_config: Mapping[str, Any], admission: Admission, on_change: OnChange) -> None:
        """From now on the hospitals that `admission` admits may join."""
        self._set_run_config(run_config)
        self.admission, self._on_change = admission, on_change
        self.declined.clear()
        self._closing = False

    async def close_run(self, failure: str | None, grace: float = SHUTDOWN_SECONDS) -> None:
        """End every stream, with `failure` as the reason if the run failed, and admit no hospital until the next run."""
        self._set_run_config({})
        self.admission = ClosedAdmission()
        self._end_streams(failure)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while self._streams and loop.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        for stream in tuple(self._streams.values()):  # it reads nothing; from now on nothing is read from it, either
            stream.end(grpc.StatusCode.UNAVAILABLE, "the run is over")
            self._leave(stream)
        self._on_change = self._on_idle


class ServiceGrid(GrpcGrid):
    """Flower's `Grid` for the runs of a service, one after the other, over one port."""

    def __init__(self, most_hospitals: int, on_idle: OnChange, tls: Identity | None = None) -> None:
        super().__init__({}, most_hospitals, on_idle, tls)
        self._server: ServiceServer = ServiceServer(most_hospitals, on_idle, tls)

    @contextmanager
    def running(
        self,
        run_config: Mapping[str, Any],
        capacity: int,
        on_change: OnChange,
        schema: Schema,
        *,
        allow: Collection[str] = (),
        members: Collection[str] | None = None,
    ) -> Iterator[None]:
        """One run, inside `listening`: hospitals may join while the block runs; only `members` if the run has begun before.

        At its end their streams end, with the reason if the block fails.
        """
        admission = Admission(capacity, schema, allow)
        if members is not None:
            admission.admit_only(frozenset(members))
        self.context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), dict(run_config))
        self._pushed.clear()
        self._on_loop(self._server.open_run(run_config, admission, on_change))
        try:
            yield
        except BaseException as error:
            self._on_loop(self._server.close_run(failure_text(error)))
            raise
        self._on_loop(self._server.close_run(None))
