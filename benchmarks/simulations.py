"""Many virtual hospitals on one machine: `python -m fedhealth simulate` beside `flwr run` on Ray and beside FedJAX.

Each is started as a user starts it, and its times are read from its run folder: one line of history.jsonl per round.
The first round is not counted, since it includes sampling the hospitals and tracing functions.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro

from benchmarks import superlink
from benchmarks.common import family, free_port, report
from benchmarks.fedjax_rounds import run_fedjax
from fedhealth.cli.demo import ROOT
from fedhealth.cli.terminal import script
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries

RAY = "flwr run, Ray"
PATIENTS = 100
NOTE = (
    "Memory and CPU are summed over all processes (shared memory counts once), early (after two or more rounds) and late "
    "(just before the end); CPU seconds are comparable even if other programs run at the same time. The whole run includes "
    "the start; on Ray also `flwr run` itself and the SuperLink. FedJAX trains the same patients, without evaluation "
    "and without a run folder."
)
LONGEST_RUN = 1800.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class SimulationsSettings:
    """Hospital-rounds per second and memory: our simulation and Flower's, with the same apps, settings and hospitals.

    Example: python -m benchmarks.simulations --hospitals 200 --rounds 20
    """

    hospitals: int = 200
    """How many hospitals, of 100 patients each."""
    rounds: int = 20
    """Rounds of each run of our Keras engine, one epoch each."""
    numpy_rounds: int = 1000
    """Rounds of each run of our NumPy engine."""
    fedjax_rounds: int = 50
    """Rounds of the run of FedJAX, in an environment that is made for it (0: leave it out)."""
    ray_rounds: int = 50
    """Rounds of each run on Ray (0: leave Ray out)."""
    quick: bool = False
    """Few hospitals, few rounds: a check that it works."""


@dataclass(frozen=True)
class Measured:
    """A run: seconds of its rounds and in total; memory (MB) and CPU seconds of its processes after some rounds."""

    seconds: list[float]
    use: dict[int, tuple[float, float]]
    whole: float


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Run each engine with evaluation only after the last round and in every round, report."""
    settings = tyro.cli(SimulationsSettings, args=argv)
    if settings.quick:
        settings = replace(
            settings, hospitals=40, rounds=5, numpy_rounds=100, fedjax_rounds=min(settings.fedjax_rounds, 5)
        )
        settings = replace(settings, ray_rounds=min(settings.ray_rounds, 5))
    if settings.ray_rounds and not find_spec("ray"):
        print("no Ray here (pip install -r requirements-simulation.txt): only our own engine is measured", flush=True)
    quiet_libraries()
    rows: list[dict[str, Any]] = []
    for evaluate_every in (0, 1):
        for engine, rounds in (("numpy", settings.numpy_rounds), ("keras", settings.rounds)):
            for processes in (1, 2):
                name = f"simulate, {engine}, {processes} process{'es' * (processes > 1)}"
                measured = simulate(settings.hospitals, rounds, evaluate_every, engine, processes)
                rows.append(make_row(name, evaluate_every, settings.hospitals, measured))
                print(f"{name}: {rows[-1]['hospital-rounds per s']:.0f} hospital-rounds a second", flush=True)
        if settings.fedjax_rounds and not evaluate_every:
            rows += fedjax_rows(settings)
        if settings.ray_rounds and find_spec("ray"):
            rows.append(make_row(RAY, evaluate_every, settings.hospitals, run_on_ray(settings, evaluate_every)))
    title = f"{settings.hospitals} synthetic hospitals of 100 patients on one machine, one epoch per round"
    report("simulations", title, tuple(rows[0]), rows, note=NOTE)


def make_row(name: str, evaluate_every: int, hospitals: int, measured: Measured) -> dict[str, Any]:
    """The first round is left out, and the last one if it is the only one with an evaluation."""
    usual = measured.seconds[1:-1] if evaluate_every == 0 else measured.seconds[1:]
    early, late = min(measured.use), max(measured.use)
    (early_mb, early_cpu), (late_mb, late_cpu) = measured.use[early], measured.use[late]
    return {
        "engine": name,
        "evaluates": "every round" if evaluate_every else "at the end",
        "rounds": len(measured.seconds),
        "hospital-rounds per s": hospitals / statistics.median(usual),
        "round, median s": statistics.median(usual),
        "whole run s": measured.whole,
        "per CPU second": hospitals * (late - early) / (late_cpu - early_cpu) if late > early else None,
        "MB early": early_mb,
        "MB late": late_mb,
    }


