"""The real scripts as processes, for tests: started, listened to, and never left behind."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
"""Seconds after which a process that should have spoken or ended is a failure."""


class Process:
    """A script that runs, and the lines it has printed so far (both streams together)."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.spoke = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.spoke:
                self.lines.append(line.rstrip("\n"))
                self.spoke.notify_all()

    def wait_for(self, text: str) -> str:
        """The first line that holds `text`."""
        with self.spoke:
            found = self.spoke.wait_for(lambda: [line for line in self.lines if text in line], timeout=PATIENCE)
            assert found, f"no line with {text!r} in:\n{self.output}"
            return found[0]

    def wait_until(self, true: Callable[[list[str]], bool], what: str) -> None:
        """Return as soon as `true(lines)`; it is asked again at every new line."""
        with self.spoke:
            assert self.spoke.wait_for(lambda: true(self.lines), timeout=PATIENCE), f"no {what} in:\n{self.output}"

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        code = self.process.wait(timeout=PATIENCE)
        self.reader.join()
        return code

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def started(*command: str, environment: dict[str, str] | None = None, cwd: Path = ROOT) -> Iterator[Process]:
    process = Process(*command, environment=environment, cwd=cwd)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait()
        process.reader.join()
