"""The Keras models, and the file that a hospital keeps: one model from raw encoded features to risk.

Only this module and `training` import Keras.
"""

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from fedhealth.config.federation_flags import ModelName
from fedhealth.data.preprocessing import CODE_MEAN, CODE_STD, NUM_NUMBERS, Standardisation

NUM_HIDDEN = 32


def build_model(name: ModelName, num_inputs: int, seed: int, hidden: int = NUM_HIDDEN) -> keras.Sequential:
    """Standardised inputs (num_patients, num_inputs) -> log odds of disease (num_patients, 1).

    The same arguments give the same weights in every hospital.
    """
    layers = [keras.Input(shape=(num_inputs,), name="patients")]
    if name == "mlp":
        initializer = keras.initializers.GlorotUniform(seed=seed)
        layers.append(keras.layers.Dense(hidden, activation="relu", kernel_initializer=initializer, name="hidden"))
    # From zero, the first risks are 0.5 for everybody and no hospital starts with an opinion.
    layers.append(keras.layers.Dense(1, kernel_initializer="zeros", name="log_odds"))
    return keras.Sequential(layers, name=name)


def weight_names(model: keras.Model) -> list[str]:
    """Names of the model's weights in order, such as `hidden/kernel`."""
    return [weight.path for weight in model.weights]


def build_risk_model(
    name: ModelName,
    weights: list[NDArray[np.float32]],
    num_inputs: int,
    standardisation: Standardisation,
) -> keras.Model:
    """Raw encoded features (`preprocessing.encode`) -> risk (num_patients, 1).

    Standardisation and missing numbers (NaN) are handled inside, by layers that plain Keras loads without our code.
    """
    core = build_model(name=name, num_inputs=num_inputs, seed=0, hidden=weights[0].shape[1])
    core.set_weights(weights)
    codes = num_inputs - NUM_NUMBERS
    patients = keras.Input(shape=(num_inputs,), name="patients")
    standardised = keras.layers.Normalization(
        mean=[*standardisation.means, *[CODE_MEAN] * codes],
        variance=[*np.square(standardisation.stds).tolist(), *[CODE_STD**2] * codes],
        name="standardisation",
    )(patients)
    log_odds = core(keras.ops.nan_to_num(standardised, nan=0.0))
    risk = keras.layers.Activation("sigmoid", name="risk")(log_odds)
    return keras.Model(inputs=patients, outputs=risk, name="heart_disease_risk")


def save_model(
    path: Path,
    name: ModelName,
    weights: list[NDArray[np.float32]],
    num_inputs: int,
    standardisation: Standardisation,
) -> None:
    """Write `build_risk_model` as a self-contained .keras file."""
    model = build_risk_model(name, weights, num_inputs, standardisation)
    temporary = path.with_name(f".{path.stem}.partial.keras")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
