"""A round of Newton's method beside one of FedAvg, four hospitals in one process, and how its cost grows with the inputs.

Runs of both are made in turns with the same apps and patients. A round is the time between two records of a run: an
aggregation, and an exchange that trains and evaluates. The last, which evaluates alone, is not counted.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.clientapp import ClientApp

from benchmarks.common import report, summarise
from fedhealth.cli.terminal import script
from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.trainers import Trainers
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.models.newton_sums import pack_hessian, sum_newton, with_ones
from fedhealth.server.app import federate
from fedhealth.server.events import Event, RunFinished
from fedhealth.server.strategies.newton import Newton
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity, set_message_id
from fedhealth.transport.protocol.newton import GRADIENT, HESSIAN
from fedhealth.transport.protocol.training import TrainReply, encode_train_reply

ROUNDS = 6
HOSPITALS, PATIENTS = 4, 200
STRATEGIES: tuple[StrategyName, ...] = ("fedavg", "newton")
TARGET = "median <= 1.5 times FedAvg's"
SIZES = (32, 100, 300, 1000, 2000)
TIMES = 5


@dataclass(frozen=True)
class NewtonRoundsSettings:
    """Rounds of newton and FedAvg in turns, and newton's work and bytes by the number of inputs.

    Example: python -m benchmarks.newton_rounds --quick
    """

    repetitions: int = 30
    """Runs of each strategy, in turns."""
    quick: bool = False
    """Only 5 runs of each."""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Run both in turns, then newton's parts by the number of inputs; report."""
    settings = tyro.cli(NewtonRoundsSettings, args=argv)
    quiet_libraries()
    set_identity(SERVER_NODE_ID)
    with tempfile.TemporaryDirectory(prefix="fedhealth-newton-") as folder, silenced_stderr():
        seconds = time_runs(Path(folder), 5 if settings.quick else settings.repetitions)
    usual = summarise(seconds["fedavg"])["median ms"]
    rows = [
        {"round": name, **summarise(each), "times": summarise(each)["median ms"] / usual, "rounds": len(each)}
        for name, each in seconds.items()
    ]
    rows[-1]["target"] = TARGET
    title = "A round of FedAvg and of newton, four hospitals in one process"
    report("newton_rounds", title, ["round", "median ms", "p95 ms", "times", "rounds", "target"], rows)
    grown = [measure_size(inputs) for inputs in SIZES[: 3 if settings.quick else None]]
    title = f"Newton's sums of {PATIENTS} patients and the server's step of {HOSPITALS} hospitals"
    report("newton_sizes", title, list(grown[0]), grown)


def time_runs(folder: Path, repetitions: int) -> dict[str, list[float]]:
    """Seconds of the rounds by strategy; one run of each before is not counted."""
    from benchmarks.our_processes import make_hospitals

    trainers, limits = Trainers(), HospitalLimits(min_count=1)
    files = make_hospitals(folder)
    apps = {path.stem: make_client_app(HospitalData.from_csv(path, trainers, path.stem, limits)) for path in files}
    seconds: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    for repetition in range(repetitions + 1):
        for name in STRATEGIES:
            timed = run(apps, name)
            seconds[name] += timed if repetition else []
    return seconds


def run(apps: Mapping[str, ClientApp], strategy: StrategyName) -> list[float]:
    """Seconds of each round of one run but the last."""
    settings = FederationSettings(
        hospitals=len(apps), strategy=strategy, rounds=ROUNDS, min_count=1, subgroups=False, importance=False
    )
    events: list[Event] = []
    ends: list[float] = []

    def note(event: Event) -> None:
        events.append(event)
        ends.append(time.perf_counter())

    federate(InProcessGrid(apps, settings.to_run_config()), settings, note, max_wait=1.0)
    if not isinstance(events[-1], RunFinished):
        raise ValueError("a run has not finished")
    return [float(each) for each in np.diff(ends[-1 - len(events[-1].rounds) : -1])[:-1]]


def measure_size(inputs: int) -> dict[str, float]:
    """Milliseconds of a hospital's sums and of the server's step, and the size of a reply in kB."""
    generator = np.random.default_rng(inputs)
    columns = with_ones(generator.normal(size=(PATIENTS, inputs)))
    labels = (generator.random(PATIENTS) < 0.5).astype(float)
    sums = sum_newton(np.zeros(PATIENTS), columns, labels, np.ones(PATIENTS))
    packed = pack_hessian(sums.hessian)
    content = encode_train_reply(TrainReply({GRADIENT: sums.gradient, HESSIAN: packed}, PATIENTS, sums.loss / PATIENTS))
    strategy = Newton(FederationSettings(hospitals=HOSPITALS, strategy="newton", personalise="none"))
    names = [str(number) for number in range(HOSPITALS)]
    arrays = {"kernel": Array(np.zeros((inputs, 1), np.float32)), "bias": Array(np.zeros(1, np.float32))}
    grid = InProcessGrid({name: ClientApp() for name in names}, {})
    messages = list(strategy.configure_train(1, ArrayRecord(arrays), ConfigRecord(), grid))
    for number, message in enumerate(messages):
        set_message_id(message, str(number))
    replies = [Message(content, reply_to=message) for message in messages]
    return {
        "inputs": inputs,
        "hospital ms": least(lambda: sum_newton(np.zeros(PATIENTS), columns, labels, np.ones(PATIENTS))),
        "server ms": least(lambda: strategy.aggregate_train(1, replies)),
        "reply kB": (packed.nbytes + sums.gradient.nbytes) / 1000,
    }


def least(work: Callable[[], object]) -> float:
    """The shortest of a few times, in milliseconds: on a shared machine the others are not the work's own."""
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return 1000 * min(seconds)


if __name__ == "__main__":
    sys.exit(main())
