"""Encoding by hand-made patients, and moments of a federation against those of the pooled rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedhealth.data.preprocessing import (
    Moments,
    Standardisation,
    combine_means,
    combine_standardisation,
    encode,
    encoded_names,
    first_moments,
    local_standardisation,
    reference_standardisation,
    second_moments,
    standardise,
)
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART

NUM_NUMBERS = len(HEART.numbers)

repeatable = settings(derandomize=True, deadline=None)
NAN = math.nan
NUMBER_PLACES = [FEATURE_NAMES.index(column.name) for column in HEART.numbers]
PATIENT = {
    "age": 61,
    "sex": 1,
    "cp": 4,
    "trestbps": 145,
    "chol": 233,
    "fbs": 0,
    "restecg": 2,
    "thalach": 131,
    "exang": 1,
    "oldpeak": 2.5,
    "slope": 2,
    "ca": 3,
    "thal": 7,
}


def make_features(*patients: dict[str, float]) -> NDArray[np.float64]:
    """(num_patients, 13) from dictionaries; what is not named is as in `PATIENT`."""
    return np.array([[{**PATIENT, **patient}[name] for name in FEATURE_NAMES] for patient in patients], np.float64)


def from_numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(num_patients, 13) with these numbers, (num_patients, 6), and the categories of `PATIENT`."""
    features = np.repeat(make_features({}), len(values), axis=0)
    features[:, NUMBER_PLACES] = values
    return features


def federated_standardisation(hospitals: list[NDArray[np.float64]]) -> Standardisation:
    means = combine_means([first_moments(HEART, features) for features in hospitals])
    return combine_standardisation(means, [second_moments(HEART, features, means) for features in hospitals])


# --- moments ----------------------------------------------------------------------------------------------------------

values = st.one_of(st.just(NAN), st.floats(-300, 300, width=32))


@repeatable
@given(
    st.lists(st.tuples(st.lists(values, min_size=6, max_size=6), st.integers(0, 3)), min_size=1, max_size=40),
    st.sampled_from([0.0, 1.0, 1e6]),
)
def test_a_federation_finds_the_moments_of_the_pooled_rows(
    patients: list[tuple[list[float], int]], offset: float
) -> None:
    numbers = np.array([row for row, _ in patients]) + offset
    hospital = np.array([place for _, place in patients])
    found = federated_standardisation([from_numbers(numbers[hospital == each]) for each in range(4)])
    for place in range(NUM_NUMBERS):
        known = numbers[~np.isnan(numbers[:, place]), place]
        mean = math.fsum(known) / len(known) if len(known) else 0.0
        spread = math.sqrt(math.fsum((known - mean) ** 2) / len(known)) if len(known) else 0.0
        assert found.means[place] == pytest.approx(mean, rel=1e-12, abs=1e-12 * 300)
        if spread > 1e-6:
            assert found.stds[place] == pytest.approx(spread, rel=1e-12, abs=1e-12 * (1 + offset))


def test_two_passes_keep_the_digits_that_one_pass_over_squares_would_lose() -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(size=(900, NUM_NUMBERS))
    large = small + 1e6
    found = federated_standardisation([from_numbers(part) for part in np.array_split(large, 4)])
    exact = [math.sqrt(math.fsum((c - math.fsum(c) / 900) ** 2) / 900) for c in large.T.tolist() for c in [np.array(c)]]
    np.testing.assert_allclose(found.stds, exact, rtol=1e-12)
    one_pass = np.sqrt(np.mean(large**2, axis=0) - np.mean(large, axis=0) ** 2)
    assert np.abs(one_pass / exact - 1).max() > 1e-9, "the offset is too small to tell one pass from two"


def test_moments_by_hand() -> None:
    cleveland = make_features({"age": 50, "chol": 200}, {"age": 60, "chol": NAN})
    budapest = make_features({"age": 70, "chol": 260})
    first = first_moments(HEART, cleveland)
    assert (first.counts[0], first.sums[0]) == (2, 110)
    assert (first.counts[2], first.sums[2]) == (1, 200)
    found = federated_standardisation([cleveland, budapest])
    assert (found.means[0], found.means[2]) == (60, 230)
    assert found.stds[0] == pytest.approx(math.sqrt(200 / 3))
    assert found.stds[2] == 30


