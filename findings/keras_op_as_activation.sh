#!/usr/bin/env bash
# keras 3.15.1: a model with one of Keras's own functions as its activation is saved, and the same version cannot load it.
#
# Run: bash findings/keras_op_as_activation.sh     (Python 3.11 or newer, a package index; about a minute)
#
# Input: Sequential([Input((2,)), Activation(keras.ops.nan_to_num)]), saved with model.save(...) as a .keras file and loaded with
# keras.models.load_model(...). Activation takes "a callable" by its documentation, and the model computes with it.
#
# Expected: the file loads, because every class and function in it is Keras's own and public; or model.save fails.
# Observed: model.save succeeds without a warning. load_model raises "Could not locate function 'nan_to_num'. Make sure custom
# classes and functions are decorated with @keras.saving.register_keras_serializable()". The file has the module "builtins"
# and the name of the function, and load_model looks for this name among activations, losses and the like, but not in
# keras.ops. The same holds for keras.ops.abs, and for a Lambda layer with nan_to_num. Activation("relu6") is not affected.
#
# Relevance: the model that a hospital saves (client.py --save-model) replaces missing numbers (NaN) by the mean, which is 0
# after standardisation. An Activation with nan_to_num is the obvious layer for this, its risks are right before it is saved,
# and the error would appear in the program that loads the file. fedhealth/models/keras_models.py uses operations of a
# functional model instead, which are saved with their module.
#
# Exit status: 0 if observed as described, 1 if not, 2 if Keras could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
}
install >"$folder/install.log" 2>&1 || { cat "$folder/install.log"; echo "could not install keras 3.15.1"; exit 2; }

cat >"$folder/save_and_load.py" <<'PYTHON'
import sys
from pathlib import Path

import keras
import numpy as np

patient = np.array([[np.nan, 1.0]], np.float32)


def load(activation, path):
    """Save a model of one activation, load it, and say how that ends."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Activation(activation)])
    before = np.asarray(model(patient)).tolist()
    model.save(path)
    try:
        after = np.asarray(keras.models.load_model(path)(patient)).tolist()
    except TypeError as error:
        return f"{before} before, saved, not loaded: " + ("Could not locate" in str(error)) * "Could not locate function"
    return f"{before} before, {after} after"


folder = Path(sys.argv[1])
print(f"keras {keras.__version__}, backend {keras.backend.backend()}, input [nan, 1.0]")
ours, named = load(keras.ops.nan_to_num, folder / "ours.keras"), load("relu6", folder / "named.keras")
print("expected: keras.ops.nan_to_num gives [[0.0, 1.0]] before, [[0.0, 1.0]] after")
print(f"observed: keras.ops.nan_to_num gives {ours}")
print(f"          \"relu6\" gives {named}")
described = "[[0.0, 1.0]] before, saved, not loaded: Could not locate function"
sys.exit(0 if (ours, "after" in named) == (described, True) else 1)
PYTHON

code=0
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/save_and_load.py" "$folder" || code=1
[ "$code" = 0 ] && echo "as described" || echo "changed: not as described"
exit "$code"
