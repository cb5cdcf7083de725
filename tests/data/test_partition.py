"""Dealing patients out to hospitals, on invented tables small enough to check."""

import subprocess
import sys
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.config.scripts import DatasetSettings
from fedhealth.data.partition import SPLITS, deal_out
from fedhealth.data.patients import ENOUGH_PATIENTS, MINIMUM_PATIENTS, UNKNOWN_HOSPITAL
from fedhealth.data.sources.heart import HEART, HOSPITALS
from tests.support.examples import examples
from tests.support.tables import sample_table

DEALING = sorted(SPLITS)

# The import of flwr-datasets imports urllib3, which asks once whether the machine has IPv6 by binding a local socket.
pytestmark = pytest.mark.filterwarnings("ignore:A test tried to use socket.socket")


def patient_numbers(hospitals: list[pd.DataFrame]) -> list[list[float]]:
    return [part["chol"].tolist() for part in hospitals]


def deal(table: pd.DataFrame, split: str, clients: int = 4, alpha: float = 0.5, seed: int = 0) -> list[pd.DataFrame]:
    return deal_out(table, HEART, split=split, clients=clients, alpha=alpha, seed=seed)


@settings(max_examples=examples(60), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    split=st.sampled_from(["natural", *DEALING]),
    sizes=st.lists(st.integers(17, 60), min_size=1, max_size=4),
    clients=st.integers(1, 12),
    alpha=st.one_of(st.sampled_from([1e-300, 1e6]), st.floats(-2, 2).map(lambda exponent: 10**exponent)),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_patient_lands_in_exactly_one_hospital_or_one_line_says_why_not(
    split: str, sizes: list[int], clients: int, alpha: float, seed: int
) -> None:
    table = sample_table(dict(zip(HOSPITALS, sizes, strict=False)), seed)
    try:
        hospitals = deal(table, split, clients, alpha, seed)
    except UsageError as error:
        assert "\n" not in str(error)
        assert "--" in str(error)
        return
    numbers = patient_numbers(hospitals)
    assert sorted(chain.from_iterable(numbers)) == table["chol"].tolist()
    assert min(map(len, numbers)) >= (MINIMUM_PATIENTS if split == "natural" else ENOUGH_PATIENTS)
    assert len(hospitals) == (len(sizes) if split == "natural" else clients)
    # Whole rows move, not single cells.
    dealt = pd.concat(hospitals).sort_values("chol").reset_index(drop=True)
    pd.testing.assert_frame_equal(dealt, table)


@pytest.mark.parametrize("split", ["natural", *DEALING])
def test_the_same_seed_deals_the_same_way_and_another_seed_another(split: str) -> None:
    table = sample_table({"cleveland": 80, "hungary": 80, "switzerland": 80, "va": 80})
    first, again, other = (patient_numbers(deal(table, split, alpha=2, seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert all(numbers != sorted(numbers) for numbers in first), "the order inside a file is drawn, too"


def test_the_natural_split_gives_each_hospital_its_own_patients_in_the_schema_s_order() -> None:
    table = sample_table({"va": 17, "switzerland": 18, "hungary": 19, "cleveland": 20})
    hospitals = deal(table, "natural")
    assert [list(part["hospital"].unique()) for part in hospitals] == [[name] for name in HOSPITALS]
    assert [len(part) for part in hospitals] == [20, 19, 18, 17]


def test_hospitals_come_by_name_with_numbers_by_their_size() -> None:
    table = sample_table({"site 10": 17, "aachen": 17, "site 9": 17, "synthetic-va": 17})
    names = [part["hospital"].iloc[0] for part in deal(table, "natural")]
    assert names == ["aachen", "site 9", "site 10", "synthetic-va"]


def test_a_source_of_one_hospital_is_split_naturally_into_that_hospital() -> None:
    (part,) = deal(sample_table({"cleveland": 100}), "natural")
    assert len(part) == 100


def test_patients_of_unknown_hospitals_cannot_be_split_naturally() -> None:
    with pytest.raises(UsageError, match="give --split iid"):
        deal(sample_table({"cleveland": 50, UNKNOWN_HOSPITAL: 50}), "natural")


def test_the_natural_split_refuses_another_number_of_clients_but_not_the_default() -> None:
    table = sample_table({"cleveland": 20, "hungary": 20, "va": 20})
    with pytest.raises(UsageError, match="--clients is 5, but this source has 3 hospitals"):
        deal(table, "natural", clients=5)
    assert len(deal(table, "natural", clients=3)) == 3
    assert len(deal(table, "natural", clients=DatasetSettings().clients)) == 3


def test_a_natural_hospital_with_too_few_patients_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"hospital va has 16 patients, fewer than 17; .* or --split iid"):
        deal(sample_table({"cleveland": 50, "va": 16}), "natural")
    with pytest.raises(UsageError, match=r"va has 16 patients, fewer than 17; give a larger source \(.*ones\)$"):
        deal(sample_table({"va": 16}), "natural")


@pytest.mark.parametrize("split", DEALING)
def test_more_hospitals_than_patients_suffice_for_are_refused_before_dealing(split: str) -> None:
    with pytest.raises(UsageError, match="--clients is 5, but 104 patients are enough for at most 4 hospitals of 21"):
        deal(sample_table({"cleveland": 104}), split, clients=5)
    with pytest.raises(UsageError, match="the source has 20 patients"):
        deal(sample_table({"cleveland": 20}), split, clients=1)


def test_iid_hospitals_are_of_equal_size_and_mixed() -> None:
    hospitals = deal(sample_table({"cleveland": 401, "va": 400}), "iid")
    assert sorted(len(part) for part in hospitals) == [200, 200, 200, 201]
    assert all(0.35 < (part["hospital"] == "va").mean() < 0.65 for part in hospitals)


def test_label_skew_makes_shares_of_ill_uneven_with_a_small_alpha_and_even_with_a_large_one() -> None:
    table = sample_table({"cleveland": 800})
    uneven = [part["target"].mean() for part in deal(table, "label-skew", alpha=0.2)]
    even = [part["target"].mean() for part in deal(table, "label-skew", alpha=1e6)]
    assert max(uneven) - min(uneven) > 0.5
    assert max(even) - min(even) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_label_skew_draws_anew_until_no_hospital_is_too_small(seed: int) -> None:
    hospitals = deal(sample_table({"cleveland": 280}), "label-skew", clients=7, alpha=0.7, seed=seed)
    assert min(len(part) for part in hospitals) >= ENOUGH_PATIENTS


def test_label_skew_that_no_draw_can_do_says_what_to_change() -> None:
    with pytest.raises(UsageError, match=r"--clients 9 and --alpha 0\.01 .* give fewer clients or a larger alpha"):
        deal(sample_table({"cleveland": 196}), "label-skew", clients=9, alpha=0.01)


def test_quantity_skew_makes_sizes_uneven_but_none_too_small() -> None:
    table = sample_table({"cleveland": 1000})
    uneven = [len(part) for part in deal(table, "quantity-skew", alpha=0.1)]
    even = [len(part) for part in deal(table, "quantity-skew", alpha=1e6)]
    assert max(uneven) > 500
    assert min(uneven) >= ENOUGH_PATIENTS
    assert max(even) - min(even) <= 4


def test_feature_skew_orders_hospitals_by_age() -> None:
    ages = [part["age"].mean() for part in deal(sample_table({"cleveland": 400}), "feature-skew")]
    assert all(older - younger > 8 for younger, older in pairwise(ages))


def test_feature_skew_refuses_patients_of_one_age() -> None:
    with pytest.raises(UsageError, match="all patients have the same age"):
        deal(sample_table({"cleveland": 84}).assign(age=54.0), "feature-skew")


def test_dealing_keeps_each_patient_s_true_hospital() -> None:
    table = sample_table({"cleveland": 60, "va": 60})
    for part in deal(table, "iid"):
        assert (part["hospital"] == np.where(part["chol"] < 60, "cleveland", "va")).all()


def test_the_natural_split_does_not_import_flwr_datasets() -> None:
    program = (
        "import sys, fedhealth.data.partition; sys.exit('flwr_datasets' in sys.modules or 'datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_redraws_of_the_partitioner_stay_silent(capfd: pytest.CaptureFixture[str]) -> None:
    deal(sample_table({"cleveland": 210}), "label-skew", clients=6, alpha=0.5)
    assert capfd.readouterr() == ("", "")
