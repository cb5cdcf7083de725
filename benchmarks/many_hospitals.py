"""One server, 10 to 1,000 hospitals: time of a round, CPU and memory of the server; then 50 hospitals and a 20 MB model.

The server is the real one (`GrpcGrid`, `federate`, FedAvg) in a new process for every row; the hospitals are light
(`light_hospitals.py`), in another process, each with a TCP connection of its own, and all reply at once.
"""

import gc
import itertools
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from fedhealth.common.runtime_env import quiet_libraries

if TYPE_CHECKING:
    from flwr.app import Message

    from fedhealth.transport.grpc.grid import GrpcGrid
    from fedhealth.transport.incoming import Incoming

SETTLE_SECONDS = 1.0
"""After the last hospital has joined, before the memory of an idle server is read."""
LONGEST_RUN = 600.0
MB = 1e6
ESTABLISHED = "01"


@dataclass(frozen=True)
class Settings:
    """Load of one server with 10, 100 and 1,000 hospitals, and with 50 hospitals and a 20 MB model.

    Example: python -m benchmarks.many_hospitals --hospitals 10 100 1000 --repeats 2
    """

    hospitals: tuple[int, ...] = (10, 100, 1000)
    """How many hospitals, one row each; the first is what the others are compared with."""
    messages: int = 10_000
    """Rounds are chosen so that each row has about this many trainings (at least 8, at most 200 rounds)."""
    repeats: int = 2
    """How often each row is measured, in turns."""
    client_processes: int = 1
    """Processes that the hospitals share."""
    big_hospitals: int = 50
    """Hospitals that train a 20 MB model (0: skip)."""
    big_rounds: int = 5
    """Rounds with the 20 MB model."""
    quick: bool = False
    """Fewer hospitals, once: a check that it works."""


def main(settings: Settings) -> None:
    """Measure and show."""
    from benchmarks.common import report

    if settings.quick:
        settings = Settings(hospitals=(10, 100, 300), messages=1000, repeats=1, big_hospitals=10, big_rounds=4)
    rows = measure_hospitals(settings)
    report("many_hospitals", "One server, many light hospitals: train + evaluate, no training", tuple(rows[0]), rows)
    if settings.big_hospitals:
        rows = measure_big_model(settings)
        title = f"Memory of the server: {settings.big_hospitals} hospitals, a 20 MB model"
        report("many_hospitals_memory", title, tuple(rows[0]), rows)


# --- many hospitals ----------------------------------------------------------------------------------------------------


