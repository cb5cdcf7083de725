"""A program of its own, for a Keras of another version: loads FOLDER/*.keras and prints version and risks as JSON.

FOLDER/NAME.npy holds the inputs of NAME.keras. The Keras at hand is the one that PYTHONPATH leads to.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np


def main(folder: Path) -> None:
    """Print {"keras": version, "risks": {NAME: risks}}."""
    risks = {path.stem: predict(path, np.load(path.with_suffix(".npy"))) for path in folder.glob("*.keras")}
    sys.stdout.write(json.dumps({"keras": keras.__version__, "risks": risks}))


def predict(path: Path, inputs: np.ndarray) -> list[float]:
    """The risks by the model's `predict`, which Keras's own documentation begins with."""
    return keras.models.load_model(path).predict(inputs, verbose=0)[:, 0].tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
