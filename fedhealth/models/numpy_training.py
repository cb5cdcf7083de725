"""Local training in NumPy: the same steps as `training.py`, for programs that do not import TensorFlow.

Weights are in Keras' order: kernel (num_inputs, num_outputs) and bias (num_outputs,) of each dense layer, in float32. Arrays
may have one more dimension in front, the hospitals: all of them then take their steps at once. Every operation works
within one hospital, so that its result does not depend on who else is in the array.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedhealth.config.federation_flags import ModelName
from fedhealth.models.glorot import glorot_uniform
from fedhealth.models.local_training import Examples, LocalObjective, Weights
from fedhealth.models.log_loss import log_losses, sigmoid

NUM_HIDDEN = 32
Floats = NDArray[np.float32]


class NumpyTrainer:
    """A model and its stochastic gradient descent, with the interface of `training.Trainer`; calls share no state.

    The seeded initial weights are those of Keras, bit for bit.
    """

    is_dense = True

    def __init__(
        self,
        model_name: ModelName,
        num_inputs: int,
        learning_rate: float,
        batch_size: int,
        seed: int,
        *,
        hidden: int = NUM_HIDDEN,
        weight_decay: float = 0.0,
    ) -> None:
        layers = {"log_odds": (num_inputs, 1)}
        if model_name == "mlp":
            layers = {"hidden": (num_inputs, hidden), "log_odds": (hidden, 1)}
        self.weight_names = [f"{model_name}/{layer}/{part}" for layer in layers for part in ("kernel", "bias")]
        self._initial_weights = draw_weights(list(layers.values()), seed)
        self._learning_rate = np.float32(learning_rate)
        self._batch_size = batch_size
        self._weight_decay = np.float32(weight_decay)

    def initial_weights(self) -> Weights:
        """The seeded weights, before any training."""
        return [weight.copy() for weight in self._initial_weights]

    def warm_up(self) -> None:
        """Do nothing: there is nothing to compile."""

    def train(
        self,
        weights: Sequence[Floats],
        examples: Examples,
        orders: NDArray[np.int32],
        objective: LocalObjective | None = None,
    ) -> tuple[Weights, float]:
        """Stochastic gradient descent from `weights`, one epoch per row of `orders` (num_epochs, num_patients).

        Returns
        -------
        The new weights, and the mean loss (nats per patient, with class weights if there are any, without penalties)
        over all batches, each before its step. Training that diverges does not raise: the weights are infinite or NaN.
        """
        one = Examples(examples.inputs[np.newaxis], examples.labels[np.newaxis])
        trained, losses = self.train_many(weights, one, orders[np.newaxis], objective)
        return [weight[0] for weight in trained], float(losses[0])

    def predict_and_train(
        self,
        weights: Sequence[Floats],
        tests: Examples,
        examples: Examples,
        orders: NDArray[np.int32],
        objective: LocalObjective | None = None,
    ) -> tuple[Floats, Weights, float]:
        """`predict` for the patients `tests` and `train`, from the same weights: risks, new weights and mean loss."""
        return (self.predict(weights, tests.inputs), *self.train(weights, examples, orders, objective))

    def train_many(
        self,
        weights: Sequence[Floats],
        examples: Examples,
        orders: NDArray[np.int32],
        objective: LocalObjective | None = None,
    ) -> tuple[Weights, Floats]:
        """As `train`, of hospitals with as many patients each, all from the same `weights`.

        `examples` are (num_hospitals, num_patients, num_inputs) and (num_hospitals, num_patients), `orders`
        (num_hospitals, num_epochs, num_patients). The new weights have a dimension more, the hospitals, and so has the loss.
        """
        objective = objective or LocalObjective()
        hospitals, patients = examples.labels.shape
        patient_weights = np.array(objective.class_weights, dtype=np.float32)
        now = [np.repeat(np.asarray(weight, dtype=np.float32)[np.newaxis], hospitals, axis=0) for weight in weights]
        summed = np.zeros(hospitals, dtype=np.float32)
        inputs, labels = examples.inputs.reshape(hospitals * patients, -1), examples.labels.reshape(-1)
        starts = np.arange(hospitals)[:, np.newaxis] * patients
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in split_batches(orders, self._batch_size):
                rows = batch + starts
                ill = np.take(labels, rows)
                each = patient_weights[ill.astype(np.int32)]
                loss, gradients = differentiate(now, np.take(inputs, rows, axis=0), ill, each)
                summed += loss
                self._step(now, gradients, weights, objective)
        return now, summed / np.float32(orders[0].size)

    def predict(self, weights: Sequence[Floats], inputs: Floats) -> Floats:
        """Risk (..., num_patients) of each row of standardised `inputs` (..., num_patients, num_inputs)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return sigmoid(forward(weights, inputs)[-1][..., 0])

    def _step(self, now: Weights, gradients: Weights, start: Sequence[Floats], objective: LocalObjective) -> None:
        """One gradient step on the weights `now`, in place; weight decay (L2) applies to kernels only."""
        for place, weight in enumerate(now):
            gradient = gradients[place]
            if self._weight_decay and start[place].ndim == 2:
                gradient = gradient + self._weight_decay * weight
            if objective.proximal_mu:
                gradient = gradient + np.float32(objective.proximal_mu) * (weight - start[place])
            if objective.correction is not None:
                gradient = gradient + objective.correction[place]
            np.subtract(weight, self._learning_rate * gradient, out=weight)