def test_a_hospital_without_any_value_of_a_number_takes_part_all_the_same() -> None:
    without = make_features({"chol": NAN}, {"chol": NAN})
    with_values = make_features({"chol": 200}, {"chol": 240})
    assert federated_standardisation([without, with_values]).means[2] == 220
    assert federated_standardisation([without, with_values]).stds[2] == 20


def test_a_number_missing_everywhere_gets_mean_0_and_deviation_1() -> None:
    found = federated_standardisation([make_features({"ca": NAN}), make_features({"ca": NAN}, {"ca": NAN})])
    ca = [column.name for column in HEART.numbers].index("ca")
    assert (found.means[ca], found.stds[ca]) == (0.0, 1.0)


def test_a_number_that_does_not_vary_keeps_a_deviation_of_1() -> None:
    found = federated_standardisation(
        [make_features({"trestbps": 130}), make_features({"trestbps": 130}, {"trestbps": 130})]
    )
    assert (found.means[1], found.stds[1]) == (130.0, 1.0)


def test_the_rounding_of_a_mean_is_no_deviation() -> None:
    """0.1 has no exact binary form: the mean of many has a rounding error, and a division by that error would be absurd."""
    features = make_features(*[{"oldpeak": 0.1}] * 1001)
    ready = standardise(encode(HEART, features, missing_indicators=False), local_standardisation(HEART, features))
    assert local_standardisation(HEART, features).stds[4] == 1.0
    assert np.abs(ready[:, :NUM_NUMBERS]).max() < 1e-6


@pytest.mark.parametrize(("min_count", "reported"), [(1, (2, 500.0)), (2, (2, 500.0)), (3, (0, 0.0))])
def test_moments_of_few_patients_are_reported_as_of_none(min_count: int, reported: tuple[int, float]) -> None:
    features = make_features({"chol": 240}, {"chol": 260}, {"chol": NAN})
    first = first_moments(HEART, features, min_count)
    second = second_moments(HEART, features, [0.0] * NUM_NUMBERS, min_count)
    assert (first.counts[2], first.sums[2]) == reported
    assert second.counts == first.counts
    assert second.sums[2] == (240**2 + 260**2 if reported[0] else 0.0)
    assert (first.counts[0], first.sums[0]) == (3, 183.0)


def test_a_federation_whose_hospitals_all_have_few_values_has_mean_0_and_deviation_1() -> None:
    features = make_features({"chol": 240}, {"chol": NAN}, {"chol": NAN})
    means = combine_means([first_moments(HEART, features, 2)] * 2)
    found = combine_standardisation(means, [second_moments(HEART, features, means, 2)] * 2)
    assert (found.means[2], found.stds[2]) == (0.0, 1.0)


def test_moments_hold_counts_and_sums_of_the_numbers_only() -> None:
    moments = first_moments(HEART, make_features({}, {}))
    assert moments == Moments(counts=(2,) * NUM_NUMBERS, sums=(122.0, 290.0, 466.0, 262.0, 5.0, 6.0))


def test_local_standardisation_is_that_of_a_federation_of_one() -> None:
    features = make_features({"age": 40}, {"age": 60}, {"age": 50, "chol": NAN})
    assert local_standardisation(HEART, features) == federated_standardisation([features])
    assert local_standardisation(HEART, features).means[0] == 50


def test_reference_standardisation_is_the_schema_s_and_needs_no_patient() -> None:
    reference = reference_standardisation(HEART)
    assert reference.means == tuple(column.reference_mean for column in HEART.numbers)
    assert all(std > 0 for std in reference.stds)
    assert hash(reference) == hash(reference_standardisation(HEART))


# --- encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missing_indicators", "size"), [(True, 32), (False, 22)])
def test_the_names_are_as_many_as_the_columns(missing_indicators: bool, size: int) -> None:
    names = encoded_names(HEART, missing_indicators)
    assert len(names) == len(set(names)) == size
    encoded = encode(HEART, make_features({}, {}, {}), missing_indicators)
    assert encoded.shape == (3, size)
    assert encoded.dtype == np.float32
    assert encode(HEART, make_features({})[:0], missing_indicators).shape == (0, size)


def encode_by_name(patient: dict[str, float], missing_indicators: bool) -> dict[str, float]:
    (row,) = encode(HEART, make_features(patient), missing_indicators).tolist()
    return dict(zip(encoded_names(HEART, missing_indicators), row, strict=True))


