"""`python -m fedhealth simulate`: runs a whole federation on this machine and writes an ordinary run folder."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.errors import UsageError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.config.simulate import SimulateSettings

if TYPE_CHECKING:
    from fedhealth.client.batch.hospitals import BatchHospitals
    from fedhealth.data.schema import Schema
    from fedhealth.server.events import OnEvent
    from fedhealth.server.run_writer import RunWriter
    from fedhealth.transport.in_process import HospitalApps, InProcessGrid
    from fedhealth.transport.process_pool import WorkersGrid

ENGINES = {
    "numpy": "numpy (all hospitals in arrays; the scripts' weights to 1e-6)",
    "keras": "keras (hospital by hospital; the scripts' weights bit for bit)",
}
LONGEST_WAIT = 60.0
"""Seconds to wait for space on a full disk at the end; simulated hospitals are never waited for."""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Open a run folder, run the federation, and write its files and report."""
    settings = parse_flags(SimulateSettings, argv, program="python -m fedhealth simulate")
    quiet_libraries()
    from fedhealth.client.virtual import check_hospital_files
    from fedhealth.data.schema_file import load_schema
    from fedhealth.reporting.console.screen import ServerConsole
    from fedhealth.reporting.html.pages import write_report
    from fedhealth.server.run_directory import new_run_folder
    from fedhealth.server.run_writer import FolderWriter

    federation, schema = settings.federation(count_hospitals(settings)), load_schema(settings.schema)
    if settings.data:
        check_hospital_files(settings.data, federation.hospitals, schema)
    engine = choose_engine(settings)
    link = f"none: simulated, {engine} engine, {settings.processes} processes"
    say(f"engine: {ENGINES[engine]}")
    with new_run_folder(settings.out) as folder, contextlib.closing(ServerConsole(say, pace=True)) as console:
        # No checkpoints: a simulation is started again rather than resumed.
        writer = FolderWriter(folder, 0, LONGEST_WAIT, warn, link)
        run = run_in_blocks if engine == "numpy" else run_one_by_one
        run(settings, federation, schema, writer, console.show)
    if not federation.feasibility:
        write_report(folder)
        say(f"report: {folder / 'report.html'}")
    say(f"run folder: {folder}")


def choose_engine(settings: SimulateSettings) -> Literal["numpy", "keras"]:
    """The engine that was asked for; by default the faster one if it can."""
    if settings.engine != "auto":
        return settings.engine
    return "keras" if settings.needs_keras() else "numpy"


def run_one_by_one(
    settings: SimulateSettings,
    federation: FederationSettings,
    schema: "Schema",
    writer: "RunWriter",
    listener: "OnEvent",
) -> None:
    """Run the federation with a Keras model in every hospital, message by message."""
    from fedhealth.server.app import make_server_app

    with opened_grid(settings, federation) as grid:
        app = make_server_app(listener, writer=writer, max_wait=LONGEST_WAIT, schema=schema)
        app(grid, grid.context)


def run_in_blocks(
    settings: SimulateSettings,
    federation: FederationSettings,
    schema: "Schema",
    writer: "RunWriter",
    listener: "OnEvent",
) -> None:
    """Run the federation with all hospitals of a process in NumPy arrays."""
    from flwr.clientapp import ClientApp

    from fedhealth.server.batch_run import federate_batch
    from fedhealth.transport.in_process import InProcessGrid
    from fedhealth.transport.process_calls import CallsHere, calls_elsewhere

    grid = InProcessGrid({"all hospitals": ClientApp()}, federation.to_run_config())
    processes = min(settings.processes, federation.hospitals)
    shares = [range(first, federation.hospitals, processes) for first in range(processes)]
    makers = [partial(make_batch, share, settings.source(), federation, processes) for share in shares]
    with calls_elsewhere(makers) if processes > 1 else contextlib.nullcontext(CallsHere(makers[0]())) as calls:
        federate_batch(calls, grid, federation, schema, writer, listener)


def make_batch(
    numbers: Sequence[int], source: EngineSettings, settings: FederationSettings, processes: int
) -> "BatchHospitals":
    """The hospitals with these numbers, as one of so many processes has them."""
    quiet_libraries()
    from fedhealth.client.batch.hospitals import MOST_HASHED, BatchHospitals
    from fedhealth.client.batch.source import ROOM, BlockSource

    blocks = BlockSource(numbers, source, settings, room=ROOM / processes)
    return BatchHospitals(blocks, settings, hashes=settings.hospitals <= MOST_HASHED)


def count_hospitals(settings: SimulateSettings) -> int:
    """How many hospitals are available; raises a `UsageError` if --hospitals is more than the files in --data."""
    from fedhealth.client.virtual import list_hospital_files
    from fedhealth.config.simulate import USUAL_HOSPITALS

    if settings.data is None:
        return USUAL_HOSPITALS
    files = len(list_hospital_files(settings.data))
    if settings.hospitals > files:
        raise UsageError(
            f"--hospitals is {settings.hospitals}, but {settings.data} has {files} CSV files; leave --hospitals out"
        )
    return files


@contextlib.contextmanager
def opened_grid(settings: SimulateSettings, federation: FederationSettings) -> "Iterator[InProcessGrid | WorkersGrid]":
    """A grid of the hospitals in this process, or distributed over several processes."""
    from fedhealth.client.virtual import virtual_names
    from fedhealth.transport.in_process import InProcessGrid
    from fedhealth.transport.process_pool import working_grid

    count, run_config = federation.hospitals, federation.to_run_config()
    load = partial(load_hospitals, count, settings.source(), federation.seed)
    if settings.processes == 1:
        yield InProcessGrid(load(), run_config)
    else:
        with working_grid(load, virtual_names(count), run_config, min(settings.processes, count)) as grid:
            yield grid


def load_hospitals(count: int, engine: EngineSettings, seed: int) -> "HospitalApps":
    """The hospitals of a simulation, with TensorFlow imported; called once in every process that has hospitals."""
    quiet_libraries()
    from fedhealth.client.trainers import Trainers
    from fedhealth.client.virtual import VirtualHospitals, VirtualSource

    trainers = Trainers()
    with silenced_stderr():
        trainers.load()
    return VirtualHospitals(count, VirtualSource(engine, seed, trainers))