def measure_hospitals(settings: Settings) -> list[dict[str, Any]]:
    """One row per number of hospitals, over all repeats."""
    from benchmarks.common import summarise

    runs: dict[int, list[dict[str, Any]]] = {count: [] for count in settings.hospitals}
    for _, count in itertools.product(range(settings.repeats), settings.hospitals):
        rounds = min(200, max(8, settings.messages // count))
        print(f"{count} hospitals, {rounds} rounds", file=sys.stderr, flush=True)
        runs[count].append(in_fresh_process(run_server, count, rounds, False, settings.client_processes))
    rows = [
        {
            "hospitals": count,
            "TCP connections": min(run["connections"] for run in each),
            "all joined s": mean(run["joined"] for run in each),
            "rounds": sum(len(run["rounds"]) for run in each),
            **summarise([seconds for run in each for seconds in run["rounds"]]),
            "server CPU ms": 1000 * mean(run["cpu"] for run in each),
            "hospitals' CPU ms": 1000 * mean(run["hospitals_cpu"] for run in each),
            "KiB per idle hospital": mean(run["idle_bytes"] for run in each) / count / 1024,
        }
        for count, each in runs.items()
    ]
    for row in rows:
        row["ms per hospital"] = row["median ms"] / row["hospitals"]
        row["cost against first row"] = row["ms per hospital"] / rows[0]["ms per hospital"]
    return rows


def run_server(count: int, rounds: int, big: bool, client_processes: int) -> dict[str, Any]:
    """A whole run in this process; returns its costs per round."""
    from benchmarks.light_hospitals import light_hospitals
    from fedhealth.config.federation import FederationSettings
    from fedhealth.server.app import federate
    from fedhealth.server.records import RoundRecord

    raise_open_files()
    settings = FederationSettings(hospitals=count, rounds=rounds)
    memory: list[Reading] = []
    grid = measured_grid(settings.to_run_config(), count, memory)
    ends: list[float] = []
    cpu: list[float] = []
    hospitals_cpu: list[float] = []
    with grid.listening("127.0.0.1:0") as address, light_hospitals(address, count, big, client_processes) as crowd:
        pids = [process.pid for process in crowd.processes if process.pid]

        def on_event(event: object) -> None:
            if isinstance(event, RoundRecord):
                if len(event.hospitals) != count:
                    raise SystemExit(f"round {event.round_num}: {len(event.hospitals)} of {count} hospitals")
                memory.append(read_memory("round ended"))
                ends.append(time.perf_counter())
                cpu.append(time.process_time())
                hospitals_cpu.append(sum(map(cpu_seconds_of, pids)))

        gc.collect()
        before, asked = read_memory("empty"), time.perf_counter()
        crowd.join()
        while len(grid.get_node_ids()) < count:
            time.sleep(0.002)
        joined = time.perf_counter() - asked
        time.sleep(SETTLE_SECONDS)
        idle = read_memory("idle")
        connections = count_connections(int(address.rpartition(":")[2]))
        federate(grid, settings, on_event, max_wait=LONGEST_RUN)
        # The first round includes one-time costs, and the last evaluation comes alone: both are left out.
    return {
        "joined": joined,
        "idle_bytes": idle.now - before.now,
        "connections": connections,
        "rounds": differences(ends)[:-1],
        "cpu": mean(differences(cpu)[:-1]),
        "hospitals_cpu": mean(differences(hospitals_cpu)[:-1]),
        "memory": [before, idle, *memory],
    }


def count_connections(port: int) -> int:
    """Number of established TCP connections with the local port `port`."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in _lines(Path("/proc/self/net") / table)]
    return sum(int(line[1].rpartition(":")[2], 16) == port and line[3] == ESTABLISHED for line in lines)


def _lines(table: Path) -> list[str]:
    return table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []


def cpu_seconds_of(pid: int) -> float:
    """CPU seconds that another process has used: Linux derives a clock's number from the process's (time.h, CPUCLOCK)."""
    return time.clock_gettime((~pid << 3) | 2)


def raise_open_files() -> None:
    """Raise the limit of open files to the system's maximum."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# --- a big model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """Resident memory, bytes: now, and the most since the reading before."""

    when: str
    now: int
    peak: int


def read_memory(when: str) -> Reading:
    """Read the memory of this process and start a new peak (proc(5), VmHWM and clear_refs)."""
    words = Path("/proc/self/status").read_text(encoding="ascii").split()
    now, peak = (1024 * int(words[words.index(name) + 1]) for name in ("VmRSS:", "VmHWM:"))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return Reading(when, now, peak)


def measured_grid(run_config: Mapping[str, Any], capacity: int, memory: list[Reading]) -> "GrpcGrid":
    """The real grid, which reads the memory before and after each training and evaluation."""
    from fedhealth.transport.grpc.grid import GrpcGrid

    class MeasuredGrid(GrpcGrid):
        def receive_groups(
            self, messages: "Iterable[Message]", *, timeout: float | None = None
        ) -> "Iterator[list[Incoming]]":
            asked = list(messages)
            kind = asked[0].metadata.message_type
            memory.append(read_memory(f"{kind}: asked"))
            yield from super().receive_groups(asked, timeout=timeout)
            memory.append(read_memory(f"{kind}: replies here"))

    return MeasuredGrid(run_config, capacity, lambda what, who: None)


def measure_big_model(settings: Settings) -> list[dict[str, Any]]:
    """Peaks of a round's phases, beside the same replies given to Flower's own aggregation without any link."""
    count = settings.big_hospitals
    print(f"{count} hospitals, 20 MB each, {settings.big_rounds} rounds", file=sys.stderr, flush=True)
    run = in_fresh_process(run_server, count, settings.big_rounds, True, 1)
    held, aggregated = in_fresh_process(aggregate_alone, count)
    memory: Sequence[Reading] = run["memory"]
    idle = memory[1].now
    replies = count * 20 * MB

    def row(what: str, size: float) -> dict[str, Any]:
        return {"memory": what, "MB": size / MB, "x replies": size / replies, "x model": size / (20 * MB)}

    def most(when: str) -> float:
        return max(reading.peak for reading in memory if reading.when == when) - idle

    rows = [
        row("replies (hospitals x model)", replies),
        row("Flower's aggregate_arrayrecords: replies held", held),
        row("Flower's aggregate_arrayrecords: peak", aggregated),
        row("server: peak from asking to the last trained reply", most("train: replies here")),
        row("server: held when the last trained reply is here", _held(memory) - idle),
        row("server: peak while aggregating", most("evaluate: asked")),
        row("server: peak from asking to the last evaluation", most("evaluate: replies here")),
        row("server: held between rounds", max(r.now for r in memory if r.when == "round ended") - idle),
    ]
    rows[3]["s per round"] = mean(run["rounds"])
    rows[3]["server CPU s"] = run["cpu"]
    return [{"s per round": None, "server CPU s": None} | each for each in rows]


def _held(memory: Sequence[Reading]) -> int:
    return max(reading.now for reading in memory if reading.when == "train: replies here")


def aggregate_alone(count: int) -> tuple[int, int]:
    """Bytes for `count` decoded replies, and the peak while Flower averages them: no link, no messages."""
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    from benchmarks.light_hospitals import TRAIN_PATIENTS, big_weights
    from fedhealth.transport.protocol.fields import NUM_EXAMPLES
    from fedhealth.transport.protocol.training import TrainReply, encode_train_reply

    weights = big_weights()
    before = read_memory("before").now
    replies = [encode_train_reply(TrainReply(weights, TRAIN_PATIENTS)) for _ in range(count)]
    held = read_memory("held").now - before
    aggregate_arrayrecords(replies, NUM_EXAMPLES)
    return held, read_memory("aggregated").peak - before


# --- shared ------------------------------------------------------------------------------------------------------------


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `function` in a process of its own, which is always ended afterwards."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # Not a daemon: it starts the hospitals, which end with their streams.
    process = spawn.Process(target=_send_result, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit("the server's process failed; see above") from None
    finally:
        process.join(5)
        process.kill()
        process.join()


def _send_result(pipe: "Connection[Any, Any]", function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    quiet_libraries()
    pipe.send(function(*arguments))


def differences(values: Sequence[float]) -> list[float]:
    """Differences of successive values."""
    return [after - before for before, after in itertools.pairwise(values)]


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    each = list(values)
    return sum(each) / len(each)


if __name__ == "__main__":
    quiet_libraries()
    main(tyro.cli(Settings))
