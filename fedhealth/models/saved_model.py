"""Reads a run's `model.npz` and predicts risks with NumPy: no TensorFlow, no Keras, no pickle.

The file is written by `server.run_files.write_model`.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.common.risk import USUAL_THRESHOLD
from fedhealth.config.federation_flags import ModelName
from fedhealth.data.preprocessing import Standardisation, encode, encoded_names, standardise
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import parse_schema

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (num_inputs, num_outputs) and bias (num_outputs,) of a dense layer."""
WEIGHTS = "weights/"
CHUNK = 65_536
"""Patients predicted at a time, so that memory does not grow with the number of patients."""


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A trained model: dense layers, ReLU between them, log odds at the end."""

    schema: Schema = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    standardisation: Standardisation
    missing_indicators: bool
    about: Mapping[str, Any] = field(repr=False)
    """The content of the run's `settings.json`."""

    def __post_init__(self) -> None:
        """Raise a `ValueError` if the layers do not fit together."""
        width = len(encoded_names(self.schema, self.missing_indicators))
        for number, (kernel, bias) in enumerate(self.layers, start=1):
            if kernel.shape != (width, len(bias)):
                raise ValueError(f"layer {number} is {kernel.shape}, not ({width}, {len(bias)})")
            width = len(bias)
        if width != 1 or not self.layers:
            raise ValueError("its last layer does not have exactly one output")

    @property
    def threshold(self) -> float:
        """A patient is predicted positive from this risk on: the run's choice, or the usual 0.5."""
        return float(self.about.get("threshold", USUAL_THRESHOLD))

    @property
    def threshold_source(self) -> str:
        """Where the threshold comes from, for people."""
        chosen = "threshold" in self.about
        return "chosen on validation patients, --threshold youden" if chosen else "the run has chosen no other"


def find_model(run: Path) -> Path:
    """The model file of a run folder, or the path itself if it is a file."""
    path = run / "model.npz" if run.is_dir() else run
    if path.is_file():
        return path
    if run.is_dir():
        raise UsageError(f"{path}: no such file; the run has not finished, or this is no run folder")
    raise UsageError(f"{run}: no such run folder; give one of runs/")


def read_model(run: Path) -> SavedModel:
    """Read and check a run's model.

    Raises
    ------
    UsageError
        The file is missing, damaged, made by an earlier version, or has no means because the run used --scaling local.
    """
    path = find_model(run)
    try:
        with np.load(path, allow_pickle=False) as file:
            return _model_of({name: file[name] for name in file.files}, path)
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise UsageError(f"{path}: is not a run's model ({error}); give another run folder") from None


def read_schema(path: Path) -> Schema:
    """The schema in a model file; raises a `UsageError` if there is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return parse_schema(str(file["schema"]), f"{path} (its schema)")
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise UsageError(f"{path}: is not a run's model ({error}); give another run folder") from None


def _model_of(arrays: Mapping[str, NDArray[Any]], path: Path) -> SavedModel:
    about = json.loads(str(arrays["about"]))
    if "schema" not in arrays:
        raise UsageError(f"{path}: does not contain its schema; use version {about['version']}, which wrote it")
    schema = parse_schema(str(arrays["schema"]), f"{path} (its schema)")
    if (model := about["settings"]["model"]) not in get_args(ModelName):
        raise UsageError(
            f"{path}: the model ({model}) was built by the caller of simulate(); only that program can use its weights"
        )
    if "means" not in arrays:
        raise UsageError(
            f"{path}: each hospital standardised with its own means (--scaling local), and they are not in the run "
            f"folder; use the file that a hospital saved with client.py --save-model"
        )
    missing_indicators = bool(about["settings"]["missing-indicators"])
    if arrays["inputs"].tolist() != encoded_names(schema, missing_indicators):
        raise ValueError("its inputs are not the encoded columns")
    means, stds = arrays["means"], arrays["stds"]
    if means.shape != (len(schema.numbers),) or stds.shape != means.shape or not np.all(stds > 0):
        raise ValueError("its means or deviations are invalid")
    if not 0 <= float(about.get("threshold", USUAL_THRESHOLD)) <= 1:
        raise ValueError("its threshold is not between 0 and 1")
    standardisation = Standardisation(tuple(means.tolist()), tuple(stds.tolist()))
    weights = {name.removeprefix(WEIGHTS): array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    return SavedModel(schema, dense_layers(weights), standardisation, missing_indicators, about)


def dense_layers(weights: Mapping[str, NDArray[Any]]) -> tuple[Layer, ...]:
    """The layers in the model's order; raises a `ValueError` if they are not dense and finite."""
    kernels = [name.removesuffix("/kernel") for name in weights if name.endswith("/kernel")]
    if {f"{layer}/{part}" for layer in kernels for part in ("kernel", "bias")} != set(weights):
        raise ValueError("it has weights of layers that are not dense")
    layers = tuple((weights[f"{layer}/kernel"], weights[f"{layer}/bias"]) for layer in kernels)
    for array in weights.values():
        if array.dtype != np.float32 or not np.all(np.isfinite(array)):
            raise ValueError("its weights are not finite 32-bit floats")
    return layers


def predict_risks(model: SavedModel, features: NDArray[np.float64]) -> NDArray[np.float32]:
    """Predicted risks (num_patients,), from 0 to 1, of `features` (num_patients, num_features), in float32 as Keras does."""
    starts = range(0, len(features), CHUNK)
    parts = [_risks(model, features[start : start + CHUNK]) for start in starts]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _risks(model: SavedModel, features: NDArray[np.float64]) -> NDArray[np.float32]:
    values = standardise(encode(model.schema, features, model.missing_indicators), model.standardisation)
    for kernel, bias in model.layers[:-1]:
        values = np.maximum(values @ kernel + bias, 0)
    kernel, bias = model.layers[-1]
    log_odds = (values @ kernel + bias)[:, 0]
    # exp(-|x|) cannot overflow, whatever the log odds.
    small = np.exp(-np.abs(log_odds))
    risks: NDArray[np.float32] = np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    return risks