def fedjax_rows(settings: SimulationsSettings) -> list[dict[str, Any]]:
    """FedJAX's row; none if it cannot be installed here."""
    seconds = run_fedjax(settings.hospitals, PATIENTS, settings.fedjax_rounds)
    if seconds is None:
        return []
    median = statistics.median(seconds[1:])
    row = {"engine": "FedJAX 0.0.17", "evaluates": "never", "rounds": len(seconds)}
    return [{**row, "hospital-rounds per s": settings.hospitals / median, "round, median s": median}]


def simulate(hospitals: int, rounds: int, evaluate_every: int, engine: str, processes: int) -> Measured:
    """One of our engines."""
    flags = {"hospitals": hospitals, "rounds": rounds, "evaluate-every": evaluate_every, "engine": engine}
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory(prefix="fedhealth-simulate-") as name:
        out = Path(name) / "run"
        command = [Path(sys.executable).name, "-m", "fedhealth", "simulate", *words]
        command += ["--processes", str(processes), "--out", str(out)]
        started = time.perf_counter()
        with superlink.running(command, Path(name), {"PYTHONPATH": str(ROOT)}) as process:
            return watch(process, out, rounds, started)


def run_on_ray(settings: SimulationsSettings, evaluate_every: int) -> Measured:
    """Flower's engine: a SuperLink that simulates, and `flwr run`; each core is an actor that takes hospital by hospital."""
    config = {"hospitals": settings.hospitals, "rounds": settings.ray_rounds, "evaluate-every": evaluate_every}
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="fedhealth-ray-") as name:
        out = Path(name) / "run"
        (Path(name) / "config.toml").write_text(superlink.CONNECTION.format(port=port), encoding="utf-8")
        environment = {"FLWR_HOME": name, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = ["flower-superlink", "--insecure", "--simulation", "--port", str(port)]
        started = time.perf_counter()
        with superlink.running(
            [*command, "--disable-runtime-dependency-installation"], Path(name), environment
        ) as process:
            federation = f"num-supernodes={settings.hospitals} client-resources-num-cpus=1"
            words = " ".join([*(f"{key}={value}" for key, value in config.items()), f'out="{out}"'])
            flags = ["--federation-config", federation, "--run-config", words]
            superlink.submit(environment, str(ROOT), "local", *flags)
            return watch(process, out, settings.ray_rounds, started)


def watch(process: "subprocess.Popen[bytes]", out: Path, rounds: int, started: float) -> Measured:
    """Follow a run to its end by the files that it writes."""
    use: dict[int, tuple[float, float]] = {}
    history, summary = out / "history.jsonl", out / "summary.json"
    while not summary.exists():
        done = len(history.read_text(encoding="utf-8").splitlines()) if history.exists() else 0
        if done > 1:
            use[done] = measure_use(process.pid)
        if (process.poll() is not None and not summary.exists()) or time.perf_counter() - started > LONGEST_RUN:
            log = next(out.parent.glob("*.log")).read_text(encoding="utf-8", errors="replace")
            raise RunError(f"{out.parent.name}: {done} of {rounds} rounds; {log[-500:]}")
        time.sleep(POLL_SECONDS)
    lines = history.read_text(encoding="utf-8").splitlines()
    return Measured([json.loads(line)["seconds"] for line in lines], use, time.perf_counter() - started)


def measure_use(pid: int) -> tuple[float, float]:
    """(MB, CPU seconds) of a process and all that it started; memory that several share counts once (Pss)."""
    kib, ticks = 0, 0
    for each in family(pid):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            folder = Path(f"/proc/{each}")
            kib += int((folder / "smaps_rollup").read_text(encoding="utf-8").partition("\nPss:")[2].split()[0])
            ticks += sum(map(int, (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]))
    return kib * 1024 / 1e6, ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
