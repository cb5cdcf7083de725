"""Memory over time: the real server and one real client over TLS, for 2,000 rounds (`make chaos` checks 8,000).

Keras loops are known to leak (keras-team/tf-keras#286). At the server, only the records of the rounds may grow, which
the report at the end needs.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.common import free_port, report
from fedhealth.cli.demo import ROOT
from fedhealth.cli.terminal import script
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries

READINGS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Parts of the run after which memory is read: after all one-time costs, and before the end."""


@dataclass(frozen=True)
class MemorySettings:
    """Memory of server.py and client.py over very many rounds.

    Example: python -m benchmarks.memory --rounds 2000
    """

    rounds: int = 2000
    """Rounds of the run."""
    quick: bool = False
    """Only 200 rounds: a check that it works."""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Run a federation, read its memory on the way, report."""
    settings = tyro.cli(MemorySettings, args=argv)
    rounds = 200 if settings.quick else settings.rounds
    quiet_libraries()
    with tempfile.TemporaryDirectory(prefix="fedhealth-memory-") as name, ExitStack() as stack:
        server, client = start_federation(stack, Path(name), rounds)
        readings = read_on_the_way(server, client, rounds)
    rows: list[dict[str, Any]] = [{"after round": round_num, **memory} for round_num, memory in readings.items()]
    title = f"Memory over {rounds:,} rounds: the server and a client, each a process, over TLS"
    report("memory", title, tuple(rows[0]), [*rows, growth(readings)])


def start_federation(
    stack: ExitStack, folder: Path, rounds: int
) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Server and client as a user starts them; the client's output goes to a log."""
    from benchmarks.our_processes import issue_for, make_hospitals

    file, address = make_hospitals(folder)[0], f"127.0.0.1:{free_port()}"
    certificates = issue_for([file], folder)
    run = ["--hospitals", "1", "--min-hospitals", "1", "--rounds", str(rounds), "--out", str(folder / "run")]
    server = ["server.py", "--address", address, "--tls", str(certificates / "server"), *run]
    client = ["client.py", str(file), "--server", address, "--tls", str(certificates / file.stem)]
    return stack.enter_context(running(server)), stack.enter_context(running(client, folder / "client.log"))


@contextmanager
def running(command: Sequence[str], log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """One of our scripts as a process, which is ended with the block; without a log, its output is a pipe."""
    with ExitStack() as stack:
        output = subprocess.PIPE if log is None else stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def read_on_the_way(
    server: subprocess.Popen[str], client: subprocess.Popen[str], rounds: int
) -> Mapping[int, dict[str, float]]:
    """Round -> memory of both just after it."""
    wanted, readings, last = {max(1, round(part * rounds)) for part in READINGS}, dict[int, dict[str, float]](), ""
    for line in server.stdout or ():
        last = line
        round_num = int(line.split()[1].partition("/")[0]) if line.startswith("round ") else 0
        if round_num in wanted:
            both = {"server MB": resident_mb(server.pid), "client MB": resident_mb(client.pid)}
            readings[round_num] = both
        if len(readings) == len(wanted):
            return readings
    raise RunError(f"the server ended after {len(readings)} of {len(wanted)} readings: {last.strip()}")


def growth(readings: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """The table's last row: from the first reading to the last, for each 1,000 rounds between them."""
    first, last = min(readings), max(readings)
    grown = {key: readings[last][key] - readings[first][key] for key in readings[last]}
    return {"after round": "growth per 1,000", **{key: mb / (last - first) * 1000 for key, mb in grown.items()}}


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
