"""Export of a run's model: the schema's columns (num_patients, num_features), NaN where missing -> risk (num_patients, 1).

Keras writes its own format and LiteRT's (.tflite); the ONNX graph is built here from the same weights, without
TensorFlow or a converter. All encode and standardise in the float32 operations of `preprocessing`, and predict the risks
of `saved_model.predict_risks` to within 1e-6 (tested; docs/report.md says what limits it). A graph checks no value: a
code that the schema does not know counts as none of the codes, as in `encode`.
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.common.version import __version__
from fedhealth.data.preprocessing import STANDARDISED_ONE, STANDARDISED_ZERO, encoding_plan
from fedhealth.models.export_readme import describe_model, render_readme
from fedhealth.models.saved_model import SavedModel

if TYPE_CHECKING:
    import onnx

ONNX_OPSET = 17
"""Supported by ONNX Runtime since 1.12 (2022)."""
ONNX_IR_VERSION = 8
"""The file format version of that opset."""
Step = tuple[str, list[str], str]
"""ONNX operator, names of its inputs, name of its output."""
DESCRIPTION = "fedhealth.json"
"""The description's name in a .keras or .tflite file. Both can be read as zip archives."""


def export_model(model: SavedModel, to: Path) -> Path:
    """Write the model to `to`, in the format of its ending, and how to use it to `to`.README.txt; returns that path.

    Raises
    ------
    UsageError
        A file cannot be written, or the optional package for this format is not installed.
    """
    write_file(to, EXPORTERS[to.suffix](model))
    readme = to.with_name(f"{to.name}.README.txt")
    write_file(readme, render_readme(model, to.name, to.suffix).encode(errors="replace"))
    return readme


def as_keras(model: SavedModel) -> bytes:
    """A self-contained .keras file, as a hospital saves with --save-model, and the description in the archive."""
    return _with_description(_made_by_keras(model, "model.keras", lambda built, path: built.save(path)), model)


def as_tflite(model: SavedModel) -> bytes:
    """A LiteRT file for phones and other small devices, exported by Keras, with 32-bit floats.

    The description is in a zip archive behind the model, where TensorFlow Lite Metadata puts files, too.
    """
    return _with_description(_made_by_keras(model, "model.tflite", _write_tflite), model)


def _write_tflite(risk_model: Any, path: str) -> None:
    import keras

    # In a dict, because LiteRT names the output of a list output_0.
    named = keras.Model(inputs=risk_model.inputs, outputs={"risk": risk_model.outputs[0]})
    named.export(path, format="litert", verbose=False)


def _made_by_keras(model: SavedModel, name: str, write: Any) -> bytes:
    from fedhealth.models.keras_models import build_risk_model

    weights = [array for layer in model.layers for array in layer]
    risk_model = build_risk_model(model.schema, weights, model.missing_indicators, model.standardisation)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(risk_model, str(path))
        return path.read_bytes()


def _with_description(content: bytes, model: SavedModel) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        # A ZipInfo has a fixed date, so that the same model gives the same bytes here.
        archive.writestr(zipfile.ZipInfo(DESCRIPTION), json.dumps(describe_model(model), indent=2))
    return file.getvalue()


def as_onnx(model: SavedModel) -> bytes:
    """An ONNX file; its metadata has the description, in JSON what is not a text."""
    try:
        import onnx
    except ImportError:
        raise UsageError("--to *.onnx needs the package onnx; pip install -r requirements-export.txt") from None
    made = onnx.helper.make_model(
        _onnx_graph(model),
        producer_name="flwr_federated_health",
        producer_version=__version__,
        opset_imports=[onnx.helper.make_opsetid("", ONNX_OPSET)],
        ir_version=ONNX_IR_VERSION,
    )
    properties = describe_model(model).items()
    onnx.helper.set_model_props(
        made, {key: value if isinstance(value, str) else json.dumps(value) for key, value in properties}
    )
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content


def _onnx_graph(model: SavedModel) -> "onnx.GraphProto":
    """The graph: the encoding's groups of columns, each standardised, then the layers."""
    from onnx import TensorProto, helper, numpy_helper

    steps, constants = _encoding_steps(model)
    for number, (kernel, bias) in enumerate(model.layers):
        constants |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
        steps.append(("Gemm", [f"values_{number}", f"kernel_{number}", f"bias_{number}"], f"sums_{number}"))
        last = number == len(model.layers) - 1
        steps.append(("Sigmoid" if last else "Relu", [f"sums_{number}"], "risk" if last else f"values_{number + 1}"))
    along_columns = {"Gather": {"axis": 1}, "Concat": {"axis": 1}}
    return helper.make_graph(
        [helper.make_node(kind, inputs, [output], **along_columns.get(kind, {})) for kind, inputs, output in steps],
        "federated_risk",
        [helper.make_tensor_value_info("patients", TensorProto.FLOAT, ["num_patients", len(model.schema.features)])],
        [helper.make_tensor_value_info("risk", TensorProto.FLOAT, ["num_patients", 1])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )


def _encoding_steps(model: SavedModel) -> tuple[list[Step], dict[str, Any]]:
    """From `patients` to `values_0`, the standardised inputs; a group without columns is left out."""
    plan, scale = encoding_plan(model.schema, model.missing_indicators), model.standardisation
    constants: dict[str, Any] = {
        "means": np.array(scale.means, dtype=np.float32),
        "stds": np.array(scale.stds, dtype=np.float32),
        "codes": np.array(plan.codes, dtype=np.float32),
        "mean": np.float32(0),
        "zero": np.float32(STANDARDISED_ZERO),
        "one": np.float32(STANDARDISED_ONE),
    }
    number_steps: list[Step] = [
        ("Sub", ["number_columns", "means"], "centred"),
        ("Div", ["centred", "stds"], "scaled"),
        ("IsNaN", ["scaled"], "unknown"),
        ("Where", ["unknown", "mean", "scaled"], "number_values"),
    ]
    code_steps: list[Step] = [
        ("Equal", ["code_columns", "codes"], "has_code"),
        ("Where", ["has_code", "one", "zero"], "code_values"),
    ]
    missing_steps: list[Step] = [
        ("IsNaN", ["missing_columns"], "is_missing"),
        ("Where", ["is_missing", "one", "zero"], "missing_values"),
    ]
    groups = [
        ("number", plan.numbers, number_steps),
        ("code", plan.code_places, code_steps),
        ("missing", plan.missing, missing_steps),
    ]
    steps: list[Step] = []
    for name, places, own in groups:
        if places:
            constants[f"{name}_places"] = np.array(places, dtype=np.int64)
            steps += [("Gather", ["patients", f"{name}_places"], f"{name}_columns"), *own]
    steps.append(("Concat", [f"{name}_values" for name, places, _ in groups if places], "values_0"))
    return steps, constants


EXPORTERS = {".keras": as_keras, ".onnx": as_onnx, ".tflite": as_tflite}
"""File name extension -> function that makes the file's bytes."""
