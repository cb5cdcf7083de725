"""Exported models take the schema's columns and give the risks of `predict`, in whatever program runs them."""

import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.data.schema import Column
from fedhealth.data.sources.heart import FEATURE_NAMES, FEATURES, HEART
from fedhealth.models.export import DESCRIPTION, EXPORTERS, as_keras, as_onnx, export_model
from fedhealth.models.export_readme import HEADINGS, INDENT, describe_model, describe_origin, table_line
from fedhealth.models.keras_models import DENSE_KEYS
from fedhealth.models.predict import NOT_A_DEVICE
from fedhealth.models.saved_model import SavedModel, predict_risks, read_model
from tests.support.examples import examples
from tests.support.processes import ROOT
from tests.support.run_folders import make_features, write_run

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
NO_ONNX = "pip install -r requirements-export.txt"
NO_LITERT = "pip install -r requirements-dev.txt"
CHOICES = {
    "mlp": {},
    "logistic": {"model": "logistic"},
    "mlp without indicators": {"missing_indicators": False},
    "logistic without indicators": {"model": "logistic", "missing_indicators": False},
}
MODELS = pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)


def saved_model(folder: Path, **choice: object) -> SavedModel:
    return read_model(write_run(folder, **choice))


def with_smaller_weights(model: SavedModel) -> SavedModel:
    """The model with weights of the size that training gives (standard deviation 0.25).

    Larger ones add up to log odds of 10 and more that cancel, where one rounding of float32 moves a risk by 1e-6.
    """
    return replace(model, layers=tuple((kernel / 2, bias / 2) for kernel, bias in model.layers))


def in_keras(path: Path) -> Predict:
    import keras

    loaded = keras.saving.load_model(path)  # safe mode, no custom objects
    return lambda patients: np.asarray(loaded.predict_on_batch(patients))[:, 0]


def in_litert(path: Path) -> Predict:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason=NO_LITERT)
    runner = litert.Interpreter(str(path)).get_signature_runner()
    return lambda patients: runner(patients=patients)["risk"][:, 0]


def in_onnxruntime(path: Path) -> Predict:
    runtime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda patients: session.run(["risk"], {"patients": patients})[0][:, 0]


RUNTIMES = {".keras": in_keras, ".tflite": in_litert, ".onnx": in_onnxruntime}


@pytest.fixture(scope="module", params=[(ending, name) for ending in RUNTIMES for name in CHOICES], ids=" ".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SavedModel, Predict]:
    """A model, and its risks in the program that its file is for."""
    ending, name = request.param
    folder = tmp_path_factory.mktemp("exported")
    model = with_smaller_weights(saved_model(folder / "run", **CHOICES[name]))
    if ending == ".onnx":
        pytest.importorskip("onnx", reason=NO_ONNX)
    export_model(model, folder / f"model{ending}")
    return model, RUNTIMES[ending](folder / f"model{ending}")


def require_equal(model: SavedModel, predict: Predict, patients: NDArray[np.float32]) -> NDArray[np.float32]:
    expected = predict_risks(model, patients.astype(np.float64))
    np.testing.assert_allclose(predict(patients), expected, rtol=0, atol=1e-6)
    return expected


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_every_pattern_of_missing_values_has_the_risks_of_predict(exported: tuple[SavedModel, Predict]) -> None:
    patterns = np.array(list(itertools.product([False, True], repeat=len(FEATURES))))
    known = make_features(40 * len(patterns))
    known = known[~np.isnan(known).any(axis=1)][: len(patterns)]
    patients = np.where(patterns, np.nan, known).astype(np.float32)
    assert len(np.unique(np.isnan(patients), axis=0)) == 2 ** len(FEATURES)
    assert require_equal(*exported, patients).std() > 0.05


def cells(column: Column) -> st.SearchStrategy[float]:
    """Any value of a column within its range, any code and codes that the schema does not know, or NaN."""
    values = st.floats(column.minimum, column.maximum, width=32) if column.kind == "number" else st.integers(-1, 9)
    return st.just(float("nan")) | values.map(float)


