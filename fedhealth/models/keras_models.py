"""The Keras models, and the saved model from the columns of the schema to risk.

Only this module, `training` and `dp_sgd` import Keras or TensorFlow.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from fedhealth.common.errors import UsageError
from fedhealth.config.federation_flags import ModelName
from fedhealth.data.preprocessing import (
    STANDARDISED_ONE,
    STANDARDISED_ZERO,
    EncodingPlan,
    Standardisation,
    encoding_plan,
)
from fedhealth.data.schema import Schema

NUM_HIDDEN = 32
BuildModel = Callable[[int], keras.Model]
"""Number of inputs -> the caller's own model, from standardised inputs to log odds."""
DENSE_KEYS = (
    *("name", "trainable", "dtype", "units", "activation", "use_bias"),
    *("kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer"),
    *("kernel_constraint", "bias_constraint"),
)
"""The settings of a dense layer that Keras 3.3 can read."""


def build_model(name: ModelName, num_inputs: int, seed: int, hidden: int = NUM_HIDDEN) -> keras.Sequential:
    """Standardised inputs (num_patients, num_inputs) -> log odds of disease (num_patients, 1).

    The same arguments give the same weights in every hospital.
    """
    pin_float32()
    layers = [keras.Input(shape=(num_inputs,), name="patients")]
    if name == "mlp":
        initializer = keras.initializers.GlorotUniform(seed=seed)
        layers.append(keras.layers.Dense(hidden, activation="relu", kernel_initializer=initializer, name="hidden"))
    # With zero weights in the last layer, every patient's risk is 0.5 before training.
    layers.append(keras.layers.Dense(1, kernel_initializer="zeros", name="log_odds"))
    return keras.Sequential(layers, name=name)


def require_usable(model: keras.Model, num_inputs: int) -> keras.Model:
    """The built model, if this package can train it.

    Raises
    ------
    UsageError
        It is no Keras model, does not map (num_patients, `num_inputs`) to log odds (num_patients, 1), or has weights that
        are not trained by gradients, such as those of batch normalisation.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"model: the function returned a {type(model).__name__}; return a keras.Model")
    try:
        if not model.built:
            model.build((None, num_inputs))
        shape = model.compute_output_shape((None, num_inputs))
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"model: does not take {num_inputs} inputs ({reason}); use the function's argument") from None
    if tuple(shape) != (None, 1):
        raise UsageError(f"model: its outputs are {tuple(shape)}; give one output per patient, the log odds")
    if getattr(model.layers[-1], "activation", keras.activations.linear) is not keras.activations.linear:
        raise UsageError("model: its last layer has an activation; leave it out, the output is the log odds")
    if model.non_trainable_weights:
        name = model.non_trainable_weights[0].path
        raise UsageError(f"model: {name} is not trained by gradients (batch normalisation?); leave that layer out")
    return model


def pin_float32() -> None:
    """Let Keras compute in 32-bit floats, even if another program imported it first with a user's keras.json."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def weight_names(model: keras.Model) -> list[str]:
    """Names of the model's weights in order, such as `hidden/kernel`."""
    return [weight.path for weight in model.weights]


def build_risk_model(
    schema: Schema, weights: list[NDArray[np.float32]], missing_indicators: bool, standardisation: Standardisation
) -> keras.Model:
    """The schema's columns in their order (num_patients, num_columns), NaN where missing -> risk (num_patients, 1).

    `weights` are the kernel and the bias of each dense layer. Encoding and standardisation are part of the model, in the
    float32 operations of `preprocessing`. Keras 3.3 or later reads the saved file, without our code.
    """
    pin_float32()
    patients = keras.Input(shape=(len(schema.features),), name="patients")
    values = _standardised(patients, encoding_plan(schema, missing_indicators), standardisation)
    for kernel in weights[:-2:2]:
        values = _portable_dense(kernel.shape[1], "relu", "hidden")(values)
    log_odds = _portable_dense(1, "linear", "log_odds")(values)
    risk = keras.layers.Activation("sigmoid", name="risk")(log_odds)
    # In lists, because Keras 3.3 reads no other form; one input and one output are used as they are all the same.
    model = keras.Model(inputs=[patients], outputs=[risk], name="federated_risk")
    for variable, array in zip(model.trainable_weights, weights, strict=True):
        variable.assign(array)
    return model


def _standardised(
    patients: keras.KerasTensor, plan: EncodingPlan, standardisation: Standardisation
) -> keras.KerasTensor:
    """`preprocessing.standardise` of `preprocessing.encode`, as a graph.

    Its operations have no settings of their own: those of `take` and `nan_to_num` are saved with a name, which Keras
    before 3.11 refuses.
    """
    parts = []
    if plan.numbers:
        means = np.array(standardisation.means, dtype=np.float32)
        stds = np.array(standardisation.stds, dtype=np.float32)
        numbers = (_columns(patients, plan.numbers) - means) / stds
        parts.append(keras.ops.where(keras.ops.isnan(numbers), 0.0, numbers))
    if plan.codes:
        codes = np.array(plan.codes, dtype=np.float32)
        parts.append(_plus_minus(keras.ops.equal(_columns(patients, plan.code_places), codes)))
    if plan.missing:
        parts.append(_plus_minus(keras.ops.isnan(_columns(patients, plan.missing))))
    return keras.layers.Concatenate()(parts)


def _columns(patients: keras.KerasTensor, places: Sequence[int]) -> keras.KerasTensor:
    return keras.layers.Concatenate()([patients[:, place : place + 1] for place in places])


def _plus_minus(true: keras.KerasTensor) -> keras.KerasTensor:
    """A 0/1 column, standardised."""
    return keras.ops.where(true, STANDARDISED_ONE, STANDARDISED_ZERO)


def _portable_dense(units: int, activation: str, name: str) -> keras.layers.Dense:
    """A dense layer that is saved with the keys of Keras 3.3 only: Keras refuses a key that it does not know.

    Later versions save more keys (`quantization_config` since 3.13), even where they hold the default.
    """
    # The weights are assigned; the default initialiser is saved with keys that only Keras 3.15 knows.
    layer = keras.layers.Dense(units, activation=activation, kernel_initializer="zeros", name=name)
    config = layer.get_config()
    layer.get_config = lambda: {key: config[key] for key in DENSE_KEYS}
    return layer


def save_model(
    path: Path,
    schema: Schema,
    weights: list[NDArray[np.float32]],
    missing_indicators: bool,
    standardisation: Standardisation,
) -> None:
    """Write `build_risk_model` as a self-contained .keras file."""
    model = build_risk_model(schema, weights, missing_indicators, standardisation)
    temporary = path.with_name(f".{path.stem}.partial.keras")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
