"""100,000 and a million virtual hospitals of 50 patients on one machine, each run from its start to its report.

It is not part of `make bench`, since it takes minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.common import report
from fedhealth.cli.demo import ROOT
from fedhealth.cli.terminal import script
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries

NOTE = (
    "All hospitals are evaluated in every round. Setup includes the start of Python; the end is what follows the last round: "
    "subgroups, importance, the files and the report. Round 1 includes the preparation of the inputs, where they are kept."
)


@dataclass(frozen=True)
class VeryManySettings:
    """Time and memory of `python -m fedhealth simulate --engine numpy` with very many hospitals.

    Example: python -m benchmarks.very_many --hospitals 100000
    """

    hospitals: tuple[int, ...] = (100_000, 1_000_000)
    """How many hospitals each run has; of more than 100,000 one in a hundred trains in a round."""
    rounds: int = 3
    """Rounds of each run."""
    quick: bool = False
    """5,000 hospitals: a check that it works."""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Measure each run, report."""
    settings = tyro.cli(VeryManySettings, args=argv)
    quiet_libraries()
    numbers = (5000,) if settings.quick else settings.hospitals
    rows = [measure(number, 0.01 if number > 100_000 else 1.0, settings.rounds) for number in numbers]
    title = "Very many synthetic hospitals of 50 patients in one process (NumPy engine), one epoch per round"
    report("very_many", title, tuple(rows[0]), rows, note=NOTE)


def measure(hospitals: int, fraction: float, rounds: int) -> dict[str, Any]:
    """One run, from the times of the files that it writes."""
    with tempfile.TemporaryDirectory(prefix="fedhealth-very-many-") as name:
        out = Path(name) / "run"
        flags = {"hospitals": hospitals, "patients": 50, "rounds": rounds, "fraction": fraction, "out": out}
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "fedhealth", "simulate", "--engine", "numpy", *words]
        started = time.time()
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, status, use = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.time()
        if process.returncode:
            raise RunError(f"{hospitals:,} hospitals: exit code {process.returncode}")
        setup, last = ((out / file).stat().st_mtime for file in ("settings.json", "history.jsonl"))
        size = sum(file.stat().st_size for file in out.iterdir())
        with (out / "history.jsonl").open(encoding="utf-8") as lines:
            seconds = [json.loads(line)["seconds"] for line in lines]
    return {
        "hospitals": hospitals,
        "train in a round": round(fraction * hospitals),
        "setup s": setup - started,
        "round 1 s": seconds[0],
        "slowest later round s": max(seconds[1:], default=None),
        "end s": ended - last,
        "whole run s": ended - started,
        "CPU s": use.ru_utime + use.ru_stime,
        "peak MB": use.ru_maxrss * 1024 / 1e6,
        "run folder MB": size / 1e6,
    }


if __name__ == "__main__":
    sys.exit(main())
