"""Local training in NumPy: the same steps as `training.py`, for programs that do not import TensorFlow.

Weights are in Keras' order: kernel (num_inputs, num_outputs) and bias (num_outputs,) of each dense layer, in float32.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedhealth.config.federation_flags import ModelName
from fedhealth.models.local_training import Examples, LocalObjective, Weights

NUM_HIDDEN = 32
Floats = NDArray[np.float32]


class NumpyTrainer:
    """A model and its stochastic gradient descent, with the interface of `training.Trainer`; calls share no state.

    The mlp's initial weights follow the same distribution as in Keras (Glorot and Bengio 2010, equation 16), but come
    from NumPy's generator, so the same seed gives other initial weights than Keras.
    """

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
        objective = objective or LocalObjective()
        patient_weights = np.array(objective.class_weights, dtype=np.float32)[examples.labels.astype(np.int32)]
        now, summed = [np.array(weight, dtype=np.float32) for weight in weights], np.float32(0)
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in split_batches(orders, self._batch_size):
                loss, gradients = differentiate(
                    now, examples.inputs[batch], examples.labels[batch], patient_weights[batch]
                )
                summed += loss
                self._step(now, gradients, weights, objective)
        return now, float(summed / np.float32(orders.size))

    def predict(self, weights: Sequence[Floats], inputs: Floats) -> Floats:
        """Risk (num_patients,) of each row of standardised `inputs` (num_patients, num_inputs)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return sigmoid(forward(weights, inputs)[-1][:, 0])

    def _step(self, now: Weights, gradients: Weights, start: Sequence[Floats], objective: LocalObjective) -> None:
        """One gradient step on the weights `now`, in place; weight decay (L2) applies to kernels only."""
        for place, weight in enumerate(now):
            gradient = gradients[place]
            if self._weight_decay and weight.ndim == 2:
                gradient = gradient + self._weight_decay * weight
            if objective.proximal_mu:
                gradient = gradient + np.float32(objective.proximal_mu) * (weight - start[place])
            if objective.correction is not None:
                gradient = gradient + objective.correction[place]
            np.subtract(weight, self._learning_rate * gradient, out=weight)


def draw_weights(layers: Sequence[tuple[int, int]], seed: int) -> Weights:
    """Initial weights: zero biases, a zero kernel in the last layer (all risks are 0.5), Glorot uniform kernels before it."""
    generator = np.random.default_rng(seed)
    weights: Weights = []
    for num_inputs, num_outputs in layers[:-1]:
        limit = np.sqrt(6 / (num_inputs + num_outputs))
        weights.append(generator.uniform(-limit, limit, (num_inputs, num_outputs)).astype(np.float32))
        weights.append(np.zeros(num_outputs, dtype=np.float32))
    return [*weights, np.zeros(layers[-1], dtype=np.float32), np.zeros(layers[-1][1], dtype=np.float32)]


def split_batches(orders: NDArray[np.int32], batch_size: int) -> Iterator[NDArray[np.int32]]:
    """The batches of every epoch, each with at most `batch_size` patient indices; an epoch's last one may be smaller."""
    for order in orders:
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


def forward(weights: Sequence[Floats], inputs: Floats) -> list[Floats]:
    """The input of each layer (num_patients, ...), and last the log odds of disease (num_patients, 1)."""
    values = [inputs]
    for place in range(0, len(weights) - 2, 2):
        values.append(np.maximum(values[-1] @ weights[place] + weights[place + 1], 0))
    return [*values, values[-1] @ weights[-2] + weights[-1]]


def differentiate(
    weights: Sequence[Floats], inputs: Floats, labels: Floats, patient_weights: Floats
) -> tuple[np.float32, Weights]:
    """Summed log loss (nats, each patient weighted by `patient_weights`) of a batch, and the gradients of its mean."""
    *values, log_odds = forward(weights, inputs)
    errors = (sigmoid(log_odds) - labels[:, np.newaxis]) * (patient_weights / np.float32(len(labels)))[:, np.newaxis]
    gradients: Weights = []
    for layer in reversed(range(len(values))):
        gradients = [values[layer].T @ errors, errors.sum(axis=0), *gradients]
        if layer:
            errors = errors @ weights[2 * layer].T * (values[layer] > 0)
    return np.sum(log_losses(log_odds[:, 0], labels) * patient_weights), gradients


def log_losses(log_odds: Floats, labels: Floats) -> Floats:
    """Log loss (num_patients,) in nats, without overflow for large log odds."""
    losses: Floats = np.maximum(log_odds, 0) - log_odds * labels + np.log1p(np.exp(-np.abs(log_odds)))
    return losses


def sigmoid(log_odds: Floats) -> Floats:
    """Risks of these log odds, without overflow for large ones."""
    small = np.exp(-np.abs(log_odds))
    risks: Floats = np.where(log_odds >= 0, 1, small) / (1 + small)
    return risks
