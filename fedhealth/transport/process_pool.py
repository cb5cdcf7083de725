"""A Flower `Grid` whose hospitals are divided among several processes of this machine."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from flwr.app import Message

from fedhealth.common.errors import RunError
from fedhealth.transport.base import BaseGrid, by_node
from fedhealth.transport.in_process import HospitalApps, Hospitals, server_context
from fedhealth.transport.messages import checked_messages, node_id_of, set_message_id

LoadHospitals = Callable[[], HospitalApps]
"""A module-level function (or a `partial` of one) that each process calls, since apps cannot be pickled."""
STOPS = (signal.SIGINT, signal.SIGTERM)
LAST_SECONDS = 5.0
"""How long to wait for a process to end before it is killed."""


@contextmanager
def working_grid(
    load_hospitals: LoadHospitals, names: Iterable[str], run_config: Mapping[str, Any], processes: int
) -> Iterator["WorkersGrid"]:
    """A grid of the hospitals with these names; its processes are ended when the block is left."""
    in_order = sorted(names, key=node_id_of)
    shares = [in_order[first::processes] for first in range(processes)]
    with started_workers(_serve, [(load_hospitals, share, run_config) for share in shares]) as pipes:
        nodes = [frozenset(map(node_id_of, share)) for share in shares]
        yield WorkersGrid(list(zip(pipes, nodes, strict=True)), run_config, in_order)


@contextmanager
def started_workers(serve: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> Iterator[list["WorkerPipe"]]:
    """A process that runs `serve(pipe, *each)` for each of `arguments`; they are ended when the block is left."""
    spawn = multiprocessing.get_context("spawn")
    pipes: list[WorkerPipe] = []
    try:
        for each in arguments:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=serve, args=(theirs, *each), daemon=True)
            with _signals_deferred():
                process.start()
            theirs.close()  # so that the pipe ends if the process dies
            pipes.append(WorkerPipe(process, ours))
        yield pipes
    finally:
        for pipe in pipes:
            pipe.end()


class WorkerPipe:
    """A process of the simulation and the pipe to it."""

    def __init__(self, process: SpawnProcess, pipe: "Connection[Any, Any]") -> None:
        self._process = process
        self._pipe = pipe

    def send(self, content: object) -> None:
        """Send an object to the process."""
        try:
            self._pipe.send(content)
        except OSError:
            raise self._died() from None

    def receive(self) -> Any:
        """Wait for the object that the process sends back."""
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None

    def end(self) -> None:
        """End the process; it is killed if it does not end by itself."""
        self._pipe.close()
        self._process.join(LAST_SECONDS)
        self._process.kill()
        self._process.join()

    def _died(self) -> RunError:
        self._process.join(LAST_SECONDS)
        code = self._process.exitcode
        return RunError(f"a process of the simulation ended too early (exit code {code}); is there enough memory?")


class WorkersGrid(BaseGrid):
    """See `working_grid`; `context` is the Flower `Context` for a `ServerApp` that runs on this grid.

    `workers` are the pipe to each process and the node ids of its hospitals.
    """

    def __init__(
        self, workers: Sequence[tuple[WorkerPipe, frozenset[int]]], run_config: Mapping[str, Any], names: Iterable[str]
    ) -> None:
        super().__init__()
        self.context = server_context(run_config)
        self._workers = workers
        self._names = {node_id_of(name): name for name in names}
        self._nodes = sorted(self._names)
        self._replies: dict[str, Message] = {}
        self._sent = 0

    def get_node_ids(self) -> list[int]:
        """The node ids of all hospitals, in order."""
        return self._nodes

    def name_of(self, node_id: int) -> str | None:
        """The name of a hospital of this grid."""
        return self._names.get(node_id)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send the messages and wait for all replies; returns the messages' ids."""
        replies = self.send_and_receive(messages)
        self._replies |= {reply.metadata.reply_to_message_id: reply for reply in replies}
        return [reply.metadata.reply_to_message_id for reply in replies]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies, in the order of node ids; each is returned once."""
        return by_node(self._replies.pop(message_id) for message_id in message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply per message, in the order of node ids."""
        outgoing = checked_messages(messages)
        for message in outgoing:
            self._sent += 1
            set_message_id(message, str(self._sent))
        busy = []
        for pipe, nodes in self._workers:
            if share := [message for message in outgoing if message.metadata.dst_node_id in nodes]:
                pipe.send(share)  # content that messages share is sent once
                busy.append(pipe)
        return by_node(reply for pipe in busy for reply in pipe.receive())


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer stop signals while a process is started; Ctrl-C stops only us."""
    received: list[int] = []
    try:
        with _sigint_blocked():
            # Another thread may receive the signal that is blocked here, and Python would then interrupt this thread.
            before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in STOPS}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
    finally:
        for each in received[:1]:
            signal.raise_signal(each)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT where signals can be blocked, so that a new process inherits it; on Windows see `_serve`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise `start` would start it, and it unblocks SIGINT
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(
    pipe: "Connection[Any, Any]", load_hospitals: LoadHospitals, share: Sequence[str], run_config: Mapping[str, Any]
) -> None:
    """Main function of a process: reply for its share of the hospitals until the pipe is closed."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: a Ctrl-C reaches every process of the console
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    hospitals = Hospitals(load_hospitals(), share, run_config)
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages = pipe.recv()
            replies = [hospitals.reply(message) for message in messages]
            pipe.send(replies)