def draw_weights(layers: Sequence[tuple[int, int]], seed: int) -> Weights:
    """Initial weights: zero biases, a zero kernel in the last layer (all risks are 0.5), Glorot uniform kernels before it."""
    weights: Weights = []
    for num_inputs, num_outputs in layers[:-1]:
        weights += [glorot_uniform(num_inputs, num_outputs, seed), np.zeros(num_outputs, dtype=np.float32)]
    return [*weights, np.zeros(layers[-1], dtype=np.float32), np.zeros(layers[-1][1], dtype=np.float32)]


def split_batches(orders: NDArray[np.int32], batch_size: int) -> Iterator[NDArray[np.int32]]:
    """The batches (..., batch_size) of every epoch of `orders` (..., num_epochs, num_patients).

    An epoch's last batch may be smaller.
    """
    for epoch in range(orders.shape[-2]):
        for start in range(0, orders.shape[-1], batch_size):
            yield orders[..., epoch, start : start + batch_size]


def forward(weights: Sequence[Floats], inputs: Floats) -> list[Floats]:
    """The input of each layer (..., num_patients, num_values), and last the log odds of disease (..., num_patients, 1)."""
    values = [inputs]
    for place in range(0, len(weights) - 2, 2):
        values.append(np.maximum(values[-1] @ weights[place] + weights[place + 1][..., np.newaxis, :], 0))
    return [*values, values[-1] @ weights[-2] + weights[-1][..., np.newaxis, :]]


def differentiate(
    weights: Sequence[Floats], inputs: Floats, labels: Floats, patient_weights: Floats
) -> tuple[Floats, Weights]:
    """Summed log loss (nats, each patient weighted by `patient_weights`) of a batch, and the gradients of its mean."""
    *values, log_odds = forward(weights, inputs)
    scaled = patient_weights / np.float32(labels.shape[-1])
    errors = ((sigmoid(log_odds[..., 0]) - labels) * scaled)[..., np.newaxis]
    gradients: Weights = []
    for layer in reversed(range(len(values))):
        gradients = [np.swapaxes(values[layer], -1, -2) @ errors, errors.sum(axis=-2), *gradients]
        if layer:
            errors = errors @ np.swapaxes(weights[2 * layer], -1, -2) * (values[layer] > 0)
    return np.sum(log_losses(log_odds[..., 0], labels) * patient_weights, axis=-1), gradients
