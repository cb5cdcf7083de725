"""Every kind of fault once, and a service under some of them; `make chaos` injects 200."""

import shutil
from pathlib import Path

import pytest

from tests.chaos.__main__ import judge, make_schedule, run
from tests.chaos.federation import Federation, SecuredFederation, harms_of, make_files
from tests.chaos.service import ServiceFederation, plan_service

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.enable_socket]
ROUNDS_PER_FAULT = 30
ROUNDS_PER_RUN = 60


def test_after_every_kind_of_fault_the_weights_are_bit_for_bit_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    harms = harms_of(Federation)
    rounds = len(harms) * ROUNDS_PER_FAULT
    make_files(tmp_path / "calm")
    shutil.copytree(tmp_path / "calm", tmp_path / "storm")
    expected = run(tmp_path / "calm", [], rounds, seed=1).weights()
    storm = run(tmp_path / "storm", make_schedule(harms, len(harms), seed=1), rounds, seed=1)
    assert judge(storm, expected) == (0, 0, 0)
    assert "Traceback" not in "".join(process.output for process in storm.logs)


def test_a_masked_run_under_faults_ends_with_the_weights_of_an_undisturbed_one_in_the_clear(tmp_path: Path) -> None:
    harms = (
        "kill_server",
        "kill_client",
        "terminate_server",
        "cut_all",
        "full_disk_of_client",
        "hang_client",
        "replay",
    )
    rounds = len(harms) * ROUNDS_PER_FAULT
    make_files(tmp_path / "calm")
    shutil.copytree(tmp_path / "calm", tmp_path / "storm")
    expected = run(tmp_path / "calm", [], rounds, seed=1).weights()
    schedule = make_schedule(harms, len(harms), seed=1)
    storm = run(tmp_path / "storm", schedule, rounds, 1, SecuredFederation)
    assert judge(storm, expected) == (0, 0, 0)
    assert "Traceback" not in "".join(process.output for process in storm.logs)


def test_a_service_works_through_five_runs_whatever_kills_it_and_no_weight_is_another(tmp_path: Path) -> None:
    harms = (
        "kill_server",
        "kill_client",
        "terminate_server",
        "cut_all",
        "full_disk",
        "decline_of_a_stranger",
        "no_tls",
    )
    make_files(tmp_path / "calm")
    shutil.copytree(tmp_path / "calm", tmp_path / "storm")
    expected = run(tmp_path / "calm", [], ROUNDS_PER_RUN, 1, ServiceFederation).weights()
    schedule = plan_service(make_schedule(harms, len(harms), seed=1))
    storm = run(tmp_path / "storm", schedule, ROUNDS_PER_RUN, 1, ServiceFederation)
    assert judge(storm, expected) == (0, 0, 0)
    assert "Traceback" not in "".join(process.output for process in storm.logs)
