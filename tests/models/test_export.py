"""Exported models give the risks of `predict`, in whatever program runs them."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.data.preprocessing import encode
from fedhealth.models.export import EXPORTERS, as_keras, as_onnx, export_model
from fedhealth.models.keras_models import DENSE_KEYS
from fedhealth.models.saved_model import SavedModel, predict_risks, read_model
from tests.support.run_folders import make_features, write_run

CHOICES = [{}, {"model": "logistic"}, {"missing_indicators": False}]
MODELS = pytest.mark.parametrize("choice", CHOICES, ids=["mlp", "logistic", "no indicators"])


def saved_model(folder: Path, **choice: object) -> SavedModel:
    return read_model(write_run(folder, **choice))


def risks_of_keras(path: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    import keras

    return np.asarray(keras.models.load_model(path).predict_on_batch(inputs))[:, 0]


def risks_of_tflite(path: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    interpreter.resize_tensor_input(0, inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[:, 0]


def risks_of_onnx(path: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    runtime = pytest.importorskip("onnxruntime", reason="pip install -r requirements-export.txt")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["risk"], {"patients": inputs})[0][:, 0]


@MODELS
@pytest.mark.parametrize(
    ("ending", "run"), [(".keras", risks_of_keras), (".tflite", risks_of_tflite), (".onnx", risks_of_onnx)]
)
def test_every_format_gives_the_risks_of_predict(ending: str, run, choice: dict, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if ending == ".onnx":
        pytest.importorskip("onnx", reason="pip install -r requirements-export.txt")
    model, features = saved_model(tmp_path / "run", **choice), make_features(200)
    assert np.isnan(features).any()
    export_model(model, tmp_path / f"model{ending}")
    risks = run(tmp_path / f"model{ending}", encode(features, model.missing_indicators))
    expected = predict_risks(model, features)
    assert expected.std() > 0.05
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-5)


def test_the_onnx_file_names_its_inputs_and_takes_any_number_of_patients(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="pip install -r requirements-export.txt")
    made = onnx.load_from_string(as_onnx(saved_model(tmp_path)))
    properties = {each.key: each.value for each in made.metadata_props}
    assert properties["inputs"].split(",")[:2] == ["age", "trestbps"]
    assert properties["dataset"] == "synthetic"
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "num_patients"


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


def test_onnx_without_its_package_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError, match=r"needs the package onnx; pip install -r requirements-export.txt"):
        export_model(saved_model(tmp_path / "run"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_format_has_an_exporter_and_a_flag() -> None:
    from fedhealth.config.results import EXPORTS

    assert tuple(EXPORTERS) == EXPORTS
