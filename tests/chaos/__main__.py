"""`make chaos`: injects a seeded schedule of faults into a real federation and reports the result.

Every round needs every hospital, so a fault may delay the run and nothing else: the final weights must be bit for bit those
of an undisturbed run.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedhealth.common.runtime_env import quiet_libraries
from tests.chaos.federation import HOSPITALS, Federation, SecuredFederation, harms_of, make_files
from tests.chaos.service import (
    RUNS,
    SERVICE_HARMS,
    SecuredServiceFederation,
    ServiceFederation,
    plan_service,
)

ROUNDS_PER_FAULT = 40
"""Long enough that the run does not end before its last fault."""


def make_schedule(harms: Sequence[str], faults: int, seed: int) -> list[tuple[str, int]]:
    """(harm, hospital) for each fault: every kind in turn, shuffled, before any comes again."""
    chance, schedule = random.Random(seed), list[tuple[str, int]]()
    while len(schedule) < faults:
        kinds = list(harms)
        chance.shuffle(kinds)
        schedule += [(kind, chance.randrange(len(HOSPITALS))) for kind in kinds]
    return schedule[:faults]


def run(
    folder: Path, schedule: Sequence[tuple[str, int]], rounds: int, seed: int, kind: type[Federation] = Federation
) -> Federation:
    """One run from the first hospital to the final model, or the runs of a service, with these faults."""
    federation = kind(folder, rounds, seed)
    try:
        for number, (harm, hospital) in enumerate(schedule, 1):
            federation.wait_for_rounds(3)
            assert federation.last_round() < federation.rounds, f"the run was over before fault {number}"
            started = time.monotonic()
            getattr(federation, f"harm_{harm}")(hospital)
            federation.wait_for_rounds(1)
            took = time.monotonic() - started
            print(f"fault {number:>3}: {harm} ({HOSPITALS[hospital]}), next round after {took:.1f} s", flush=True)
        if not schedule:
            watch_memory(federation)
        federation.end()
    except AssertionError:
        for process in federation.logs:
            print("\n".join(["", " ".join(map(str, process.process.args)), *process.lines[-12:]]), flush=True)
        raise
    finally:
        federation.close()
    return federation


def watch_memory(federation: Federation) -> None:
    """Print how much memory an undisturbed run gains between a quarter and nine tenths of its rounds."""
    before, places = {}, (federation.rounds // 4, federation.rounds * 9 // 10)
    for place in places:
        federation.server.wait_until(lambda _, place=place: federation.last_round() >= place, f"round {place}")
        for who, megabytes in federation.memory().items():
            print(
                f"memory of the {who} at round {place}: {megabytes:.1f} MB ({megabytes - before.get(who, megabytes):+.1f})"
            )
            before[who] = megabytes


def judge(storm: Federation, expected: Mapping[str, np.ndarray]) -> tuple[int, int, int]:
    """(lost rounds, wrong weights, admitted intruders) of a run with faults, compared with an undisturbed one."""
    found = storm.weights()
    wrong = sum(not np.array_equal(weights, found[name]) for name, weights in expected.items())
    return storm.lost_rounds(), wrong, storm.admitted_strangers


def main() -> int:
    """Exit code 1 if a single round, weight or stranger is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--service", action="store_true", help=f"a service that works through {len(RUNS)} runs")
    parser.add_argument(
        "--secure-aggregation", action="store_true", help="faults in a masked run, compared with one in the clear"
    )
    flags = parser.parse_args()
    quiet_libraries()
    kind: type[Federation] = ServiceFederation if flags.service else Federation
    rounds = max(flags.faults * ROUNDS_PER_FAULT, 20)
    if flags.service:
        rounds //= len(RUNS)
        schedule = plan_service(make_schedule(SERVICE_HARMS, flags.faults - len(RUNS) + 1, flags.seed))
    else:
        schedule = make_schedule(harms_of(Federation), flags.faults, flags.seed)
    with tempfile.TemporaryDirectory(prefix="fedhealth-chaos-") as name:
        calm, storm = Path(name) / "calm", Path(name) / "storm"
        make_files(calm)
        shutil.copytree(calm, storm)
        expected = run(calm, [], rounds, flags.seed, kind).weights()
        if flags.secure_aggregation:
            kind = SecuredServiceFederation if flags.service else SecuredFederation
        lost, wrong, admitted = judge(run(storm, schedule, rounds, flags.seed, kind), expected)
    print(
        f"faults injected {len(schedule)} / rounds lost {lost} / wrong results {wrong} / strangers admitted {admitted}"
    )
    return 1 if lost or wrong or admitted else 0


if __name__ == "__main__":
    sys.exit(main())