COMPLETE = {
    **{"age": 61, "trestbps": 145, "chol": 233, "thalach": 131, "oldpeak": 2.5, "ca": 3},
    **{"sex=1": 1, "cp=1": 0, "cp=2": 0, "cp=3": 0, "cp=4": 1, "fbs=1": 0, "restecg=0": 0, "restecg=1": 0},
    **{"restecg=2": 1, "exang=1": 1, "slope=1": 0, "slope=2": 1, "slope=3": 0, "thal=3": 0, "thal=6": 0, "thal=7": 1},
}
MISSABLE = ("trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal")


def test_a_complete_patient_is_encoded_column_by_column() -> None:
    assert encode_by_name({}, missing_indicators=False) == COMPLETE
    assert encode_by_name({}, missing_indicators=True) == COMPLETE | {f"{name}=missing": 0 for name in MISSABLE}


def test_a_missing_category_has_no_code_and_a_missing_indicator() -> None:
    expected = COMPLETE | {"thal=7": 0, "exang=1": 0}
    assert encode_by_name({"thal": NAN, "exang": NAN}, missing_indicators=False) == expected
    with_indicators = encode_by_name({"thal": NAN, "exang": NAN}, missing_indicators=True)
    reported = {name for name in MISSABLE if with_indicators[f"{name}=missing"] == 1}
    assert reported == {"thal", "exang"}
    assert {name: with_indicators[name] for name in COMPLETE} == expected


def test_a_missing_number_stays_missing_in_encode_and_has_an_indicator() -> None:
    encoded = encode_by_name({"chol": NAN}, missing_indicators=True)
    assert math.isnan(encoded.pop("chol"))
    assert encoded["chol=missing"] == 1
    assert sum(encoded[f"{name}=missing"] for name in MISSABLE) == 1


def test_every_code_of_every_category_gives_an_encoding_of_its_own() -> None:
    for column in HEART.categories:
        rows = encode(
            HEART, make_features(*[{column.name: code} for code in (*column.codes, NAN)]), missing_indicators=True
        )
        distinct = len(column.codes) + int(column.can_be_missing)
        assert len({row.tobytes() for row in rows[:distinct]}) == distinct, column.name


# --- standardising ----------------------------------------------------------------------------------------------------


def test_standardising_moves_numbers_makes_a_missing_one_0_and_turns_0_and_1_into_minus_and_plus_1() -> None:
    encoded = encode(HEART, make_features({"age": 70, "chol": NAN}, {"age": 40, "chol": 250}), missing_indicators=True)
    before = encoded.copy()
    known = Standardisation(means=(55.0, 145.0, 200.0, 131.0, 0.5, 1.0), stds=(10.0, 5.0, 50.0, 25.0, 1.0, 0.5))
    ready = standardise(encoded, known)
    np.testing.assert_allclose(ready[:, :NUM_NUMBERS], [[1.5, 0, 0, 0, 2, 4], [-1.5, 0, 1, 0, 2, 4]])
    np.testing.assert_array_equal(ready[:, NUM_NUMBERS:], 2 * before[:, NUM_NUMBERS:] - 1)
    np.testing.assert_array_equal(encoded, before)
    assert ready.dtype == np.float32
    assert np.isfinite(ready).all()


def test_a_number_missing_everywhere_and_a_constant_one_become_0() -> None:
    features = make_features({"ca": NAN, "oldpeak": 1.5}, {"ca": NAN, "oldpeak": 1.5})
    ready = standardise(encode(HEART, features, missing_indicators=False), local_standardisation(HEART, features))
    assert np.isfinite(ready).all()
    np.testing.assert_array_equal(ready[:, :NUM_NUMBERS], 0)


def test_patients_of_a_federation_have_mean_0_and_deviation_1_together_and_not_each_hospital() -> None:
    rng = np.random.default_rng(1)
    young, old = rng.normal(40, 5, (200, NUM_NUMBERS)), rng.normal(70, 5, (100, NUM_NUMBERS))
    known = federated_standardisation([from_numbers(young), from_numbers(old)])
    ready = [standardise(encode(HEART, from_numbers(each), False), known)[:, :NUM_NUMBERS] for each in (young, old)]
    together = np.concatenate(ready)
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-5)
    assert (ready[0].mean(axis=0) < -0.5).all()
