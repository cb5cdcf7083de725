"""The .keras file in other versions of Keras, each installed into a folder of its own beside the libraries that are here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedhealth.models.export import export_model
from fedhealth.models.saved_model import predict_risks, read_model
from tests.support.processes import ROOT
from tests.support.run_folders import make_features, write_run

CHOICES = {"mlp": {}, "logistic": {"model": "logistic"}, "no_indicators": {"missing_indicators": False}}
PATIENTS = 200
SECONDS = 300


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a .keras file and its inputs for each choice."""
    folder = tmp_path_factory.mktemp("models")
    for name, choice in CHOICES.items():
        model = read_model(write_run(folder / "runs" / name, **choice))
        export_model(model, folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", make_features(PATIENTS).astype(np.float32))
    return folder


def install_keras(version: str, folder: Path) -> None:
    """Keras alone: TensorFlow, NumPy and h5py are those of this environment."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, f"keras=={version}"], check=True, timeout=SECONDS)


@pytest.mark.slow  # pip, and a process that imports TensorFlow
@pytest.mark.parametrize("version", ["3.3.3", "3.8.0", "3.12.0", "3.14.0"])
def test_an_older_keras_loads_the_saved_file_and_gives_the_risks_of_predict(
    version: str, models: Path, tmp_path: Path
) -> None:
    install_keras(version, tmp_path / "keras")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "keras"), "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-P", str(ROOT / "tests" / "support" / "keras_risks.py"), str(models)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["keras"] == version
    assert found["risks"].keys() == CHOICES.keys()
    for name, risks in found["risks"].items():
        expected = predict_risks(read_model(models / "runs" / name), make_features(PATIENTS))
        assert expected.std() > 0.05
        np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-6)
