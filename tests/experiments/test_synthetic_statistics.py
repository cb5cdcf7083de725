"""The published statistics: least counts, how they are fitted, and (with the real files) their utility and privacy."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from experiments.synthetic_statistics import __main__ as command
from experiments.synthetic_statistics import fidelity, toml_writer
from experiments.synthetic_statistics import fit as measure
from fedhealth.common.errors import UsageError
from fedhealth.data.sources import fitted
from fedhealth.data.sources.fitted import load_statistics
from fedhealth.data.sources.heart import FEATURE_NAMES, HOSPITALS
from fedhealth.data.sources.synthetic import sample_patients


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return sample_patients(920, seed=0)


@pytest.fixture(scope="module")
def real(uci_folder: Path) -> pd.DataFrame:
    return command.load_real(str(uci_folder))


# --- the file of statistics


def test_every_count_in_the_file_is_a_multiple_of_five_and_at_least_five():
    sections = [load_statistics()["all"][group] for group in fitted.GROUPS]
    sections += [section for name in HOSPITALS for section in load_statistics()[name].values()]
    counts = [count for section in sections for count in section.get("missing", {}).values()]
    for section in sections:
        for statistics in (section[name] for name in fitted.COLUMNS if isinstance(section.get(name), dict)):
            counts += [statistics["n"], *statistics.get("counts", {}).values()]
            assert statistics["n"] >= measure.FEW
            assert statistics["n"] >= 5 * (len(statistics.get("quantiles", [])) + 1)
    assert len(counts) > 200
    assert min(counts) >= 5
    assert all(count % 5 == 0 for count in counts)


def test_the_eight_healthy_swiss_have_no_statistics_of_their_own():
    swiss = load_statistics()["switzerland"]
    assert set(swiss["healthy"]) == {"patients", "correlations"}
    assert "chol" not in swiss["ends"]
    assert (
        fitted.find_column(load_statistics(), "switzerland", "healthy", "age")
        == load_statistics()["all"]["healthy"]["age"]
    )
    assert fitted.find_missing_patterns(load_statistics(), "switzerland", "healthy") == swiss["all"]["missing"]


def test_the_file_starts_with_its_header_and_names_its_command():
    text = fitted.STATISTICS_FILE.read_text(encoding="utf-8")
    assert text.startswith(toml_writer.HEADER)
    assert "python -m experiments.synthetic_statistics FOLDER" in toml_writer.HEADER
    assert max(len(line) for line in text.splitlines()) <= 180


def test_every_section_has_known_columns_and_a_full_triangle_of_correlations():
    for hospital in HOSPITALS:
        for group in fitted.GROUPS:
            section = load_statistics()[hospital][group]
            assert set(section) <= {*fitted.COLUMNS, "patients", "missing", "correlations"}
            assert list(section["correlations"]) == [*fitted.COLUMNS[1:], "missing"]
            assert [len(row) for row in section["correlations"].values()] == list(range(1, 15))
            assert max(abs(r) for row in section["correlations"].values() for r in row) <= 0.95
            repaired = fitted.read_correlations(section["correlations"])
            assert np.linalg.eigvalsh(repaired)[0] > 0


def test_fitted_statistics_are_equal_after_writing_and_reading(patients, tmp_path):
    derived = measure.fit_statistics(patients)
    toml_writer.write_statistics(derived, tmp_path / "fitted.toml")
    assert tomllib.loads((tmp_path / "fitted.toml").read_text(encoding="utf-8")) == derived
    assert [path.name for path in tmp_path.iterdir()] == ["fitted.toml"]
    assert len(sample_patients(100, seed=0, fitted=derived)) == 100


# --- how the statistics are fitted


def test_a_code_of_fewer_than_five_patients_is_left_out_and_others_are_rounded_to_five():
    values = pd.Series([1.0] * 83 + [2.0] * 4 + [3.0] * 12, name="cp")
    assert measure.measure_column(values) == {"n": 100, "counts": {"1": 85, "3": 10}}


def test_a_column_observed_in_fewer_than_twenty_has_no_statistics():
    assert measure.measure_column(pd.Series(np.arange(19.0), name="age")) == {}
    assert measure.measure_column(pd.Series(np.arange(20.0), name="age"))["quantiles"] == [5, 10, 14]


def test_every_quantile_step_has_at_least_five_patients():
    for size, steps in ((20, 4), (49, 4), (50, 10), (99, 10), (100, 20)):
        statistics = measure.measure_column(pd.Series(np.arange(float(size)), name="age"))
        assert len(statistics["quantiles"]) == steps - 1


def test_an_extreme_value_of_one_patient_is_not_in_the_statistics(patients):
    extreme = patients.copy()
    extreme.loc[extreme["hospital"].eq("synthetic-cleveland").idxmax(), "chol"] = 699
    assert "699" not in toml_writer.format_statistics(measure.fit_statistics(extreme))
    assert measure.fit_statistics(extreme)["cleveland"]["ends"]["chol"][1] < 600


def test_the_ends_are_values_that_five_patients_reach_rounded_outward():
    rows = pd.DataFrame(
        {name: np.r_[np.full(20, 130.0), 1.0, 2, 3, 4, 93, 167, 996, 997, 998, 999] for name in measure.END_STEPS}
    )
    assert measure.measure_ends(rows)["trestbps"] == [90, 170]


def test_a_rare_missing_pattern_is_counted_with_the_most_similar_one():
    rows = pd.DataFrame(1.0, index=range(50), columns=list(FEATURE_NAMES))
    rows.loc[30:, ["slope", "ca"]] = np.nan
    rows.loc[47:, "thal"] = np.nan  # three patients: with "slope ca", not with "none"
    assert measure.measure_missing(rows, enough=0.8) == {"missing": {"none": 30, "slope ca": 20}}


def test_a_group_with_only_rare_patterns_has_no_patterns_of_its_own():
    rows = pd.DataFrame(1.0, index=range(13), columns=list(FEATURE_NAMES))
    for row, name in enumerate(FEATURE_NAMES[3:]):
        rows.loc[row, name] = np.nan
    assert measure.measure_missing(rows, enough=0.8) == {}


def test_the_correlation_behind_coarse_codes_is_found():
    draws = np.random.default_rng(0).multivariate_normal(
        [0, 0, 0], [[1, 0.5, 0.3], [0.5, 1, 0.3], [0.3, 0.3, 1]], 50_000
    )
    frame = pd.DataFrame({"a": draws[:, 0], "b": draws[:, 1] > 0.5, "c": np.digitize(draws[:, 2], [-1, 0, 2])})
    scores = frame.apply(lambda values: measure.score_ranks(values.to_numpy(dtype=float)))
    found, num_pairs = measure.correlate(scores)
    assert found[[0, 0, 1], [1, 2, 2]] == pytest.approx([0.5, 0.3, 0.3], abs=0.02)
    assert (num_pairs == 50_000).all()


def test_scores_are_the_means_of_a_normal_variable_over_each_codes_share():
    scores = measure.score_ranks(np.array([0.0] * 15 + [np.nan] + [1.0] * 15))
    assert scores[[0, -1]] == pytest.approx([-2 * norm.pdf(0), 2 * norm.pdf(0)])
    assert np.isnan(scores[15])
    assert np.isnan(measure.score_ranks(np.array([0.0] * 40 + [1.0] * 4))).all()


# --- the command


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["no/such/folder"]])
def test_the_command_refuses_a_wrong_folder_in_one_line_and_does_not_change_the_table(arguments, capsys):
    before = fitted.STATISTICS_FILE.read_bytes()
    assert command.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert fitted.STATISTICS_FILE.read_bytes() == before


@pytest.mark.parametrize("word", ["synthetic", "uci", "auto"])
def test_the_command_takes_its_argument_as_a_folder_and_never_as_a_source(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        command.load_real(word)


def test_exact_matches_do_not_depend_on_the_name_of_the_hospital(patients):
    shown = patients.assign(hospital=patients["hospital"].str.removeprefix("synthetic-"))
    assert len(fidelity.exact_matches(patients.head(7), shown)) == 7
    other = patients.head(7).assign(age=patients["age"] + 0.5)
    assert fidelity.exact_matches(other, shown) == []


# --- against the real files


@pytest.mark.uci
def test_the_published_table_equals_the_statistics_of_the_real_files(real):
    derived = measure.fit_statistics(real)
    assert list(derived) == list(load_statistics())
    for hospital in HOSPITALS:
        for name, section in derived[hospital].items():
            stored = load_statistics()[hospital][name]
            for key in section.keys() - {"correlations"}:
                assert stored[key] == section[key]
            for row, correlations in section.get("correlations", {}).items():
                assert stored["correlations"][row] == pytest.approx(correlations, abs=0.011)


@pytest.mark.uci
def test_a_model_trained_on_synthetic_patients_ranks_real_patients_well(real):
    transfer = [fidelity.measure_transfer(real, seed) for seed in range(5)]
    assert np.mean(transfer) >= 0.88
    assert min(transfer) >= 0.87


@pytest.mark.uci
def test_it_also_ranks_real_patients_to_whom_the_statistics_were_not_fitted(real):
    assert fidelity.measure_held_out(real) >= 0.88


@pytest.mark.uci
def test_synthetic_marginals_are_close_to_the_real_ones(real):
    large = sample_patients(20_000, seed=1)
    assert max(fidelity.compare_means(large, real).values()) < 0.25
    assert max(fidelity.compare_missing(large, real).values()) < 0.08


@pytest.mark.uci
def test_a_synthetic_row_equals_a_real_one_no_more_often_than_real_ones_equal_each_other(real):
    """Such rows have few observed features: the five of a VA patient without exercise test coincide by chance."""
    equal_among_real = int(fidelity.row_keys(real).duplicated(keep=False).sum())
    for seed in range(5):
        matches = fidelity.exact_matches(sample_patients(len(real), seed), real)
        assert len(matches) <= equal_among_real
        assert all(num_observed <= 6 for num_observed in matches)
