"""Invented patients: what they look like, and that many of them have the published statistics."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.synthetic_statistics import fit as measure
from fedhealth.common.errors import UsageError
from fedhealth.data.sources import fitted
from fedhealth.data.sources.fitted import load_statistics
from fedhealth.data.sources.heart import COLUMN_NAMES, FEATURE_NAMES, FEATURES, HEART, HOSPITALS, LABEL
from fedhealth.data.sources.synthetic import sample_one, sample_patients, share_out

REAL_SIZES = {"cleveland": 303, "hungary": 294, "switzerland": 123, "va": 200}
REAL_ILL = {"cleveland": 139, "hungary": 106, "switzerland": 115, "va": 149}
REFERENCE_SDS = {column.name: column.reference_std for column in HEART.numbers}


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return sample_patients(920, seed=0)


@pytest.fixture(scope="module")
def large() -> pd.DataFrame:
    return sample_patients(20_000, seed=1)


def rows_of(table: pd.DataFrame, hospital: str, group: str) -> pd.DataFrame:
    target = fitted.GROUPS.index(group)
    return table[(table["hospital"] == f"synthetic-{hospital}") & (table["target"] == target)]


def published(kind: str) -> list[tuple[str, str, str, dict]]:
    """Every (hospital, group, column, statistics) of the table that has quantiles or counts, pooled groups left out."""
    return [
        (hospital, group, name, statistics)
        for hospital in HOSPITALS
        for group in fitted.GROUPS
        for name, statistics in load_statistics()[hospital][group].items()
        if name in fitted.COLUMNS and kind in statistics
    ]


# --- the table of patients


def test_the_same_seed_gives_the_same_patients_whatever_else_was_drawn_before(patients):
    np.random.seed(3)  # the global state is the point
    np.random.default_rng(0).normal(size=100)
    sample_patients(100, seed=5)
    pd.testing.assert_frame_equal(sample_patients(920, seed=0), patients)


def test_the_patients_of_a_seed_stay_the_same_from_version_to_version():
    table = sample_patients(40, seed=0)
    first = [47, 0, 4, 117, 258, 0, 2, 174, 0, 0, 1, 0, 3, 0, 0]
    assert table.loc[0].to_list() == [*first, "synthetic-cleveland"]
    assert table["age"].to_list()[:5] == [47, 63, 45, 54, 45]


def test_a_numbered_hospital_depends_on_its_number_and_the_seed_only():
    name, features, labels = sample_one(5, 3, seed=1)
    assert name == "synthetic-hungary-000006"
    assert features[:, :4].tolist() == [[49, 1, 3, 120], [55, 1, 4, 120], [53, 1, 3, 154]]
    assert labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(features, sample_one(5, 3, seed=1)[1])
    assert not np.array_equal(features, sample_one(9, 3, seed=1)[1], equal_nan=True)
    assert not np.array_equal(features, sample_one(5, 3, seed=2)[1], equal_nan=True)


def test_another_seed_gives_other_patients_in_every_hospital(patients):
    others = sample_patients(920, seed=1)
    for name in patients["hospital"].unique():
        ages = [table.loc[table["hospital"] == name, "age"].to_list() for table in (patients, others)]
        assert ages[0] != ages[1]


def test_the_table_has_the_canonical_columns_and_types(patients):
    assert list(patients.columns) == list(COLUMN_NAMES)
    assert {str(patients[name].dtype) for name in FEATURE_NAMES} == {"float64"}
    assert patients["num"].dtype == patients["target"].dtype == np.int64
    assert patients["hospital"].dtype == "str"
    assert list(patients.index) == list(range(920))


def test_every_hospital_says_that_it_is_invented_and_they_stand_in_order(patients):
    assert list(patients["hospital"].unique()) == [f"synthetic-{name}" for name in HOSPITALS]
    assert patients["hospital"].ne(patients["hospital"].shift()).sum() == 4


def test_920_patients_have_the_real_sizes_and_the_real_numbers_of_ill(patients):
    grouped = patients.groupby("hospital")["target"]
    assert grouped.size().to_dict() == {f"synthetic-{name}": size for name, size in REAL_SIZES.items()}
    assert grouped.sum().to_dict() == {f"synthetic-{name}": ill for name, ill in REAL_ILL.items()}


def test_patients_are_shuffled_inside_each_hospital(patients):
    for _, labels in patients.groupby("hospital")["target"]:
        assert labels.diff().abs().sum() > 2  # sorted by label it would be 1


@pytest.mark.parametrize("num_patients", [40, 41, 60, 99, 921])
def test_few_patients_still_give_every_hospital_ten_with_healthy_and_ill(num_patients):
    grouped = sample_patients(num_patients, seed=2).groupby("hospital")["target"]
    assert grouped.size().sum() == num_patients
    assert grouped.size().min() >= 10
    assert (grouped.nunique() == 2).all()


@given(st.integers(40, 10_000_000))
def test_sizes_add_up_and_keep_the_real_proportions(num_patients):
    sizes = share_out(num_patients, REAL_SIZES)
    assert sum(sizes.values()) == num_patients
    assert min(sizes.values()) >= 10
    exact = {name: num_patients * size / 920 for name, size in REAL_SIZES.items()}
    if min(exact.values()) >= 10:
        assert all(abs(sizes[name] - exact[name]) < 1 for name in sizes)


@pytest.mark.parametrize(("num_patients", "seed", "flag"), [(39, 0, "--patients is 39"), (920, -1, "--seed is -1")])
def test_too_few_patients_or_a_negative_seed_are_refused_by_name(num_patients, seed, flag):
    with pytest.raises(UsageError, match=flag):
        sample_patients(num_patients, seed)


def test_every_value_is_a_valid_code_or_in_range_and_rounded_as_people_write_it(large):
    for column in FEATURES:
        values = large[column.name].dropna()
        assert values.between(column.minimum, column.maximum).all()
        assert not column.codes or values.isin(column.codes).all()
        assert np.array_equal(values, values.round(1 if column.name == "oldpeak" else 0))
        assert not (np.signbit(values) & (values == 0)).any()  # "-0.0" in a CSV is nobody's value
        assert column.can_be_missing or len(values) == len(large)
    assert large["num"].isin(LABEL.codes).all()
    assert (large["target"] == (large["num"] > 0)).all()


def test_what_a_hospital_never_measured_stays_missing(large):
    assert large.loc[large["hospital"] == "synthetic-switzerland", "chol"].isna().all()
    assert large.loc[large["hospital"] == "synthetic-va", "ca"].isna().all()
    assert large.loc[large["hospital"] == "synthetic-cleveland"].notna().all(axis=None)


def test_the_exercise_test_goes_missing_as_a_whole_in_va(large):
    exercise = large.loc[large["hospital"] == "synthetic-va", ["trestbps", "thalach", "exang", "oldpeak"]].isna()
    assert 0.2 < exercise.all(axis=1).mean() < 0.3
    assert (exercise.all(axis=1) == exercise.any(axis=1)).all()


def test_hungary_leaves_out_the_slope_where_there_is_no_st_depression(large):
    rows = large[large["hospital"] == "synthetic-hungary"]
    assert rows.loc[rows["slope"].notna(), "oldpeak"].mean() > 3 * rows.loc[rows["slope"].isna(), "oldpeak"].mean()


def test_a_hundred_thousand_patients_take_seconds():
    started = time.perf_counter()
    assert len(sample_patients(100_000, seed=0)) == 100_000
    assert time.perf_counter() - started < 5


# --- a large sample has the statistics of the table


def test_a_large_sample_has_the_published_shares_of_codes(large):
    for hospital, group, name, statistics in published("counts"):
        values = rows_of(large, hospital, group)[name].dropna()
        total = sum(statistics["counts"].values())
        assert len(values) > 100
        for code, count in statistics["counts"].items():
            assert (values == int(code)).mean() == pytest.approx(count / total, abs=0.04), (hospital, group, name)
        assert set(values.unique()) == {float(code) for code in statistics["counts"]}


def test_a_large_sample_has_the_published_quantiles(large):
    for hospital, group, name, statistics in published("quantiles"):
        values = rows_of(large, hospital, group)[name].dropna()
        steps = len(statistics["quantiles"]) + 1
        quantiles = np.quantile(values, np.arange(1, steps) / steps)
        error = np.abs(quantiles - statistics["quantiles"]).max() / REFERENCE_SDS[name]
        assert error < 0.25, (hospital, group, name)


def test_a_large_sample_has_the_published_missing_patterns(large):
    for hospital in HOSPITALS:
        for group in fitted.GROUPS:
            patterns = fitted.find_missing_patterns(load_statistics(), hospital, group)
            shares = measure.missing_patterns(rows_of(large, hospital, group)).value_counts(normalize=True)
            assert set(shares.index) == set(patterns)
            for pattern, count in patterns.items():
                expected = count / sum(patterns.values())
                assert shares[pattern] == pytest.approx(expected, abs=0.05), (hospital, group, pattern)


@pytest.mark.parametrize("group", fitted.GROUPS)
def test_a_large_sample_measured_like_the_real_data_has_the_published_correlations(large, group):
    rows = rows_of(large, "cleveland", group)
    found, num_pairs = measure.correlate(measure.normal_scores(rows))
    expected = fitted.read_correlations(load_statistics()["cleveland"][group]["correlations"])
    differences = np.abs(found - expected)[(num_pairs > 0) & ~np.eye(len(found), dtype=bool)]
    assert len(differences) >= 13 * 12
    assert differences.max() < 0.15
    assert differences.mean() < 0.03


def test_correlations_that_do_not_fit_together_are_repaired_and_others_left_alone():
    impossible = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    repaired = fitted.make_positive_definite(impossible)
    assert np.linalg.eigvalsh(impossible)[0] < 0 < np.linalg.eigvalsh(repaired)[0]
    assert np.diag(repaired) == pytest.approx(1)
    assert np.sign(repaired).tolist() == np.sign(impossible).tolist()
    fine = np.array([[1, 0.4], [0.4, 1]])
    assert fitted.make_positive_definite(fine) == pytest.approx(fine)
