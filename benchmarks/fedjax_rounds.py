"""FedJAX beside our simulation: in an environment of its own, since it needs an older JAX and NumPy than we have."""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from fedhealth.data import preprocessing
from fedhealth.data.patients import USUAL_SHARE, Patients, split_patients
from fedhealth.data.sources.heart import HEART
from fedhealth.data.sources.synthetic import sample_one

PACKAGES = (
    *("fedjax==0.0.17", "jax==0.4.35", "jaxlib==0.4.35", "dm-haiku==0.0.13", "optax==0.2.4"),
    *("chex<0.1.90", "numpy<2.2"),
)
PROGRAM = Path(__file__).with_name("fedjax_program.py")
LONGEST = 900.0
"""Seconds for the installation, and for the rounds."""


def run_fedjax(hospitals: int, patients: int, rounds: int) -> list[float] | None:
    """Seconds of each round; None, and a line that says why, if FedJAX cannot be installed here."""
    with tempfile.TemporaryDirectory(prefix="fedhealth-fedjax-") as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        try:
            _run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
            _write_hospitals(folder / "hospitals.npz", hospitals, patients)
            seconds: list[float] = json.loads(
                _run([str(python), "-P", str(PROGRAM), str(folder / "hospitals.npz"), str(rounds)])
            )
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            print(f"no FedJAX here: {error}", flush=True)
            return None
        return seconds


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST).stdout


def _write_hospitals(path: Path, hospitals: int, patients: int) -> None:
    """The training patients of the simulation's hospitals, as inputs and labels of equally many."""
    scale = preprocessing.reference_standardisation(HEART)
    inputs, labels = [], []
    for number in range(hospitals):
        _, features, targets = sample_one(number, patients, seed=0)
        train, _ = split_patients(Patients(features, targets), USUAL_SHARE, seed=0)
        encoded = preprocessing.encode(HEART, train.features, missing_indicators=True)
        inputs.append(preprocessing.standardise(encoded, scale))
        labels.append(train.labels)
    fewest = min(map(len, labels))
    np.savez(
        path, inputs=np.stack([each[:fewest] for each in inputs]), labels=np.stack([each[:fewest] for each in labels])
    )
