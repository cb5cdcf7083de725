"""One federated round with four hospitals, train one epoch + evaluate: ours, stock Flower's, and the parts of each.

Ours is measured twice, in plain text and through the TLS proxy.

Every contestant is a server process and one process per hospital, all started before the first block and idle while
another one runs. Blocks of rounds are run in turns; a round is the time between the ends of two rounds at the server,
so the first round of a block, which starts from idle, is never counted.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.common import free_port, report, summarise
from fedhealth.cli.terminal import script
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr

Start = SpawnContext | ForkServerContext
SPAWN = multiprocessing.get_context("spawn")
PRELOADED = multiprocessing.get_context("forkserver")
"""TensorFlow is imported once for all processes that train, which saves half a minute."""
OURS, PEER = "ours", "Flower start_server, model.fit"
SUPERLINK = "Flower SuperLink + SuperNodes, our apps"
LINK, PEER_LINK = "our link, no training", "Flower start_server, no training"
OURS_TLS, LINK_TLS = "ours, TLS", "our link, TLS, no training"
ALONE, BOUND = "training alone, in a row", "training alone, on 2 cores (half of that)"
COMPARED = {OURS_TLS: OURS, PEER: OURS, SUPERLINK: OURS, LINK_TLS: LINK, PEER_LINK: LINK}
TARGETS = {OURS: "median <= 30 ms", PEER: ">= 12 times ours", LINK: "median <= 10 ms"}
"""The project's target."""
LONGEST_WAIT = 120.0
"""Seconds for a block of rounds, including the start."""
WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class RoundLatencySettings:
    """One round with 4 hospitals on loopback: ours and Flower's start_server side by side, the link alone, training alone.

    Example: python -m benchmarks.round_latency --quick
    """

    blocks: int = 3
    """Number of blocks of each contestant."""
    rounds: int = 20
    """Rounds that are timed in each turn."""
    quick: bool = False
    """Only 2 blocks of 5 rounds."""
    with_superlink: bool = False
    """Also time 3 rounds of our apps on Flower's SuperLink and SuperNodes, before all others (takes minutes)."""


@dataclass(frozen=True)
class Contestant:
    """A server process that runs as many rounds as it is sent, and returns the times when they ended."""

    name: str
    orders: "Connection[int, list[float]]"
    seconds: list[float] = field(default_factory=list)

    def run_block(self, rounds: int) -> None:
        """One warm-up round and `rounds` timed rounds."""
        self.seconds.extend(np.diff(self.run(rounds + 1)).tolist())

    def run(self, rounds: int) -> list[float]:
        """When each of `rounds` rounds ended (seconds on some clock)."""
        try:
            self.orders.send(rounds)
            if not self.orders.poll(LONGEST_WAIT):
                raise RunError(f"{self.name}: no answer within {LONGEST_WAIT:g} s")
            return self.orders.recv()
        except (EOFError, OSError):
            raise RunError(f"{self.name}: the server's process failed") from None


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Start all contestants, warm them up, run them in turns, report."""
    settings = tyro.cli(RoundLatencySettings, args=argv)
    blocks, rounds = (2, 5) if settings.quick else (settings.blocks, settings.rounds)
    quiet_libraries()
    from benchmarks import our_processes

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process ends with this one
    with tempfile.TemporaryDirectory(prefix="fedhealth-rounds-") as folder, ExitStack() as stack:
        try:
            files = our_processes.make_hospitals(Path(folder))
            slow = {SUPERLINK: time_superlink(Path(folder), files)} if settings.with_superlink else {}
            contestants = start_contestants(stack, Path(folder), files)
            for contestant in contestants:
                contestant.run(WARM_UP_ROUNDS)
            for _ in range(blocks):
                for contestant in contestants:
                    contestant.run_block(rounds)
        except RunError as error:
            raise RunError(f"{error}\n{log_ends(Path(folder))}") from None
    show({contestant.name: contestant.seconds for contestant in contestants} | slow)


def time_superlink(folder: Path, files: Sequence[Path]) -> list[float]:
    """Seconds per round on Flower's SuperLink."""
    from benchmarks import superlink

    print("SuperLink and SuperNodes first: this takes minutes", flush=True)
    return superlink.time_rounds(folder / "superlink", files)


