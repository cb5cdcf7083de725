"""Export of a run's model: raw encoded features (num_patients, num_inputs) in, risk (num_patients, 1) out.

Keras writes its own format and LiteRT's (.tflite); the ONNX graph is built here from the same weights, without
TensorFlow or a converter. All predict the risks of `saved_model.predict_risks` to within 1e-5 (tested).
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.common.version import __version__
from fedhealth.data.preprocessing import NUM_NUMBERS, encoded_names, standardise
from fedhealth.models.saved_model import SavedModel

if TYPE_CHECKING:
    import onnx

ONNX_OPSET = 17
"""Supported by ONNX Runtime since 1.12 (2022)."""
ONNX_IR_VERSION = 8
"""The file format version of that opset."""


def export_model(model: SavedModel, to: Path) -> None:
    """Write the model to `to`, in the format of its file name extension.

    Raises
    ------
    UsageError
        The file cannot be written, or the optional package for this format is not installed.
    """
    write_file(to, EXPORTERS[to.suffix](model))


def as_keras(model: SavedModel) -> bytes:
    """A self-contained .keras file, as a hospital saves with --save-model."""
    return _made_by_keras(model, "model.keras", lambda risk_model, path: risk_model.save(path))


def as_tflite(model: SavedModel) -> bytes:
    """A LiteRT file for phones and other small devices, exported by Keras, with 32-bit floats."""
    return _made_by_keras(
        model, "model.tflite", lambda risk_model, path: risk_model.export(path, format="litert", verbose=False)
    )


def _made_by_keras(model: SavedModel, name: str, write: Any) -> bytes:
    from fedhealth.models.keras_models import build_risk_model

    risk_model = build_risk_model(
        weights=[array for layer in model.layers for array in layer],
        num_inputs=len(encoded_names(model.missing_indicators)),
        standardisation=model.standardisation,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(risk_model, str(path))
        return path.read_bytes()


def as_onnx(model: SavedModel) -> bytes:
    """An ONNX file; its metadata lists the inputs in order."""
    try:
        import onnx
    except ImportError:
        raise UsageError("--to *.onnx needs the package onnx; pip install -r requirements-export.txt") from None
    inputs = encoded_names(model.missing_indicators)
    graph = _onnx_graph(model, len(inputs))
    made = onnx.helper.make_model(
        graph,
        producer_name="flwr_federated_health",
        producer_version=__version__,
        opset_imports=[onnx.helper.make_opsetid("", ONNX_OPSET)],
        ir_version=ONNX_IR_VERSION,
    )
    onnx.helper.set_model_props(made, {"inputs": ",".join(inputs), "dataset": str(model.about["dataset"])})
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content


def _onnx_graph(model: SavedModel, num_inputs: int) -> "onnx.GraphProto":
    """The graph: (patients - means) / stds, NaN replaced by 0, then the layers."""
    from onnx import TensorProto, helper, numpy_helper

    codes = num_inputs - NUM_NUMBERS
    code_mean, code_std = _code_scale(model, num_inputs)
    constants = {
        "means": np.array([*model.standardisation.means, *[code_mean] * codes], dtype=np.float32),
        "stds": np.array([*model.standardisation.stds, *[code_std] * codes], dtype=np.float32),
        "zero": np.array(0, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["patients", "means"], ["centred"]),
        helper.make_node("Div", ["centred", "stds"], ["scaled"]),
        helper.make_node("IsNaN", ["scaled"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "scaled"], ["values_0"]),
    ]
    for number, (kernel, bias) in enumerate(model.layers):
        constants |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
        weights = [f"kernel_{number}", f"bias_{number}"]
        nodes.append(helper.make_node("Gemm", [f"values_{number}", *weights], [f"sums_{number}"]))
        last = number == len(model.layers) - 1
        output = "risk" if last else f"values_{number + 1}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"sums_{number}"], [output]))
    return helper.make_graph(
        nodes,
        "heart_disease_risk",
        [helper.make_tensor_value_info("patients", TensorProto.FLOAT, ["num_patients", num_inputs])],
        [helper.make_tensor_value_info("risk", TensorProto.FLOAT, ["num_patients", 1])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )


def _code_scale(model: SavedModel, num_inputs: int) -> tuple[float, float]:
    """Mean and standard deviation of `standardise` for a 0/1 column, computed with it, so that the two cannot differ."""
    zero_and_one = np.repeat(np.array([[0], [1]], dtype=np.float32), num_inputs, axis=1)
    zero, one = standardise(zero_and_one, model.standardisation)[:, -1].tolist()
    return -zero / (one - zero), 1 / (one - zero)


EXPORTERS = {".keras": as_keras, ".onnx": as_onnx, ".tflite": as_tflite}
"""File name extension -> function that makes the file's bytes."""
