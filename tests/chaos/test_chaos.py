"""Every kind of fault once; `make chaos` injects 200."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import judge, make_schedule, run
from tests.chaos.federation import HARMS, make_files

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.enable_socket]
ROUNDS_PER_FAULT = 30


def test_after_every_kind_of_fault_the_weights_are_bit_for_bit_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    rounds = len(HARMS) * ROUNDS_PER_FAULT
    for name in ("calm", "storm"):
        make_files(tmp_path / name)
    expected = run(tmp_path / "calm", [], rounds, seed=1).weights()
    storm = run(tmp_path / "storm", make_schedule(HARMS, len(HARMS), seed=1), rounds, seed=1)
    assert judge(storm, expected) == (0, 0, 0)
    assert "Traceback" not in "".join(process.output for process in storm.logs)