def start_contestants(stack: ExitStack, folder: Path, files: Sequence[Path]) -> list[Contestant]:
    """All servers, then all clients."""
    from benchmarks import our_processes, stock_flower

    examples = [file.with_suffix(".npz") for file in files]
    addresses = {name: f"127.0.0.1:{free_port()}" for name in (OURS, OURS_TLS, PEER, LINK, LINK_TLS, PEER_LINK)}
    certificates = our_processes.issue_for(files, folder)
    shown = {OURS_TLS: (certificates,), LINK_TLS: (certificates,)}
    contestants = []
    for name, address in addresses.items():
        serve = stock_flower.serve if name in (PEER, PEER_LINK) else our_processes.serve
        contestants.append(start_server(stack, SPAWN, folder, name, serve, address, len(files), *shown.get(name, ())))
    with silenced_stderr():  # TensorFlow logs when it is imported
        PRELOADED.set_forkserver_preload(["keras"])
        contestants.append(start_server(stack, PRELOADED, folder, ALONE, our_processes.train_alone, examples))
    for file, example in zip(files, examples, strict=True):
        clients: list[tuple[Start, str, Callable[..., None], Path]] = [
            (PRELOADED, OURS, our_processes.run_client, file),
            (PRELOADED, OURS_TLS, our_processes.run_client, file),
            (PRELOADED, PEER, stock_flower.run_client, example),
            (SPAWN, LINK, our_processes.run_light_client, example),
            (SPAWN, LINK_TLS, our_processes.run_light_client, example),
            (SPAWN, PEER_LINK, stock_flower.run_light_client, example),
        ]
        for start, name, client, path in clients:
            log = folder / f"{name}, {file.stem}.log"
            stack.enter_context(process(start, log, client, addresses[name], path, *shown.get(name, ())))
    return contestants


def start_server(
    stack: ExitStack, start: Start, folder: Path, name: str, serve: Callable[..., None], *arguments: object
) -> Contestant:
    """`serve(orders, *arguments)` in a process of its own."""
    ours, theirs = SPAWN.Pipe()
    stack.enter_context(process(start, folder / f"{name}.log", serve, theirs, *arguments))
    theirs.close()  # so that the pipe ends if the process dies
    return Contestant(name, ours)


@contextmanager
def process(start: Start, log: Path, target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """`target(*arguments)` in a process of its own that writes to `log` and is ended with the block."""
    started = start.Process(target=run_quietly, args=(log, target, *arguments), daemon=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited, so that Ctrl-C does not stop the child
    started.start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        yield
    finally:
        started.kill()
        started.join()


def run_quietly(log: Path, target: Callable[..., None], *arguments: object) -> None:
    """Main function of such a process."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    quiet_libraries()
    target(*arguments)


def log_ends(folder: Path) -> str:
    """The end of every log that has one."""
    logs = {path.stem: path.read_text(errors="replace").splitlines()[-1:] for path in sorted(folder.rglob("*.log"))}
    return "\n".join(f"{name}: {lines[0]}" for name, lines in logs.items() if lines)


def show(seconds: dict[str, list[float]]) -> None:
    """One row per contestant; each of Flower's is compared with ours of its kind."""
    times: dict[str, dict[str, Any]] = {name: summarise(each) for name, each in seconds.items()}
    times[BOUND] = {key: value / 2 for key, value in times[ALONE].items()}
    order = [
        name for name in (OURS, OURS_TLS, PEER, SUPERLINK, LINK, LINK_TLS, PEER_LINK, ALONE, BOUND) if name in times
    ]
    rows = [{"one round": name, **times[name], "rounds": len(seconds.get(name, seconds[ALONE]))} for name in order]
    for row in rows:
        ours = COMPARED.get(row["one round"], row["one round"])
        if ours != row["one round"]:
            row["times ours"] = row["median ms"] / times[ours]["median ms"]
        row["target"] = TARGETS.get(row["one round"], "")
    title = "One round: 4 hospitals (920 synthetic patients), each a process; train 1 epoch, average, evaluate"
    report("round_latency", title, ["one round", "median ms", "p95 ms", "times ours", "target", "rounds"], rows)


if __name__ == "__main__":
    sys.exit(main())
