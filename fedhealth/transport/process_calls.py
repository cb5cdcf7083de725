"""Calls of an object's methods, in this process or in several that each have an object of their own."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol

from fedhealth.common.errors import RunError
from fedhealth.transport.process_pool import WorkerPipe, started_workers


class Calls(Protocol):
    """One object or several with the same methods."""

    def call(self, method: str, *arguments: object) -> list[Any]:
        """The results of this method of all objects."""


class CallsHere:
    """An object of this process."""

    def __init__(self, target: object) -> None:
        self._target = target

    def call(self, method: str, *arguments: object) -> list[Any]:
        """The result of the object's method."""
        return [getattr(self._target, method)(*arguments)]


class CallsElsewhere:
    """Objects of other processes."""

    def __init__(self, pipes: Sequence[WorkerPipe]) -> None:
        self._pipes = pipes

    def call(self, method: str, *arguments: object) -> list[Any]:
        """The results in the order of the processes; all of them work at the same time.

        Raises
        ------
        RunError
            A process ended, or the method raised an error there.
        """
        for pipe in self._pipes:
            pipe.send((method, arguments))
        results = [pipe.receive() for pipe in self._pipes]
        for result in results:
            if isinstance(result, Exception):
                raise result if isinstance(result, RunError) else RunError(f"{type(result).__name__}: {result}")
        return results


@contextmanager
def calls_elsewhere(makers: Sequence[Callable[[], object]]) -> Iterator[CallsElsewhere]:
    """A process for each of `makers` (module-level functions or `partial`s of one), which makes its object there."""
    with started_workers(_serve, [(make,) for make in makers]) as pipes:
        yield CallsElsewhere(pipes)


def _serve(pipe: "Connection[Any, Any]", make: Callable[[], object]) -> None:
    """Main function of a process: call its object's methods until the pipe is closed."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: a Ctrl-C reaches every process of the console
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    target = make()
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, arguments = pipe.recv()
            try:
                result = getattr(target, method)(*arguments)
            except Exception as error:  # noqa: BLE001  # raised again in the process that called
                result = error
            pipe.send(result)
