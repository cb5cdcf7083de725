"""Local training and evaluation inside one hospital: compiled once, one call per round.

`model.fit` spends 70 ms on an epoch of 200 patients, nearly all of it overhead; here all batches of all epochs run in
one traced function that takes weights and returns weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedhealth.model import build_model, weight_names
from fedhealth.settings import ModelName

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Examples:
    """Standardised inputs (num_patients, num_inputs) and labels (num_patients,) of some patients."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.float32]


class Trainer:
    """A model, its optimiser and the two functions traced for them; any number of hospitals may share one.

    The traced functions take and give all weights as one vector: TensorFlow charges for every argument of a call.
    """

    def __init__(
        self, model_name: ModelName, num_inputs: int, learning_rate: float, batch_size: int, seed: int
    ) -> None:
        self.model = build_model(name=model_name, num_inputs=num_inputs, seed=seed)
        self._initial_weights = self.model.get_weights()
        self.optimizer = keras.optimizers.SGD(learning_rate=learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.batch_size = batch_size
        self.weight_names = weight_names(self.model)
        self._shapes = [tuple(weight.shape) for weight in self._initial_weights]
        self._sizes = [weight.size for weight in self._initial_weights]
        vector = tf.TensorSpec(shape=(sum(self._sizes),), dtype=tf.float32)
        inputs = tf.TensorSpec(shape=(None, num_inputs), dtype=tf.float32)
        labels = tf.TensorSpec(shape=(None,), dtype=tf.float32)
        orders = tf.TensorSpec(shape=(None, None), dtype=tf.int32)
        # Traced once, here, for open lengths: nothing can be traced again, whatever the size of a hospital.
        self._train = tf.function(self._train_batches).get_concrete_function(vector, inputs, labels, orders)
        self._predict = tf.function(self._predict_risks).get_concrete_function(vector, inputs)

    def initial_weights(self) -> Weights:
        """The seeded weights that the model was built with (before any training)."""
        return [weight.copy() for weight in self._initial_weights]

    def warm_up(self) -> None:
        """Run both functions once, on one invented patient, so that the first round costs what every round costs."""
        weights = self.initial_weights()
        inputs = np.zeros((1, self.model.input_shape[1]), dtype=np.float32)
        self.train(weights, Examples(inputs, np.zeros(1, dtype=np.float32)), np.zeros((1, 1), dtype=np.int32))
        self.predict(weights, inputs)

    def train(
        self, weights: Sequence[NDArray[np.float32]], examples: Examples, orders: NDArray[np.int32]
    ) -> tuple[Weights, float]:
        """Stochastic gradient descent from `weights`, one epoch per row of `orders` (num_epochs, num_patients).

        Returns
        -------
        The new weights, and the mean loss (nats per patient) over all batches as they were met.
        """
        inputs, labels = tf.constant(examples.inputs), tf.constant(examples.labels)
        trained, loss = self._train(_to_vector(weights), inputs, labels, tf.constant(orders))
        parts = np.split(trained.numpy(), np.cumsum(self._sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)], float(loss)

    def predict(self, weights: Sequence[NDArray[np.float32]], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Risk (num_patients,) of each row of standardised `inputs`."""
        risks: NDArray[np.float32] = self._predict(_to_vector(weights), tf.constant(inputs)).numpy()
        return risks

    def _assign(self, vector: tf.Tensor) -> None:
        parts = tf.split(vector, self._sizes)
        for variable, part, shape in zip(self.model.weights, parts, self._shapes, strict=True):
            variable.assign(tf.reshape(part, shape))

    def _train_batches(
        self, vector: tf.Tensor, inputs: tf.Tensor, labels: tf.Tensor, orders: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._assign(vector)
        num_epochs, num_patients = tf.shape(orders)[0], tf.shape(orders)[1]
        summed = tf.constant(0.0)
        for epoch in tf.range(num_epochs):
            for start in tf.range(0, num_patients, self.batch_size):
                batch = orders[epoch, start : start + self.batch_size]
                loss = self._step(tf.gather(inputs, batch), tf.gather(labels, batch))
                summed += loss * tf.cast(tf.size(batch), tf.float32)
        trained = tf.concat([tf.reshape(weight, [-1]) for weight in self.model.weights], axis=0)
        return trained, summed / tf.cast(tf.size(orders), tf.float32)

    def _step(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self.loss(labels[:, tf.newaxis], self.model(inputs, training=True))
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return loss

    def _predict_risks(self, vector: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        self._assign(vector)
        return tf.sigmoid(self.model(inputs, training=False))[:, 0]


def _to_vector(weights: Sequence[NDArray[np.float32]]) -> tf.Tensor:
    return tf.constant(np.concatenate([weight.ravel() for weight in weights]))


def shuffled_orders(num_patients: int, num_epochs: int, seed: Sequence[int]) -> NDArray[np.int32]:
    """Orders (num_epochs, num_patients) in which to visit the patients; the same `seed` words give the same orders."""
    generator = np.random.default_rng(list(seed))
    orders = [generator.permutation(num_patients) for _ in range(num_epochs)]
    return np.stack(orders).astype(np.int32)