PATIENTS = st.lists(st.tuples(*[cells(column) for column in FEATURES]), min_size=1, max_size=20)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=PATIENTS)
def test_any_values_have_the_risks_of_predict(
    exported: tuple[SavedModel, Predict], rows: list[tuple[float, ...]]
) -> None:
    require_equal(*exported, np.array(rows, dtype=np.float32))


def test_an_unknown_code_counts_as_none_of_the_codes_and_not_as_missing(exported: tuple[SavedModel, Predict]) -> None:
    model, predict = exported
    thal = FEATURE_NAMES.index("thal")
    patients = np.repeat(make_features(1), 5, axis=0).astype(np.float32)
    patients[:, thal] = [5, 99, np.nan, 3, 7]
    unknown, other, missing, normal, reversible = require_equal(model, predict, patients)
    assert unknown == other
    assert (unknown == missing) == (not model.missing_indicators)
    assert len({unknown, normal, reversible}) == 3


# --- what travels with the model ----------------------------------------------------------------------------------------


def description(path: Path) -> dict[str, object]:
    """The description in a .keras or .tflite file."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(DESCRIPTION))


def test_the_description_has_every_column_of_the_schema_in_order_and_the_threshold(tmp_path: Path) -> None:
    about = describe_model(saved_model(tmp_path))
    assert (about["use"], about["dataset"], about["schema"]) == (NOT_A_DEVICE, "synthetic", HEART.fingerprint)
    assert (about["threshold"], about["missing"]) == (0.5, "NaN")
    assert [column["name"] for column in about["columns"]] == list(FEATURE_NAMES)
    age, thal = about["columns"][0], about["columns"][-1]
    assert (age["unit"], age["minimum"], age["maximum"], age["can_be_missing"]) == ("years", 18, 120, False)
    assert [code["code"] for code in thal["codes"]] == [3, 6, 7]
    json.dumps(about, allow_nan=False)


@pytest.mark.parametrize("ending", [".keras", ".tflite"])
def test_a_file_of_keras_or_litert_holds_the_description(ending: str, tmp_path: Path) -> None:
    model = saved_model(tmp_path / "run", model="logistic")
    export_model(model, tmp_path / f"model{ending}")
    assert description(tmp_path / f"model{ending}") == describe_model(model)


def test_an_onnx_file_holds_the_description_and_takes_any_number_of_patients(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason=NO_ONNX)
    model = saved_model(tmp_path)
    made = onnx.load_from_string(as_onnx(model))
    properties = {each.key: each.value for each in made.metadata_props}
    about = describe_model(model)
    assert properties.keys() == about.keys()
    assert json.loads(properties["columns"]) == about["columns"]
    assert (float(properties["threshold"]), properties["dataset"]) == (0.5, "synthetic")
    rows, columns = made.graph.input[0].type.tensor_type.shape.dim
    assert (rows.dim_param, columns.dim_value) == ("num_patients", len(FEATURES))


@MODELS
def test_a_keras_file_holds_only_what_keras_3_3_knows(choice: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    with zipfile.ZipFile(io.BytesIO(as_keras(saved_model(tmp_path, **choice)))) as file:
        config = json.loads(file.read("config.json"))["config"]
    assert (config["input_layers"], config["output_layers"]) == ([["patients", 0, 0]], [["risk", 0, 0]])
    layers = [layer["config"] for layer in config["layers"] if layer["class_name"] == "Dense"]
    assert [layer["name"] for layer in layers] == (["hidden", "log_odds"] if "model" not in choice else ["log_odds"])
    for layer in layers:
        assert set(layer) == set(DENSE_KEYS)
        assert layer["kernel_initializer"]["config"] == layer["bias_initializer"]["config"] == {}
    operations = [layer for layer in config["layers"] if layer["module"] != "keras.layers"]
    assert {layer["class_name"] for layer in operations} == {
        "GetItem",
        "Subtract",
        "TrueDivide",
        "Isnan",
        "Where",
        "Equal",
    }
    assert all(set(layer["config"]) == {"name"} for layer in operations)


# --- README.txt ---------------------------------------------------------------------------------------------------------


def write_raw_csv(path: Path) -> NDArray[np.float64]:
    """Patients as a hospital may have them: columns in another order, one more, `?` for some missing values."""
    features = make_features(30)
    names = [*reversed(FEATURE_NAMES), "ward"]
    rows = [[*("" if np.isnan(value) else f"{value:g}" for value in row[::-1]), "B2"] for row in features]
    rows[0] = ["?" if cell == "" else cell for cell in rows[0]]
    path.write_text("\n".join(map(",".join, [names, *rows])) + "\n")
    return features


@pytest.mark.parametrize(
    ("name", "needed"),
    [("model.keras", ["keras"]), ("the.tflite", ["ai_edge_litert"]), ("it's.onnx", ["onnx", "onnxruntime"])],
)
def test_the_lines_of_python_in_the_readme_predict_a_raw_csv(
    name: str, needed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in needed:
        pytest.importorskip(package, reason=NO_LITERT)
    model = saved_model(tmp_path / "run", model="logistic")
    readme = export_model(model, tmp_path / name)
    features = write_raw_csv(tmp_path / "patients.csv")
    monkeypatch.chdir(tmp_path)
    lines = [line for line in readme.read_text().splitlines() if line.startswith(INDENT)]
    assert len(lines) == 5
    names: dict[str, NDArray[np.float32]] = {}
    exec("\n".join(line.removeprefix(INDENT) for line in lines), names)
    expected = predict_risks(model, features)
    np.testing.assert_allclose(names["risks"], expected, rtol=0, atol=1e-6)
    assert names["predicted_positive"].tolist() == (expected >= 0.5).tolist()
    assert 0 < names["predicted_positive"].sum() < len(features)


def test_the_readme_stands_beside_the_file_and_names_columns_threshold_and_use(tmp_path: Path) -> None:
    readme = export_model(saved_model(tmp_path / "run"), tmp_path / "model.keras")
    assert readme == tmp_path / "model.keras.README.txt"
    text = readme.read_text()
    assert NOT_A_DEVICE in text
    assert "SYNTHETIC" in text
    assert " on synthetic patients\n" in text
    assert "A risk from 0.5 on is predicted positive (the run has chosen no other)." in text
    table = [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0] in FEATURE_NAMES]
    assert table == list(FEATURE_NAMES)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("own", "the hospitals' own files"),
        ("uci", "the dataset uci"),
        ("own+synthetic", "the hospitals' own files and synthetic patients"),
    ],
)
def test_the_readme_says_in_words_on_whom_the_model_was_trained(dataset: str, words: str) -> None:
    assert describe_origin(dataset) == words


# --- docs/report.md -----------------------------------------------------------------------------------------------------


def test_the_page_has_the_table_of_inputs() -> None:
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, ["---"] * 5, *map(table_line, FEATURES))]
    assert "\n\n" + "\n".join(lines) + "\n\n" in PAGE


def test_the_pages_python_predicts_a_raw_csv_in_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=NO_ONNX)
    model = saved_model(tmp_path / "run")
    export_model(model, tmp_path / "model.onnx")
    features = write_raw_csv(tmp_path / "patients.csv")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, NDArray[np.float32]] = {}
    exec(code, names)
    expected = predict_risks(model, features)
    np.testing.assert_allclose(names["risks"], expected, rtol=0, atol=1e-6)
    assert names["predicted_positive"].tolist() == (expected >= 0.5).tolist()


# --- failures -----------------------------------------------------------------------------------------------------------


def test_onnx_without_its_package_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError, match=r"needs the package onnx; pip install -r requirements-export.txt"):
        export_model(saved_model(tmp_path / "run"), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_format_has_an_exporter_and_a_flag() -> None:
    from fedhealth.config.results import EXPORTS

    assert tuple(EXPORTERS) == EXPORTS
