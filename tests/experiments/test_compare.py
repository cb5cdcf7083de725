"""The study: splits, that its runs equal real ones, its metrics by hand, and its files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments import methods
from experiments.compare import main
from experiments.figures import reliability
from experiments.flamby import SIZES, flamby_cases
from experiments.methods import run_case, train_model
from experiments.nested_cv import CANDIDATES, run_chosen, training_folds
from experiments.page import hospital_lines, one_class_lines, pooled_lines
from experiments.paired_bootstrap import compare
from experiments.results import Study
from experiments.scoring import Tested, join, score
from experiments.splits import (
    Case,
    Rows,
    assign_folds,
    cross_validation_cases,
    new_hospital_cases,
    patients_of,
    small_cases,
    take,
)
from experiments.study import run_protocol, summarise
from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.patient_split import PatientSplit
from fedhealth.client.personalization import Model
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import Hospital, load_hospital
from fedhealth.data.patients import Patients, split_patients
from fedhealth.data.schema import Schema
from fedhealth.data.sources.heart import HEART
from fedhealth.data.sources.synthetic import sample_patients
from fedhealth.metrics.ranking import exact_auroc, weighted_auroc
from fedhealth.server.app import federate
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.transport.in_process import InProcessGrid
from tests.support.hospital_apps import TRAINERS, make_apps
from tests.support.hospital_files import write_hospitals

QUICK = FederationSettings(rounds=2)


@pytest.fixture(scope="module")
def hospitals() -> dict[str, Patients]:
    return patients_of(HEART, sample_patients(300, 1))


def make_tested(risks: list[float], labels: list[int]) -> Tested:
    return Tested(np.arange(len(risks)), np.array(labels, np.float32), np.array(risks))


# --- training and test patients ---------------------------------------------------------------------------------------


def test_folds_are_stratified_by_class() -> None:
    labels = np.array([1] * 52 + [0] * 48, np.float32)
    folds = assign_folds(labels, 5, np.random.default_rng(0))
    assert np.bincount(folds).tolist() == [20] * 5
    assert sorted(np.bincount(folds[labels == 1]).tolist()) == [10, 10, 10, 11, 11]


def test_in_cross_validation_every_patient_is_in_one_test_fold_per_seed_and_not_in_its_training_rows(
    hospitals: dict[str, Patients],
) -> None:
    cases = list(cross_validation_cases(HEART, hospitals, seeds=2))
    assert len(cases) == 10
    for case in cases:
        for name, patients in hospitals.items():
            assert not set(case.train[name].places) & set(case.test[name].places)
            assert len(case.train[name].places) + len(case.test[name].places) == len(patients)
    for name, patients in hospitals.items():
        tested = np.concatenate([case.test[name].places for case in cases[:5]])
        assert sorted(tested.tolist()) == list(range(len(patients)))


def test_all_patients_of_a_new_hospital_are_tested_and_none_is_trained_on(hospitals: dict[str, Patients]) -> None:
    cases = list(new_hospital_cases(HEART, hospitals, seeds=1))
    assert [list(case.test) for case in cases] == [[name] for name in hospitals]
    for case in cases:
        assert not case.test.keys() & case.train.keys()
        assert len(case.train) == len(hospitals) - 1


@pytest.mark.parametrize("size", [15, 30])
def test_small_training_sets_have_at_most_their_size_and_no_test_patient(
    size: int, hospitals: dict[str, Patients]
) -> None:
    for case in small_cases(HEART, hospitals, seeds=1, size=size):
        for name, rows in case.train.items():
            assert len(rows.places) <= size
            assert not set(rows.places) & set(case.test[name].places)


@pytest.mark.uci
def test_flambys_split_has_flambys_sizes_and_labels(uci_folder: Path) -> None:
    (case,) = flamby_cases(uci_folder, seeds=1)
    assert {name: (len(case.train[name].places), len(case.test[name].places)) for name in case.train} == SIZES
    tested = {name: (int(rows.patients.labels.sum()), len(rows.places)) for name, rows in case.test.items()}
    assert tested == {"cleveland": (48, 104), "hungary": (33, 89), "switzerland": (15, 16), "va": (35, 45)}
    swiss = case.train["switzerland"].patients
    assert swiss.labels.tolist() == [1] * 30
    assert (swiss.features[:, 4] == 0).all(), "FLamby keeps cholesterol 0 as a value"
    assert (case.seed, case.missing_indicators) == (42, False)


# --- a study uses real runs ---------------------------------------------------------------------------------------------


def test_a_run_from_memory_equals_the_run_from_files_bit_for_bit(tmp_path: Path) -> None:
    paths = write_hospitals(tmp_path)
    settings = FederationSettings(rounds=4, seed=3)
    events: list[Event] = []
    grid = InProcessGrid(make_apps(paths), settings.to_run_config())
    federate(grid, settings, events.append, max_wait=1.0)
    finished = events[-1]
    assert isinstance(finished, RunFinished)

    train = {}
    for name, path in paths.items():
        patients, _ = split_patients(load_hospital(path).patients, settings.test_share, settings.seed)
        train[name] = take(patients, np.arange(len(patients)))
    model = train_model(HEART, train, settings, TRAINERS)
    assert model.standardisation == finished.standardisation
    for ours, theirs in zip(model.weights, finished.weights.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_a_hospital_with_a_fixed_split_trains_and_tests_on_those_patients_only(
    hospitals: dict[str, Patients],
) -> None:
    name, patients = next(iter(hospitals.items()))
    train, test = (take(patients, places).patients for places in (np.arange(30), np.arange(30, 41)))
    hospital = HospitalData(
        Hospital(name, name, patients, HEART, "study", ()), TRAINERS, fixed_split=PatientSplit(train, test)
    )
    events: list[Event] = []
    settings = FederationSettings(hospitals=1, rounds=1)
    grid = InProcessGrid({name: make_client_app(hospital)}, settings.to_run_config())
    federate(grid, settings, events.append, max_wait=1.0)
    began = events[0]
    assert isinstance(began, RunStarted)
    counts = [(m.name, m.source, m.train_patients, m.test_patients, m.test_ill) for m in began.members]
    assert counts == [(name, "study", 30, 11, int(test.labels.sum()))]


def test_every_method_tests_the_same_patients(hospitals: dict[str, Patients]) -> None:
    case = next(cross_validation_cases(HEART, hospitals, seeds=1))
    found = dict(run_case(case, QUICK, ("fedavg", "scaffold"), TRAINERS))
    assert list(found) == [
        "local",
        *(f"federated {name}{more}" for name in ("fedavg", "scaffold") for more in ("", " + intercept", " + finetune")),
        "central",
        "central + intercept",
    ]
    for risks in found.values():
        assert {name: len(values) for name, values in risks.items()} == {
            name: len(rows.places) for name, rows in case.test.items()
        }
        assert all((values > 0).all() and (values < 1).all() for values in risks.values())


def test_an_intercept_changes_risks_but_not_the_order_within_a_hospital(hospitals: dict[str, Patients]) -> None:
    case = next(cross_validation_cases(HEART, hospitals, seeds=1))
    found = dict(run_case(case, QUICK, ("fedavg",), TRAINERS))
    for name, risks in found["federated fedavg"].items():
        moved = found["federated fedavg + intercept"][name]
        assert not np.allclose(moved, risks)
        np.testing.assert_array_equal(np.argsort(moved, kind="stable"), np.argsort(risks, kind="stable"))


def test_a_new_hospital_has_no_local_model_and_no_intercept(hospitals: dict[str, Patients]) -> None:
    case = next(new_hospital_cases(HEART, hospitals, seeds=1))
    assert list(dict(run_case(case, QUICK, ("fedavg",), TRAINERS))) == [
        "federated fedavg",
        "federated fedavg + prevalence",
        "central",
        "central + prevalence",
    ]


def test_selecting_settings_does_not_depend_on_test_patients(
    hospitals: dict[str, Patients], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict(list(CANDIDATES.items())[::5])
    few = {name: {**changes, "rounds": 2} for name, changes in few.items()}
    monkeypatch.setattr("experiments.nested_cv.CANDIDATES", few)
    case = next(cross_validation_cases(HEART, hospitals, seeds=1))
    inverted = {
        name: Rows(dataclasses.replace(rows.patients, labels=1 - rows.patients.labels), rows.places)
        for name, rows in case.test.items()
    }
    chosen: list[str] = []
    for each in (case, dataclasses.replace(case, test=inverted)):
        methods = dict(run_chosen(each, QUICK, chosen, TRAINERS))
        assert list(methods) == ["federated chosen", "federated chosen + intercept"]
    assert chosen[0] == chosen[1]
    places = {name: set(rows.places) for name, rows in case.train.items()}
    for fold in training_folds(case):
        assert all(set(rows.places) <= places[name] for name, rows in (*fold.train.items(), *fold.test.items()))


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_auroc_equals_sklearns_with_ties_and_with_weights() -> None:
    generator = np.random.default_rng(0)
    risks, labels = generator.integers(0, 9, 80) / 10, generator.integers(0, 2, 80)
    assert exact_auroc(risks, labels) == pytest.approx(roc_auc_score(labels, risks))
    weights = generator.integers(0, 4, (5, 80)).astype(float)
    theirs = [roc_auc_score(labels, risks, sample_weight=weight) for weight in weights]
    np.testing.assert_allclose(weighted_auroc(risks, labels, weights), theirs)
    assert exact_auroc([0.1, 0.9], [1, 1]) is None


def test_scores_of_hospitals_their_mean_and_pooled_by_hand() -> None:
    found = score({"a": make_tested([0.9, 0.2, 0.6], [1, 0, 0]), "b": make_tested([0.7], [1])})
    assert found["a", "accuracy"] == pytest.approx(2 / 3)
    assert found["mean", "accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["union", "accuracy"] == pytest.approx(3 / 4)
    assert found["union", "brier"] == pytest.approx((0.01 + 0.04 + 0.36 + 0.09) / 4)
    assert ("b", "auroc") not in found
    assert found["mean", "auroc"] == found["a", "auroc"] == 1.0


# --- a local model of patients of one class ---------------------------------------------------------------------------


def of_one_class(tested: Tested) -> Tested:
    return dataclasses.replace(tested, trained_on_only="ill")


A = make_tested([0.9, 0.2, 0.6], [1, 0, 0])
B = make_tested([0.7, 0.8], [1, 0])


def test_a_model_of_patients_of_one_class_has_no_auroc_in_its_hospital_and_is_not_in_the_mean() -> None:
    found = score({"a": A, "b": of_one_class(B)})
    assert ("b", "auroc") not in found
    assert found["mean", "auroc"] == found["a", "auroc"] == 1.0
    assert found["mean", "accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["union", "auroc"] == score({"a": A, "b": B})["union", "auroc"]


def test_one_fold_of_one_class_is_enough_for_a_hospital_to_have_no_auroc() -> None:
    assert join([B, of_one_class(B)]).trained_on_only == "ill"
    assert join([B, B]).trained_on_only == ""


def test_a_mean_says_over_how_many_hospitals_it_is_and_a_hospital_in_how_many_repetitions() -> None:
    sometimes, always = [{"a": A, "b": B}, {"a": A, "b": of_one_class(B)}], [{"a": A, "b": of_one_class(B)}] * 2
    never = [{"a": A, "b": B}] * 2
    tested = {("x", "sometimes"): sometimes, ("x", "always"): always, ("x", "never"): never}
    results = [each for (name, method), runs in tested.items() for each in summarise(name, method, runs)]
    study = Study("two hospitals", results, {}, tested, {})
    heading, lines = pooled_lines(study, "x")
    shown = {line[0]: line[heading.index("mean AUROC")] for line in lines}
    assert shown == {
        "sometimes": "0.750 (0.354), 1 to 2 of 2",
        "always": "1.000 (0.000), 1 of 2",
        "never": "0.500 (0.000)",
    }
    heading, lines = hospital_lines(study, "x")
    shown = {line[0]: line[heading.index("AUROC b")] for line in lines}
    assert shown == {"sometimes": "0.000, in 1 of 2", "always": "n/a", "never": "0.000"}
    ending = "because its training patients are all ill; the mean AUROC, and its difference, are over the others there"
    assert one_class_lines(study, "x") == [
        f"sometimes, b: no AUROC in 1 of 2 repetitions, {ending}",
        f"always, b: no AUROC, {ending}",
    ]
    assert one_class_lines(study, "another") == []


def test_a_difference_in_mean_auroc_is_over_the_hospitals_in_which_both_have_one() -> None:
    ours = {"a": make_tested([0.9, 0.2, 0.6], [1, 0, 1]), "b": make_tested([0.7, 0.3], [1, 0])}
    theirs = {"a": make_tested([0.1, 0.2, 0.6], [1, 0, 1]), "b": of_one_class(make_tested([0.3, 0.7], [1, 0]))}
    found = {(each.hospital, each.metric): each.difference for each in compare([ours], [theirs])}
    assert found["mean", "auroc"] == found["a", "auroc"] == pytest.approx(1 - 1 / 2)
    assert ("b", "auroc") not in found
    assert found["b", "accuracy"] == 1.0
    nobody = {name: of_one_class(tested) for name, tested in theirs.items()}
    assert ("mean", "auroc") not in {(each.hospital, each.metric) for each in compare([ours], [nobody])}


def test_the_study_knows_which_hospitals_train_a_local_model_on_one_class(hospitals: dict[str, Patients]) -> None:
    case = next(cross_validation_cases(HEART, hospitals, seeds=1))
    name = min(case.train)
    rows = case.train[name]
    ill = np.flatnonzero(rows.patients.labels > 0.5)
    one_class = dataclasses.replace(case, train={**case.train, name: take(rows.patients, ill)})
    found = run_protocol([one_class], QUICK, ["fedavg"], TRAINERS, chosen=None)
    for method, (repetition,) in found.items():
        expected = {name: "ill"} if method == "local" else {}
        assert {each: t.trained_on_only for each, t in repetition.items() if t.trained_on_only} == expected


def test_a_difference_between_equal_methods_and_its_interval_are_zero() -> None:
    run = {"a": make_tested([0.9, 0.2, 0.6, 0.4], [1, 0, 0, 1]), "b": make_tested([0.7, 0.3], [1, 0])}
    for each in compare([run, run], [run, run]):
        assert (each.difference, each.low, each.high) == (0, 0, 0)


def test_a_difference_is_paired_and_within_its_interval() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    noise = generator.random(400)
    good, bad = 0.6 * labels + 0.4 * noise, 0.2 * labels + 0.8 * noise
    ours, theirs = ({"a": make_tested(risks.tolist(), labels.tolist())} for risks in (good, bad))
    found = {each.metric: each for each in compare([ours], [theirs])}
    auroc = found["auroc"]
    assert auroc.difference == pytest.approx(roc_auc_score(labels, good) - roc_auc_score(labels, bad))
    assert 0 < auroc.low < auroc.difference < auroc.high
    assert found["brier"].high < 0


def test_a_difference_of_which_some_draws_are_undefined_is_from_the_others_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    tiny = {"a": make_tested([0.9, 0.2], [1, 0]), "b": make_tested([0.7, 0.3], [1, 0])}
    found = {(each.hospital, each.metric): each for each in compare([tiny], [tiny])}
    assert found["mean", "auroc"].difference == 0
    assert [warning for warning in recwarn if warning.category is RuntimeWarning] == []


def test_reliability_groups_have_equal_numbers_of_patients() -> None:
    predicted, ill = reliability(make_tested([i / 100 for i in range(100)], [0] * 50 + [1] * 50))
    assert predicted == pytest.approx([0.045 + 0.1 * i for i in range(10)])
    assert ill == [0] * 5 + [1] * 5


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_results_differences_figures_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "out", tmp_path / "docs" / "results.md"
    flags = ["--source", "synthetic", "--protocol", "cv", "new-hospital", "--strategy", "fedavg"]
    flags += ["--seeds", "1", "--rounds", "2"]
    assert main([*flags, "--out", str(out), "--page", str(page)]) == 0
    results = json.loads((out / "results.json").read_text())
    keys = ("protocol", "method", "hospital", "metric", "mean", "std", "n")
    assert {tuple(result) for result in results} == {keys, (*keys, "hospitals")}
    assert {result["hospital"] for result in results if "hospitals" in result} == {"mean"}
    assert {result["method"].split()[0] for result in results} == {"local", "federated", "central"}
    assert {result["protocol"] for result in results} == {"cv", "new-hospital"}
    assert {"mean", "union", "synthetic-va"} <= {result["hospital"] for result in results}
    assert {result["metric"] for result in results} == {"accuracy", "auroc", "brier", "ece"}
    differences = json.loads((out / "differences.json").read_text())
    assert {(each["protocol"], each["reference"]) for each in differences} == {
        ("cv", "local"),
        ("cv", "central"),
        ("cv", "central + intercept"),
        ("new-hospital", "central"),
        ("new-hospital", "central + prevalence"),
    }
    assert sorted(path.name for path in out.glob("*.svg")) == [
        f"{protocol}-{kind}.svg" for protocol in ("cv", "new-hospital") for kind in ("auroc", "calibration")
    ]
    text = page.read_text(encoding="utf-8")
    assert "`python -m experiments.compare --source PATH --protocol cv --out DIR`" in text
    assert text.count("| federated fedavg |") >= 3
    assert all((page.parent / line.split("(")[1].rstrip(")")).is_file() for line in text.splitlines() if "![" in line)
    shown = capsys.readouterr()
    assert "SYNTHETIC" in shown.out
    assert "SYNTHETIC" in text
    assert "federated fedavg + intercept" in shown.out


@pytest.mark.slow
def test_privacy_is_run_with_the_first_strategy_and_shown_with_its_epsilon(tmp_path: Path) -> None:
    flags = ["--source", "synthetic", "--protocol", "cv", "new-hospital", "--strategy", "fedavg", "--rounds", "1"]
    flags += ["--dp-epsilon", "1", "8", "--dp-delta", "0.001", "--seeds", "1"]
    assert main([*flags, "--out", str(tmp_path), "--page", str(tmp_path / "page.md")]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    private = {(result["method"], result["epsilon"]) for result in results if "epsilon" in result}
    assert private == {
        (f"federated fedavg, epsilon {epsilon}{corrected}", epsilon)
        for epsilon in (1, 8)
        for corrected in ("", " + intercept", " + prevalence")
    }
    assert (tmp_path / "new-hospital-privacy.svg").is_file()
    assert (tmp_path / "cv-privacy.svg").is_file()
    assert "--protocol cv --dp-epsilon 1 8 --dp-delta 0.001 --out DIR`" in (tmp_path / "page.md").read_text()


def test_flambys_protocol_without_the_uci_files_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--source", "synthetic", "--protocol", "flamby", "--seeds", "1", "--out", str(tmp_path)]
    assert main(flags) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --protocol flamby needs the four UCI files")


def test_the_same_seeds_give_the_same_study(hospitals: dict[str, Patients]) -> None:
    case: Case = next(cross_validation_cases(HEART, hospitals, seeds=1))
    first, again = (dict(run_case(case, QUICK, ("fedadagrad",), TRAINERS)) for _ in range(2))
    for method, risks in first.items():
        for name in risks:
            np.testing.assert_array_equal(risks[name], again[method][name])


def test_only_newton_has_a_weight_decay_of_its_own(
    hospitals: dict[str, Patients], monkeypatch: pytest.MonkeyPatch
) -> None:
    decays = set[tuple[str, float]]()

    def note(schema: Schema, train: object, settings: FederationSettings, *others: object, **more: Any) -> Model:
        decays.add((settings.strategy, settings.weight_decay))
        return train_model(schema, train, settings, *others, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(methods, "train_model", note)
    case = next(iter(cross_validation_cases(HEART, hospitals, seeds=1)))
    list(run_case(case, QUICK, ("fedavg", "newton"), TRAINERS))
    assert decays == {("fedavg", QUICK.weight_decay), ("newton", methods.NEWTON_DECAY)}


def test_newton_is_tested_with_intercepts_fitted_afterwards_and_jointly(hospitals: dict[str, Patients]) -> None:
    case: Case = next(cross_validation_cases(HEART, hospitals, seeds=1))
    risks = dict(run_case(case, dataclasses.replace(QUICK, rounds=10), ("newton",), TRAINERS))
    methods = [method for method in risks if method.startswith("federated")]
    assert methods == ["federated newton", "federated newton + intercept", "federated newton + joint intercept"]
    after, joint = (np.concatenate(list(risks[method].values())) for method in methods[1:])
    assert 0.001 < np.abs(after - joint).max() < 0.5, "both correct the same model, but not in the same way"
