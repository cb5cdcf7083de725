"""The real scripts as processes, for tests: started, read, and always ended."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ANY_PORT = "127.0.0.1:0"
NUMPY_CLIENT = ("-m", "tests.support.numpy_client")
"""The command of a client that imports no TensorFlow, for tests that are not about training."""
RECORDER = """
import os, sys
server = sys.argv[sys.argv.index("--server") + 1] if "--server" in sys.argv else ":"
own = "'{}', {}".format(*server.rsplit(":", 1))  # a client that cannot connect asks its server's port why
def record(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto") and own not in str(arguments):
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{sys.argv} {event} {arguments}\\n")
sys.addaudithook(record)
"""
PATIENCE = 300.0
"""Seconds without output after which a process that should have printed or ended is a failure."""


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
        self.has_ended = False
        self.spoke = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.spoke:
                self.lines.append(line.rstrip("\n"))
                self.spoke.notify_all()
        with self.spoke:
            self.has_ended = True
            self.spoke.notify_all()

    def wait_for(self, text: str) -> str:
        """The first line that holds `text`."""
        self.wait_until(lambda lines: any(text in line for line in lines), f"line with {text!r}")
        return next(line for line in self.lines if text in line)

    def address(self) -> str:
        """The server's address HOST:PORT, as soon as it has printed it."""
        return self.wait_for("listening on").split()[2].rstrip(";")

    def wait_until(self, true: Callable[[list[str]], bool], what: str) -> None:
        """Return as soon as `true(lines)`; it is called again at every new line, for as long as new lines come."""
        with self.spoke:
            while not true(self.lines):
                assert self._read_more(), f"no {what} in:\n{self.output}"

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        with self.spoke:
            while not self.has_ended:
                assert self._read_more(), f"no end in:\n{self.output}"
        self.reader.join()
        return self.process.wait(timeout=PATIENCE)

    def _read_more(self) -> bool:
        """Wait for a new line or the end of all lines; whether there was one."""
        heard = len(self.lines)
        if self.has_ended:
            return False
        return self.spoke.wait_for(lambda: len(self.lines) > heard or self.has_ended, timeout=PATIENCE)

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


def recorded_calls(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment in which Python programs write every connection that they open to a file in `folder`, and that file."""
    (folder / "sitecustomize.py").write_text(RECORDER)
    calls = folder / "calls"
    return {"PYTHONPATH": str(folder), "CALLS": str(calls)}, calls


@contextmanager
def refusing_address() -> Iterator[str]:
    """An address, HOST:PORT, at which nobody listens: its port is taken and refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
