"""A federation from Python, as in a notebook: hospitals in, metrics, model and run folder out."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy, strategy_utils

import fedhealth as fh
from fedhealth.api.run import Round
from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.models.saved_model import predict_risks, read_model
from fedhealth.reporting.format import POOLED
from tests.support.hospital_files import write_hospitals
from tests.support.runs import run_federation

QUICK = {"rounds": 2, "importance": False, "subgroups": False, "personalise": "none"}
NAMES = ["synthetic-cleveland", "synthetic-hungary", "synthetic-switzerland", "synthetic-va"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_hospitals(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> fh.Run:
    return fh.simulate(folder, **QUICK)


def simulate(folder: Path, **given: object) -> fh.Run:
    return fh.simulate(folder, **{**QUICK, **given})


def dense(*units: int, **last: object) -> keras.Sequential:
    first = [keras.layers.Dense(n, "relu", kernel_initializer=keras.initializers.HeNormal(seed=1)) for n in units[:-1]]
    return keras.Sequential([*first, keras.layers.Dense(units[-1], kernel_initializer="zeros", **last)])


# --- the hospitals ----------------------------------------------------------------------------------------------------


def test_a_folder_gives_each_hospital_by_its_name(folder: Path) -> None:
    hospitals = fh.load_hospitals(folder)
    assert sorted(hospitals) == NAMES
    assert sum(len(hospital.patients) for hospital in hospitals.values()) == 240


def test_tables_are_checked_as_their_csv_files_would_be(folder: Path) -> None:
    table = pd.read_csv(folder / "synthetic-va.csv")
    hospitals = fh.load_hospitals({"north": table})
    from_file = fh.load_hospitals(folder)["synthetic-va"].patients
    np.testing.assert_array_equal(hospitals["north"].patients.features, from_file.features)
    table.loc[0, "age"] = 400.0
    with pytest.raises(DataError, match=r"^north: row 2: age is 400"):
        fh.load_hospitals({"north": table})


def test_two_files_of_one_hospital_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes((folder / "synthetic-va.csv").read_bytes())
    with pytest.raises(UsageError, match="two tables are of the hospital synthetic-va"):
        fh.load_hospitals(tmp_path)


def test_what_deserves_a_warning_is_a_warning(folder: Path) -> None:
    table = pd.read_csv(folder / "synthetic-va.csv").assign(shoe_size=44)
    with pytest.warns(UserWarning, match="north: unknown columns are ignored: shoe_size"):
        fh.load_hospitals({"north": table})


# --- the run ----------------------------------------------------------------------------------------------------------


def test_a_simulation_gives_the_weights_of_the_same_run_over_the_apps(folder: Path, run: fh.Run) -> None:
    paths = {name: folder / f"{name}.csv" for name in NAMES}
    finished = run_federation(paths, **{key.replace("_", "-"): value for key, value in QUICK.items()})[-1]
    theirs = [array.numpy() for array in finished.weights.values()]  # type: ignore[union-attr]
    for ours, expected in zip(run.model.weights.values(), theirs, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_metrics_have_a_row_for_each_hospital_and_one_for_all(run: fh.Run) -> None:
    assert list(run.metrics.index) == [*NAMES, POOLED]
    assert run.metrics.loc[POOLED, "test patients"] == run.metrics.loc[NAMES, "test patients"].sum()
    assert 0 < run.metrics.loc[POOLED, "auroc"] <= 1


def test_every_round_is_handed_to_on_round_and_reads_as_the_consoles_line(folder: Path) -> None:
    rounds = list[Round]()
    run = simulate(folder, on_round=rounds.append)
    assert [each.record for each in rounds] == run.rounds
    assert str(rounds[0]).startswith("round 1/2   loss 0.")


def test_the_model_predicts_what_the_saved_run_predicts(folder: Path, run: fh.Run, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "synthetic-va.csv")
    risks = run.model.predict(table.drop(columns=["num"], errors="ignore"))
    saved = run.save(tmp_path / "run")
    features = fh.load_hospitals(folder)["synthetic-va"].patients.features
    np.testing.assert_array_equal(risks, predict_risks(read_model(saved), features))
    assert (saved / "report.html").exists() and (saved / "MODEL_CARD.md").exists()


def test_a_patient_whom_the_schema_refuses_is_not_predicted(folder: Path, run: fh.Run) -> None:
    table = pd.read_csv(folder / "synthetic-va.csv").head(1).assign(chol=9000)
    with pytest.raises(DataError, match="row 2: chol is 9000"):
        run.model.predict(table)


def test_a_run_folder_is_not_written_over(run: fh.Run, tmp_path: Path) -> None:
    run.save(tmp_path / "run")
    with pytest.raises(UsageError, match="already contains a run"):
        run.save(tmp_path / "run")


def test_without_common_means_there_is_no_model_for_other_patients(folder: Path) -> None:
    run = simulate(folder, scaling="local")
    with pytest.raises(UsageError, match="each hospital has its own means"):
        _ = run.model


@pytest.mark.parametrize("setting", [{"rounds": 0}, {"learning_rate": -1.0}])
def test_a_wrong_setting_is_refused_as_its_flag_is(folder: Path, setting: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"^--(rounds is 0|learning-rate is -1\.0); give "):
        simulate(folder, **setting)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"rounds": "3"}, "rounds is '3'; give a whole number"),
        ({"rounds": 1.5}, r"rounds is 1\.5; give a whole number"),
        ({"rounds": True}, "rounds is True; give a whole number"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; give a number"),
        ({"importance": "no"}, "importance is 'no'; give True or False"),
        ({"strategy": "FedAvg"}, "strategy is 'FedAvg'; give one of fedavg, "),
        ({"strategy": FedAvg}, "strategy is <class .*FedAvg'>; give a name, or an instance of a Flower strategy"),
        ({"model": 4}, "model is 4; give a name, or a function that builds a Keras model"),
        ({"on_round": 3}, "on_round is 3; give a function"),
        (
            {"feasibility": True},
            r"feasibility=True trains no model to return; ask with python server\.py --feasibility",
        ),
        ({"round": 3}, "round is no setting; did you mean rounds"),
        ({"colour": "x"}, r"colour is no setting; see server\.py --help"),
    ],
    ids=str,
)
def test_a_setting_of_another_type_or_name_is_one_line(folder: Path, setting: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError, match=f"^{line}"):
        simulate(folder, **setting)


def test_numbers_of_any_kind_are_numbers(folder: Path) -> None:
    assert len(simulate(folder, rounds=np.int64(1), learning_rate=1, test_share=np.float32(0.25)).rounds) == 1


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (None, "the hospitals are a NoneType; give a folder, or hospital name -> DataFrame"),
        ({1: None}, "a hospital is called 1; give its name as text"),
        ({"": None}, 'a hospital is called ""; give --name 1 to 100 printable characters'),
        ({"all (pooled)": None}, r'a hospital is called "all \(pooled\)", which tables call all hospitals together'),
        ({"a": [63]}, "a: is a list; give a pandas DataFrame with a row per patient"),
        ({"a": pd.DataFrame({"sex": [1]}, index=pd.Index([63], name="age"))}, "a: age is the index of the table"),
    ],
    ids=["nothing", "number", "empty name", "reserved name", "list", "index"],
)
def test_what_is_no_table_of_a_hospital_is_one_line(source: object, line: str) -> None:
    with pytest.raises(UsageError, match=f"^{line}"):
        fh.load_hospitals(source)  # type: ignore[arg-type]


# --- the caller's own strategy and model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "named"),
    [(FedAvg(), {"strategy": "fedavg"}), (FedAdam(eta=0.1), {"strategy": "fedadam", "learning_rate": 0.15})],
    ids=["FedAvg", "FedAdam"],
)
def test_a_flower_strategy_does_what_the_one_of_that_name_does(
    folder: Path, strategy: Strategy, named: dict[str, object]
) -> None:
    ours, theirs = simulate(folder, strategy=strategy), simulate(folder, **named)
    for own, expected in zip(ours.model.weights.values(), theirs.model.weights.values(), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-6)
        assert own.dtype == np.float32


def test_a_strategy_that_waits_for_more_hospitals_than_there_are_ends_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy_utils, "sleep", lambda seconds: None)
    with pytest.raises(
        RunError, match="waits for more than the 4 hospitals that are here; give it a smaller min_avail"
    ):
        simulate(folder, strategy=FedAvg(min_available_nodes=9))


def test_the_record_names_the_callers_strategy_and_model(folder: Path, tmp_path: Path) -> None:
    def two_layers(num_inputs: int) -> keras.Model:
        return dense(4, 1)

    run = simulate(folder, strategy=FedAvg(), model=two_layers)
    saved = run.save(tmp_path / "run")
    settings = json.loads((saved / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["strategy"], settings["model"]) == ("FedAvg", "two_layers")
    with pytest.raises(UsageError, match=r"the model \(two_layers\) was built by the caller"):
        read_model(saved)
    risks = run.model.predict(pd.read_csv(folder / "synthetic-va.csv"))
    assert risks.shape == (len(pd.read_csv(folder / "synthetic-va.csv")),) and np.ptp(risks) > 0


def test_a_model_like_ours_trains_like_ours(folder: Path, run: fh.Run) -> None:
    own = simulate(folder, model=lambda num_inputs: dense(1))
    for ours, theirs in zip(own.model.weights.values(), run.model.weights.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda n: n, "model: the function returned a int; return a keras.Model"),
        (lambda n: dense(2), r"model: its outputs are \(None, 2\); give one output per patient"),
        (lambda n: dense(1, activation="sigmoid"), "model: its last layer has an activation; leave it out"),
        (lambda n: keras.Sequential([keras.Input((n + 1,)), keras.layers.Dense(1)]), "model: does not take 32 inputs"),
        (
            lambda n: keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(1)]),
            "moving_mean is not trained by gradients",
        ),
    ],
    ids=["no model", "two outputs", "risks", "other inputs", "batch normalisation"],
)
def test_a_model_that_cannot_be_trained_is_refused_before_any_hospital_is_asked(
    folder: Path, build: object, line: str
) -> None:
    with pytest.raises(UsageError, match=line):
        simulate(folder, model=build)
