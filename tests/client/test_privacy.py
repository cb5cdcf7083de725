"""Differential privacy without TensorFlow: noise, accounting, plans, noisy counts, and the ledger."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import chisquare, kstest, norm

from fedhealth.client.privacy.accounting import epsilon_of_steps, noise_for_epsilon
from fedhealth.client.privacy.ledger import PrivacyLedger, ledger_path, reset_ledger
from fedhealth.client.privacy.mechanisms import noisy_count, noisy_histogram
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.privacy.plan import FEWEST, make_plan
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.patients import Patients, split_patients_apart
from fedhealth.metrics.bins import BIN_EDGES, BIN_RISKS, find_edge
from fedhealth.metrics.histogram import compute_metrics, score_histogram
from tests.support.examples import examples

SPLIT = "seed 0, test share 0.25"


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
def test_a_count_s_noise_is_discrete_laplace(epsilon: float) -> None:
    noise_source = NoiseSource(seed=7)
    draws = np.array([noise_source.discrete_laplace(epsilon) for _ in range(20_000)])
    values = np.arange(-4, 5)
    share = (1 - math.exp(-epsilon)) / (1 + math.exp(-epsilon)) * np.exp(-epsilon * np.abs(values))
    seen = np.array([(draws == value).sum() for value in values])
    rest, expected_rest = len(draws) - seen.sum(), (1 - share.sum()) * len(draws)
    assert chisquare([*seen, rest], [*(share * len(draws)), expected_rest]).pvalue > 1e-3


def test_noise_on_gradients_is_standard_normal_and_independent() -> None:
    noise = NoiseSource(seed=3).gaussian((5_000, 4)).astype(np.float64)
    assert kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.06


def test_each_patient_is_sampled_independently() -> None:
    noise_source = NoiseSource(seed=1)
    chosen = np.zeros((4_000, 10))
    for row in chosen:
        row[noise_source.choose(10, 0.3)] = 1
    assert np.abs(chosen.mean(axis=0) - 0.3).max() < 0.03
    assert chosen.sum(axis=1).std() == pytest.approx(math.sqrt(10 * 0.3 * 0.7), rel=0.05)  # no fixed size
    assert np.array_equal(noise_source.choose(10, 1.0), np.arange(10))


def test_a_hospital_s_own_noise_is_never_the_same_twice() -> None:
    first, second = NoiseSource().gaussian((8,)), NoiseSource().gaussian((8,))
    assert not np.array_equal(first, second)
    assert len({NoiseSource().discrete_laplace(0.001) for _ in range(8)}) > 1


# --- accounting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "steps", "delta"), [(2.0, 1, 1e-5), (12.0, 20, 1e-3), (5.0, 9, 1e-4)])
def test_full_batches_cost_what_the_gaussian_mechanism_costs(noise: float, steps: int, delta: float) -> None:
    """Balle & Wang 2018, "Improving the Gaussian mechanism", theorem 8; steps of one direction add up to one."""
    sigma = noise / math.sqrt(steps)

    def excess(epsilon: float) -> float:
        half = 1 / (2 * sigma)
        return float(norm.cdf(half - epsilon * sigma) - math.exp(epsilon) * norm.cdf(-half - epsilon * sigma)) - delta

    exact = brentq(excess, 0, 50)
    assert exact <= epsilon_of_steps(noise, 1.0, steps, delta) <= exact + 0.02


@pytest.mark.parametrize(("noise", "rate", "delta"), [(1.0, 0.32, 1e-3), (0.6, 0.1, 1e-4), (3.0, 0.7, 1e-5)])
def test_a_sampled_step_costs_what_its_densities_say(noise: float, rate: float, delta: float) -> None:
    """The definition itself, integrated: with one patient more, the sum is a mixture of two normals instead of one."""
    place = np.linspace(-20 * noise, 1 + 20 * noise, 400_001)
    without = norm.pdf(place, 0, noise)
    with_one = (1 - rate) * without + rate * norm.pdf(place, 1, noise)

    def excess(epsilon: float) -> float:
        sides = [np.maximum(p - math.exp(epsilon) * q, 0) for p, q in ((with_one, without), (without, with_one))]
        return float(max(side.sum() for side in sides) * (place[1] - place[0])) - delta

    exact = brentq(excess, 0, 30)
    assert exact - 1e-3 <= epsilon_of_steps(noise, rate, 1, delta) <= exact + 0.01


def test_the_example_of_abadi_costs_no_more_than_they_found() -> None:
    """Section 3.2: noise 4, rate 0.01, 10,000 steps, delta 1e-5 is 1.26 by moments; loss distributions are tighter."""
    assert 0.8 < epsilon_of_steps(4.0, 0.01, 10_000, 1e-5) <= 1.26


@pytest.mark.slow
@settings(max_examples=examples(8), deadline=None, derandomize=True)
@given(st.floats(0.3, 8), st.floats(0.05, 1), st.integers(1, 200), st.sampled_from([1e-5, 1e-3]))
def test_the_noise_for_an_epsilon_is_sufficient_and_not_larger_than_needed(
    epsilon: float, rate: float, steps: int, delta: float
) -> None:
    noise = noise_for_epsilon(epsilon, rate, steps, delta)
    assert epsilon_of_steps(noise, rate, steps, delta) <= epsilon
    assert epsilon_of_steps(0.97 * noise, rate, steps, delta) > 0.97 * epsilon


def test_no_noise_is_infinite_epsilon_and_no_step_is_zero_epsilon() -> None:
    assert epsilon_of_steps(0.0, 0.5, 1, 1e-3) == math.inf
    assert epsilon_of_steps(1.0, 0.5, 0, 1e-3) == 0.0


# --- the plan of a hospital -------------------------------------------------------------------------------------------


def test_a_plan_spends_a_tenth_on_the_count_and_the_rest_on_the_steps() -> None:
    plan = make_plan(FederationSettings(dp_epsilon=2.0, dp_delta=1e-3, batch_size=64, rounds=5), 200, 0.2)
    assert (plan.rate, plan.steps, plan.epsilon, plan.count_epsilon) == (0.32, 4, 2.0, 0.2)
    assert epsilon_of_steps(plan.noise, 0.32, 20, 1e-3) <= 1.8
    assert plan.test_epsilon == 2.0


def test_a_small_hospital_takes_one_step_with_all_patients() -> None:
    plan = make_plan(FederationSettings(dp_epsilon=2.0, batch_size=64), 30, 0.2)
    assert (plan.rate, plan.steps) == (1.0, 1)


def test_with_given_noise_epsilon_is_computed() -> None:
    plan = make_plan(FederationSettings(dp_noise=6.0, dp_delta=1e-3, rounds=5), 64, 0.1)
    assert plan.noise == 6.0
    assert plan.epsilon == pytest.approx(0.1 + epsilon_of_steps(6.0, 1.0, 5, 1e-3))


def test_a_delta_above_one_over_the_number_of_patients_is_refused() -> None:
    with pytest.raises(
        RunError, match=r"--dp-delta 0\.01 is too large for about 120 training patients: give less than 0\.0083"
    ):
        make_plan(FederationSettings(dp_epsilon=2.0, dp_delta=0.01), 120, 0.2)


# --- noisy counts -----------------------------------------------------------------------------------------------------


def test_a_noisy_histogram_holds_ten_groups_and_no_exact_sum() -> None:
    risks = np.array([0.03, 0.04, 0.31, 0.49, 0.5, 0.97])
    labels = np.array([0, 0, 1, 0, 1, 1])
    noisy = noisy_histogram(
        score_histogram(risks, labels), 50.0, NoiseSource(seed=1)
    )  # so little noise that there is none
    assert {BIN_EDGES[place]: noisy.negatives[place] for place in np.flatnonzero(noisy.negatives)} == {0.05: 2, 0.45: 1}
    assert {BIN_EDGES[place]: noisy.positives[place] for place in np.flatnonzero(noisy.positives)} == {
        0.35: 1,
        0.55: 1,
        0.95: 1,
    }
    last = 1 - BIN_RISKS[find_edge(0.95)]
    assert noisy.squared_error == pytest.approx(
        2 * 0.0525**2 + 0.4525**2 + (1 - 0.3525) ** 2 + (1 - 0.5525) ** 2 + last**2
    )
    assert compute_metrics(noisy).accuracy == pytest.approx(5 / 6)  # 0.5 is an edge of the groups


@pytest.mark.slow
def test_the_noise_of_each_group_is_that_of_one_patient_more_or_less() -> None:
    empty = score_histogram(np.array([]), np.array([]))
    noise_source = NoiseSource(seed=5)
    counts = [noisy_histogram(empty, 1.0, noise_source).positives[find_edge(0.05)] for _ in range(4_000)]
    above = math.exp(-1) / (1 + math.exp(-1))  # probability that the noise is above 0; a count below 0 is sent as 0
    assert np.mean(np.array(counts) > 0) == pytest.approx(above, abs=0.03)


def test_a_noisy_count_is_near_the_true_one_and_never_tiny() -> None:
    noise_source = NoiseSource(seed=2)
    counts = [noisy_count(100, 0.5, noise_source) for _ in range(2_000)]
    assert np.mean(counts) == pytest.approx(100, abs=0.5)
    assert {noisy_count(0, 5.0, noise_source) for _ in range(50)} == {FEWEST}


# --- the split --------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(30), deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(0, 1000), st.floats(0.05, 0.5))
def test_one_more_patient_does_not_change_the_split_of_the_others(number: int, seed: int, share: float) -> None:
    generator = np.random.default_rng(number)
    features = generator.normal(size=(number, 13))
    features[0, 3] = np.nan
    everybody = Patients(features, (generator.random(number) < 0.5).astype(np.float32))
    fewer = Patients(features[:-1], everybody.labels[:-1])
    for with_last, without in zip(
        split_patients_apart(everybody, share, seed), split_patients_apart(fewer, share, seed), strict=True
    ):
        kept = with_last.features[: len(without)]
        assert np.array_equal(kept, without.features, equal_nan=True)
        assert len(with_last) - len(without) in (0, 1)


def test_about_the_test_share_is_tested_and_another_seed_tests_others() -> None:
    features = np.random.default_rng(0).normal(size=(4_000, 13))
    patients = Patients(features, np.zeros(4_000, dtype=np.float32))
    first, second = (split_patients_apart(patients, 0.25, seed)[1] for seed in (0, 1))
    assert len(first) == pytest.approx(1_000, abs=90)
    both = set(first.features[:, 0]) & set(second.features[:, 0])
    assert len(both) == pytest.approx(250, abs=60)


# --- the ledger -------------------------------------------------------------------------------------------------------

SETTINGS = FederationSettings(dp_epsilon=2.0, dp_delta=1e-3, rounds=5)
PLAN = make_plan(SETTINGS, 200, 0.2)


def spend_a_run(budget: PrivacyLedger, split: str = SPLIT) -> None:
    if budget.read_count(split) is None:
        budget.charge_count(split, 200, 0.2)
    for _ in range(5):
        budget.charge_steps(split, PLAN)
    budget.charge_test(split, PLAN.test_epsilon)


def test_a_whole_run_spends_its_epsilon_and_a_new_process_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "client_1.budget.jsonl"
    spend_a_run(PrivacyLedger(path))
    spent = PrivacyLedger(path).spent()
    assert 1.9 < spent.epsilon <= 2.0
    assert spent.delta == 1e-3
    assert PrivacyLedger(path).read_count(SPLIT) == (200, 0.2)


def test_a_second_run_adds_to_the_first(tmp_path: Path) -> None:
    budget = PrivacyLedger(tmp_path / "a.budget.jsonl")
    spend_a_run(budget)
    spend_a_run(budget)
    twice = 0.2 + epsilon_of_steps(PLAN.noise, PLAN.rate, 10 * PLAN.steps, 1e-3)
    assert budget.spent().epsilon == pytest.approx(max(twice, 4.0))  # test patients: 2.0 in each of two runs
    spend_a_run(budget, "seed 1, test share 0.25")
    assert budget.spent().epsilon == pytest.approx(max(twice, 4.0) + 2.0, abs=0.01)
    assert budget.spent().delta == 2e-3


def test_the_larger_of_training_loss_and_test_loss_counts() -> None:
    budget = PrivacyLedger()
    budget.charge_test(SPLIT, 2.0)
    budget.charge_count(SPLIT, 200, 0.2)
    assert budget.spent().epsilon == 2.0


def test_a_run_that_would_exceed_the_limit_is_refused_before_it_begins() -> None:
    budget = PrivacyLedger(limit=3.0)
    spend_a_run(budget)
    with pytest.raises(
        RunError, match=r"it has spent epsilon 2 of 3 \(--max-epsilon\), and the whole run would make it 4"
    ):
        budget.require_enough(SPLIT, PLAN, 5)


def test_the_limit_stops_a_server_that_requests_more_rounds_than_planned() -> None:
    budget = PrivacyLedger(limit=2.0)
    spend_a_run(budget)
    with pytest.raises(RunError, match="and another round would make it"):
        budget.charge_steps(SPLIT, PLAN)
    with pytest.raises(RunError, match="and an evaluation would make it"):
        budget.charge_test(SPLIT, 0.1)
    assert budget.spent().epsilon <= 2.0


def test_a_disclosure_is_on_disk_before_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = PrivacyLedger(tmp_path / "nowhere" / "a.budget.jsonl")
    with pytest.raises(RunError, match="nothing is disclosed without the ledger"):
        budget.charge_steps(SPLIT, PLAN)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        '{"kind": "steps", "split": "x"}',
        '{"kind": "test", "split": "x", "epsilon": -1.0}',
        '{"kind": "test", "split": "x", "epsilon": "1"}',
        '{"kind": "test", "split": 7, "epsilon": 1.0}',
        '{"kind": "other", "split": "x", "epsilon": 1.0}',
    ],
)
def test_a_damaged_ledger_is_never_taken_for_an_empty_one(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.budget.jsonl"
    spend_a_run(PrivacyLedger(path))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(RunError, match="line 3 is not a valid entry of a privacy budget; restore the file"):
        PrivacyLedger(path).spent()


def test_a_reset_puts_the_ledger_aside_and_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "client_1.csv"
    assert reset_ledger(file) is None
    spend_a_run(PrivacyLedger(ledger_path(file)))
    content = ledger_path(file).read_text()
    first = reset_ledger(file)
    assert first is not None and first.read_text() == content
    assert PrivacyLedger(ledger_path(file)).spent().epsilon == 0
    spend_a_run(PrivacyLedger(ledger_path(file)))
    second = reset_ledger(file)
    assert second is not None and second != first and first.exists()


def test_the_ledger_is_plain_json_that_an_auditor_can_read(tmp_path: Path) -> None:
    path = tmp_path / "a.budget.jsonl"
    spend_a_run(PrivacyLedger(path))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["kind"] for entry in entries] == ["count", *["steps"] * 5, "test"]
    assert entries[1] == {"split": SPLIT, "kind": "steps", "noise": PLAN.noise, "rate": 0.32, "delta": 1e-3, "steps": 4}
