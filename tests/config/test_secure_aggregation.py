"""What secure aggregation excludes: each with its reason, before anything is sent."""

from pathlib import Path
from typing import Any

import pytest

from fedhealth.common.errors import UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.config.scripts import ClientSettings, ServerSettings
from fedhealth.config.secure_aggregation import SUMS_ENOUGH
from fedhealth.config.service import read_policy
from fedhealth.config.simulate import SimulateSettings
from fedhealth.server.strategies.registry import STRATEGIES

SINGLE = sorted(set(STRATEGIES) - set(SUMS_ENOUGH))
SUMS = "every sum is over all hospitals; leave one out"


@pytest.mark.parametrize("hospitals", [1, 2])
def test_fewer_than_three_hospitals_are_refused(hospitals: int) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(hospitals=hospitals, secure_aggregation=True)
    assert str(caught.value) == (
        f"--secure-aggregation needs 3 hospitals or more, and --hospitals is {hospitals}: of the sum of two, each would "
        "know the other's numbers"
    )
    assert FederationSettings(hospitals=3, secure_aggregation=True).secure_aggregation


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"fraction": 0.5}, f"--fraction 0.5 and --secure-aggregation exclude each other: {SUMS}"),
        ({"min_hospitals": 3}, f"--min-hospitals 3 and --secure-aggregation exclude each other: {SUMS}"),
        ({"min_hospitals": 1}, f"--min-hospitals 1 and --secure-aggregation exclude each other: {SUMS}"),
        (
            {"dp_noise": 4.0},
            "--dp-noise and --secure-aggregation exclude each other: each hospital's epsilon would disclose its number of "
            "patients; leave one out",
        ),
        (
            {"feasibility": True},
            "--feasibility and --secure-aggregation exclude each other: it shows each hospital's counts; leave one out",
        ),
    ],
)
def test_what_is_not_a_sum_over_all_hospitals_is_refused_with_the_reason(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(secure_aggregation=True, **values)
    assert str(caught.value) == line
    assert FederationSettings(**values)


@pytest.mark.parametrize("strategy", SINGLE)
def test_a_strategy_that_needs_the_weights_of_single_hospitals_is_refused(strategy: StrategyName) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(strategy=strategy, hospitals=9, malicious=1, secure_aggregation=True)
    assert str(caught.value) == (
        f"--strategy {strategy} and --secure-aggregation exclude each other: it needs the weights of single hospitals; "
        "leave one out"
    )


def test_the_strategies_that_need_single_hospitals_are_those_that_are_known() -> None:
    assert {*SINGLE} == {"fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan", "qfedavg", "scaffold"}


@pytest.mark.parametrize("strategy", SUMS_ENOUGH)
def test_a_strategy_of_sums_is_allowed_with_all_that_works_on_sums(strategy: StrategyName) -> None:
    more = {} if strategy == "newton" else {"max_update_norm": 1.0, "class_weights": True, "patience": 2}
    assert FederationSettings(strategy=strategy, secure_aggregation=True, min_hospitals=4, **more)  # type: ignore[arg-type]


def test_it_is_allowed_under_a_guarantee_of_differential_privacy() -> None:
    assert FederationSettings(dp_epsilon=3.0, secure_aggregation=True).private


# --- the scripts ------------------------------------------------------------------------------------------------------


def test_a_server_that_others_can_reach_needs_certificates_also_with_insecure(tmp_path: Path) -> None:
    for more in ({}, {"insecure": True}):
        with pytest.raises(UsageError) as caught:
            ServerSettings(secure_aggregation=True, address="0.0.0.0:8080", **more)  # type: ignore[arg-type]
        assert "needs --tls FOLDER" in str(caught.value) or "give --tls FOLDER" in str(caught.value)
    assert str(caught.value) == (
        "--secure-aggregation on --address 0.0.0.0:8080 needs --tls FOLDER: without certificates a hospital's key could be "
        "swapped for another"
    )
    assert ServerSettings(secure_aggregation=True, address="127.0.0.1:8080")
    assert ServerSettings(secure_aggregation=True, address="0.0.0.0:8080", tls=tmp_path)


def test_pins_need_certificates(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ClientSettings(tmp_path / "client_1.csv", pin=tmp_path / "pins")
    assert str(caught.value) == "--pin needs --tls FOLDER: without certificates there is nothing to compare"
    assert ClientSettings(tmp_path / "client_1.csv", pin=tmp_path / "pins", tls=tmp_path)


def test_the_batch_engine_of_simulate_says_that_it_has_none() -> None:
    assert FederationSettings(secure_aggregation=True).to_run_config()["secure-aggregation"] is True
    with pytest.raises(
        UsageError, match=r"has no --secure-aggregation, under which every hospital masks its own numbers"
    ):
        SimulateSettings(secure_aggregation=True, engine="numpy")


def test_a_policy_can_require_it(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("require-secure-aggregation = true\n")
    assert read_policy(path, "").require_secure_aggregation
