"""The slow row of `round_latency`: our two apps on Flower's own runtime, one SuperLink and one SuperNode per hospital.

Everything is stock except that the installation of the app's dependencies is switched off, since they are installed.
Flower starts a process for every message, so every message waits for an import of TensorFlow.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.common import family, free_port
from benchmarks.our_processes import LONGEST_WAIT
from fedhealth.cli.demo import ROOT
from fedhealth.common.errors import RunError
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event
from fedhealth.server.records import RoundRecord

TIMES = "ROUND_TIMES"
"""Environment variable: the file to which the server's app writes the seconds of every round."""
ROUNDS = 3
LONGEST_RUN = 900.0
"""Seconds for all of them."""
POLL_SECONDS = 0.5

APP = """\
[project]
name = "round-latency"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "benchmarks"
[tool.flwr.app.components]
serverapp = "benchmarks.superlink:app"
clientapp = "fedhealth.client.node_app:app"
[tool.flwr.app.config]
hospitals = {hospitals}
rounds = {rounds}
"""
CONNECTION = """\
[superlink]
default = "local"
[superlink.local]
address = "127.0.0.1:{port}"
insecure = true
"""


def note(event: Event) -> None:
    """In the server's app: write down how long a round took."""
    if isinstance(event, RoundRecord):
        with Path(os.environ[TIMES]).open("a", encoding="utf-8") as file:
            file.write(f"{event.seconds}\n")


app = make_server_app(note, max_wait=LONGEST_WAIT)


def time_rounds(folder: Path, files: Sequence[Path]) -> list[float]:
    """Seconds of each of `ROUNDS` rounds of the hospitals in `files`; `folder` takes Flower's home and logs."""
    port, times = free_port(), folder / "times.txt"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "pyproject.toml").write_text(APP.format(hospitals=len(files), rounds=ROUNDS), encoding="utf-8")
    (folder / "config.toml").write_text(CONNECTION.format(port=port), encoding="utf-8")
    environment = {"FLWR_HOME": str(folder), "PYTHONPATH": str(ROOT), TIMES: str(times)}
    superlink = ["flower-superlink", "--insecure", "--port", str(port), "--disable-runtime-dependency-installation"]
    with ExitStack() as stack:
        stack.enter_context(running(superlink, folder, environment))
        for file in files:
            data = f'data="{file}" name="{file.stem}"'
            node = ["--insecure", "--superlink", f"127.0.0.1:{port}", "--port", str(free_port()), "--node-config", data]
            stack.enter_context(running(["flower-supernode", *node], folder, environment))
        submit(environment, str(folder / "app"), "local")
        return wait_for_rounds(times)


@contextmanager
def running(command: Sequence[str], folder: Path, environment: dict[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """A program beside the Python interpreter; at the end of the block it is ended, with all that it started."""
    with (folder / f"{command[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for pid in family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def submit(environment: dict[str, str], *arguments: str) -> None:
    """`flwr run` with these arguments, again until the SuperLink is up."""
    command = [str(Path(sys.executable).with_name("flwr")), "run", *arguments]
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            return
        time.sleep(POLL_SECONDS)
    raise RunError(f"flwr run failed: {' '.join((ended.stdout + ended.stderr).split())[-300:]}")


def wait_for_rounds(times: Path) -> list[float]:
    """The seconds of all rounds, as soon as they are written."""
    deadline = time.monotonic() + LONGEST_RUN
    while time.monotonic() < deadline:
        lines = times.read_text(encoding="utf-8").split() if times.exists() else []
        if len(lines) == ROUNDS:
            return [float(line) for line in lines]
        time.sleep(POLL_SECONDS)
    raise RunError(f"SuperLink: {len(lines)} of {ROUNDS} rounds within {LONGEST_RUN:g} s")
