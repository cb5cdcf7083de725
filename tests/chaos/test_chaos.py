"""A short storm in every test run; `make chaos` is the long one."""

from pathlib import Path

import numpy as np
import pytest

from fedhealth.config.federation import FederationSettings
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event, RunFinished
from fedhealth.transport.in_process import InProcessGrid
from tests.chaos.__main__ import judge, make_schedule, run
from tests.chaos.federation import HARMS, HOSPITALS, make_ground
from tests.support.hospital_apps import make_apps

pytestmark = [pytest.mark.processes, pytest.mark.enable_socket]
ROUNDS_PER_FAULT = 30
SLOW = {"stop_server_politely"}
"""Starts everybody anew, which `make chaos` has the time for."""


def calm_weights(folder: Path, rounds: int) -> dict[str, np.ndarray]:
    """The same federation without processes, network and faults."""
    config = FederationSettings(hospitals=len(HOSPITALS), rounds=rounds).to_run_config()
    files = {name: folder / "data" / f"client_{number}.csv" for number, name in enumerate(HOSPITALS, 1)}
    events: list[Event] = []
    grid = InProcessGrid(make_apps(files), config)
    make_server_app(events.append)(grid, grid.context)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    return {f"weights/{name}": array.numpy() for name, array in finished.weights.items()}


def test_every_kind_of_fault_once_and_the_weights_are_bit_for_bit_those_of_a_calm_run(tmp_path: Path) -> None:
    make_ground(tmp_path)
    harms = [harm for harm in HARMS if harm not in SLOW]
    rounds = len(harms) * ROUNDS_PER_FAULT
    storm = run(tmp_path, make_schedule(harms, len(harms), seed=1), rounds, seed=1)
    assert judge(storm, calm_weights(tmp_path, rounds)) == (0, 0, 0)
    assert "Traceback" not in "".join(process.output for process in storm.logs)
