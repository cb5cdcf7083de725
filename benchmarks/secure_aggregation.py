"""What secure aggregation costs: a round of four real hospitals, a round of many light ones, the memory of the server.

Each is measured with and without the flag, in turns. Four hospitals are server and client processes over TLS, as in
`round_latency`. Of 100 light hospitals (`light_hospitals.py`, `masked_hospitals.py`) the server's round is measured, and
what one hospital does with its numbers before it sends them.
"""

import gc
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.common import free_port, report, summarise
from fedhealth.cli.terminal import script
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr

CLEAR, MASKED = "without", "with --secure-aggregation"
LONGEST_RUN = 600.0
MODEL_BYTES = 20e6
FOUR, MANY, BIG = "<= 1.3 times", "<= 2 times", "<= 8 x model"
"""The project's targets."""


@dataclass(frozen=True)
class SecureAggregationSettings:
    """Rounds and memory with and without --secure-aggregation, side by side.

    Example: python -m benchmarks.secure_aggregation --quick
    """

    blocks: int = 4
    """Blocks of rounds of four hospitals, in turns."""
    rounds: int = 20
    """Rounds that are timed in each block."""
    hospitals: int = 100
    """Light hospitals of one server."""
    light_rounds: int = 40
    """Their rounds in each turn."""
    repeats: int = 3
    """Turns of the light hospitals."""
    big_hospitals: int = 10
    """Hospitals that train a 20 MB model (0: skip)."""
    big_rounds: int = 3
    """Rounds with the 20 MB model."""
    quick: bool = False
    """Few rounds: a check that it works."""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and show."""
    settings = tyro.cli(SecureAggregationSettings, args=argv)
    if settings.quick:
        settings = SecureAggregationSettings(2, 5, 20, 8, 1, 4, 2)
    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process ends with this one
    rows = [*compare(time_four(settings), "4 hospitals, processes, TLS", FOUR), *time_many(settings)]
    title = "Secure aggregation: one round (train, average, evaluate)"
    report("secure_aggregation", title, ["round", "flag", "median ms", "p95 ms", "times", "target", "rounds"], rows)
    if settings.big_hospitals:
        rows = measure_memory(settings)
        title = f"Secure aggregation: memory of the server, {settings.big_hospitals} hospitals, a 20 MB model"
        report("secure_aggregation_memory", title, list(rows[0]), rows)


def compare(seconds: dict[str, list[float]], what: str, target: str) -> list[dict[str, Any]]:
    """Two rows: without the flag, and with it as a multiple."""
    rows: list[dict[str, Any]] = [
        {"round": what, "flag": flag, **summarise(each), "rounds": len(each)} for flag, each in seconds.items()
    ]
    rows[1] |= {"times": rows[1]["median ms"] / rows[0]["median ms"], "target": target}
    return rows


# --- four hospitals ----------------------------------------------------------------------------------------------------


def time_four(settings: SecureAggregationSettings) -> dict[str, list[float]]:
    """Seconds of each round of two federations of four hospitals, in turns."""
    from benchmarks import our_processes
    from benchmarks.round_latency import PRELOADED, SPAWN, log_ends, process, start_server

    with tempfile.TemporaryDirectory(prefix="fedhealth-sums-") as name, ExitStack() as stack:
        folder = Path(name)
        files = our_processes.make_hospitals(folder)
        certificates = our_processes.issue_for(files, folder)
        addresses = {flag: f"127.0.0.1:{free_port()}" for flag in (CLEAR, MASKED)}
        contestants = []
        for flag, address in addresses.items():
            arguments = (address, len(files), certificates, settings.rounds + 1 if flag == MASKED else 0)
            contestants.append(start_server(stack, SPAWN, folder, flag, our_processes.serve, *arguments))
        with silenced_stderr():  # TensorFlow logs when it is imported
            PRELOADED.set_forkserver_preload(["keras"])
            for number, (flag, address) in enumerate(addresses.items()):
                own = folder / str(number)  # of each federation, because two clients cannot write the same receipts
                own.mkdir()
                for file in files:
                    copy = shutil.copy(file, own / file.name)
                    log = folder / f"{flag}, {file.stem}.log"
                    client = our_processes.run_client, address, Path(copy), certificates
                    stack.enter_context(process(PRELOADED, log, *client))
        try:
            for contestant in contestants:
                contestant.run(settings.rounds + 1)  # a warm-up
            for _ in range(settings.blocks):
                for contestant in contestants:
                    contestant.run_block(settings.rounds)
        except RunError as error:
            raise RunError(f"{error}\n{log_ends(folder)}") from None
        return {contestant.name: contestant.seconds for contestant in contestants}


# --- many light hospitals ----------------------------------------------------------------------------------------------


def time_many(settings: SecureAggregationSettings) -> list[dict[str, Any]]:
    """The server's rounds with and without the flag, and the flag's cost for one hospital."""
    from benchmarks.many_hospitals import in_fresh_process

    count, seconds = settings.hospitals, dict[str, list[float]]({CLEAR: [], MASKED: []})
    for _ in range(settings.repeats):
        for flag, each in seconds.items():
            print(f"{count} light hospitals, {flag}", file=sys.stderr, flush=True)
            each.extend(in_fresh_process(run_server, flag == MASKED, count, settings.light_rounds, False)["rounds"])
    rows = compare(seconds, f"{count} light hospitals, server", MANY)
    own = in_fresh_process(time_one_hospital, count)
    one = {"round": f"one of {count} hospitals: mask, record", "flag": MASKED, **summarise(own), "rounds": len(own)}
    both = {"round": f"{count} hospitals: server and one of them", "flag": MASKED, "target": MANY}
    both |= {"median ms": rows[1]["median ms"] + one["median ms"]}
    both |= {"times": both["median ms"] / rows[0]["median ms"]}
    return [*rows, one, both]


def run_server(masked: bool, count: int, rounds: int, big: bool) -> dict[str, Any]:
    """A whole run in this process; the seconds of its rounds and the readings of its memory."""
    from benchmarks.many_hospitals import Reading, differences, measured_grid, raise_open_files, read_memory
    from fedhealth.config.federation import FederationSettings
    from fedhealth.server.app import federate
    from fedhealth.server.records import RoundRecord

    raise_open_files()
    settings = FederationSettings(hospitals=count, rounds=rounds, secure_aggregation=masked)
    memory: list[Reading] = []
    grid = measured_grid(settings.to_run_config(), count, memory)
    ends: list[float] = []

    def on_event(event: object) -> None:
        if isinstance(event, RoundRecord):
            if event.left_out:
                raise SystemExit(f"round {event.round_num}: {event.left_out}")
            memory.append(read_memory("round ended"))
            ends.append(time.perf_counter())

    with grid.listening("127.0.0.1:0") as address, crowd_of(address, settings, big):
        while len(grid.get_node_ids()) < count:
            time.sleep(0.002)
        gc.collect()
        idle = read_memory("idle")
        federate(grid, settings, on_event, max_wait=LONGEST_RUN)
    # The first round includes one-time costs and is left out.
    return {"rounds": differences(ends), "idle": idle.now, "memory": memory}


@contextmanager
def crowd_of(address: str, settings: Any, big: bool) -> Iterator[None]:
    """The light hospitals of the settings, which join at once."""
    from benchmarks.light_hospitals import light_hospitals
    from benchmarks.masked_hospitals import masked_hospitals

    if settings.secure_aggregation:
        with masked_hospitals(address, settings, big) as (_, pipe):
            pipe.send("join")
            yield
    else:
        with light_hospitals(address, settings.hospitals, big) as crowd:
            crowd.join()
            yield


def time_one_hospital(count: int, times: int = 50) -> list[float]:
    """Seconds in which one hospital finds that a request is new, masks its reply and records it on disk."""
    from benchmarks.masked_hospitals import Crowd, names_of
    from fedhealth.client.masking_state import MaskingState
    from fedhealth.common.pairwise_masks import mask
    from fedhealth.config.federation import FederationSettings
    from fedhealth.transport.protocol.masked_vectors import context_of, encode_masked
    from fedhealth.transport.protocol.training import TRAIN

    settings = FederationSettings(hospitals=count, secure_aggregation=True)
    crowd, own, *others = Crowd(settings, big=False), *names_of(count)
    run_id, secrets = os.urandom(16), {name: os.urandom(32) for name in others}
    request = crowd.train_request()
    layout, numbers = crowd.layout(TRAIN, request), crowd.numbers(TRAIN, request)
    seconds = []
    with tempfile.TemporaryDirectory(prefix="fedhealth-sums-") as folder:
        state = MaskingState(Path(folder) / "own.secagg.jsonl")
        state.private_key(run_id, make=True)
        for number in range(times):
            started = time.perf_counter()
            context = context_of(number.to_bytes(32, "big"), settings.to_run_config(), TRAIN, request, layout)
            state.find_sent(run_id, context)
            words = mask(layout.join(numbers, context), own, secrets, context)
            state.keep(run_id, context, words)
            encode_masked(words)
            seconds.append(time.perf_counter() - started)
    return seconds


# --- memory ------------------------------------------------------------------------------------------------------------


def measure_memory(settings: SecureAggregationSettings) -> list[dict[str, Any]]:
    """The server's peak over all rounds with a 20 MB model."""
    from benchmarks.many_hospitals import in_fresh_process

    rows = []
    for flag in (CLEAR, MASKED):
        print(f"{settings.big_hospitals} hospitals, 20 MB each, {flag}", file=sys.stderr, flush=True)
        run = in_fresh_process(run_server, flag == MASKED, settings.big_hospitals, settings.big_rounds, True)
        peak = max(reading.peak for reading in run["memory"]) - run["idle"]
        held = max(reading.now for reading in run["memory"] if reading.when == "round ended") - run["idle"]
        rows.append(
            {
                "flag": flag,
                "peak MB": peak / 1e6,
                "peak x model": peak / MODEL_BYTES,
                "target": BIG if flag == MASKED else "",
                "held between rounds x model": held / MODEL_BYTES,
                "s per round": statistics.median(run["rounds"]),
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
