"""Why a hospital does not take part in a run: one sentence for each limit of its policy."""

from datetime import time
from pathlib import Path
from typing import Any

import pytest

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.run_policy import require_able, require_allowed, require_split, run_name
from fedhealth.client.split_memory import SplitMemory
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.service import ServicePolicy
from tests.support.hospital_apps import TRAINERS
from tests.support.hospital_files import write_hospitals

NOON = time(12)


def config(**settings: Any) -> dict[str, Any]:
    return {**FederationSettings(**settings).to_run_config(), "run": "spring"}


@pytest.mark.parametrize(
    ("policy", "settings", "reason"),
    [
        (ServicePolicy(max_rounds=9), {"rounds": 10}, "it has 10 rounds, the policy allows 9 (max-rounds)"),
        (
            ServicePolicy(strategies=("fedavg", "fedprox")),
            {"strategy": "scaffold"},
            "its strategy is scaffold, the policy allows fedavg, fedprox (strategies)",
        ),
        (
            ServicePolicy(require_privacy=True),
            {},
            "it has no differential privacy, the policy requires it (require-privacy)",
        ),
        (
            ServicePolicy(require_secure_aggregation=True),
            {},
            "it has no secure aggregation, the policy requires it (require-secure-aggregation)",
        ),
        (
            ServicePolicy(max_run_epsilon=3),
            {"dp_epsilon": 4.0},
            "its epsilon is 4, the policy allows 3 (max-run-epsilon)",
        ),
        (
            ServicePolicy(max_run_epsilon=3),
            {"dp_noise": 1.0},
            "it states no epsilon (dp-epsilon), the policy allows 3 at most (max-run-epsilon)",
        ),
        (ServicePolicy(hours="20:00-06:00"), {}, "it is 12:00, runs may begin within 20:00-06:00 (hours)"),
    ],
)
def test_a_run_beyond_a_limit_is_refused_with_both_numbers(
    policy: ServicePolicy, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RunError) as caught:
        require_allowed(policy, config(**settings), NOON)
    assert str(caught.value) == reason


def test_a_run_within_all_limits_is_allowed() -> None:
    policy = ServicePolicy(None, True, True, 3.0, 30, ("fedavg",), "08:00-18:00")
    require_allowed(policy, config(dp_epsilon=3.0, rounds=30, secure_aggregation=True), NOON)


def test_a_run_that_has_begun_goes_on_at_any_hour() -> None:
    require_allowed(ServicePolicy(hours="20:00-06:00"), config(), None)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RunError, match="the server's settings are invalid: --rounds is 0"):
        require_allowed(ServicePolicy(), {**config(), "rounds": 0}, NOON)


@pytest.mark.parametrize("name", [None, 3, "", "../../etc", "a b", ".hidden", "x" * 61])
def test_a_name_that_could_be_a_path_is_no_name_of_a_run(name: Any) -> None:
    with pytest.raises(RunError, match="no valid name"):
        run_name({"run": name} if name is not None else {})
    assert run_name({"run": "2026-spring_1.0"}) == "2026-spring_1.0"


def test_a_second_split_is_refused_with_the_number_that_is_allowed() -> None:
    splits = SplitMemory(1)
    splits.remember(config())
    require_split(splits, config(rounds=7))
    with pytest.raises(RunError, match=r"another split .* the policy allows 1 \(splits\)"):
        require_split(splits, config(seed=1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_hospitals(tmp_path / "data", 240)["synthetic-cleveland"]


def test_a_hospital_without_enough_patients_does_not_join(tmp_path: Path) -> None:
    small = write_hospitals(tmp_path / "data", 130)["synthetic-switzerland"]
    with pytest.raises(RunError, match="too few patients"):
        require_able(HospitalData.from_csv(small, TRAINERS), config(test_share=0.5))


def test_a_hospital_that_wants_privacy_joins_no_run_without_it(file: Path) -> None:
    hospital = HospitalData.from_csv(file, TRAINERS, None, HospitalLimits(max_epsilon=10))
    with pytest.raises(RunError, match=r"takes part only with it \(--max-epsilon\)"):
        require_able(hospital, config())


def test_the_budget_of_all_runs_decides_before_a_run_is_joined(file: Path) -> None:
    hospital = HospitalData.from_csv(file, TRAINERS, None, HospitalLimits(max_epsilon=4))
    private = config(dp_epsilon=3.0, rounds=1)
    require_able(hospital, private)
    hospital.ledger.charge_test("seed 0, test share 0.25", 3.0)
    with pytest.raises(RunError, match="privacy budget is too small"):
        require_able(hospital, {**private, "run": "second"})


def test_two_runs_with_the_same_settings_are_charged_as_two_and_an_interrupted_one_once(file: Path) -> None:
    hospital, private = HospitalData.from_csv(file, TRAINERS), config(dp_epsilon=3.0, rounds=1)
    sessions = [
        hospital.open_dp_session(hospital.participation({**private, "run": run}))
        for run in ("first", "second", "first")
    ]
    assert sessions[0] is sessions[2]
    assert sessions[0] is not sessions[1]
