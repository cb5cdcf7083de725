"""Local training and prediction in one hospital: compiled once, one call per round.

`model.fit` takes 70 ms for an epoch of 200 patients, nearly all of it overhead; here all batches of all epochs run in
one traced function that takes weights and returns weights.
"""

import itertools
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedhealth.config.federation_flags import ModelName
from fedhealth.models.keras_models import NUM_HIDDEN, BuildModel, build_model, pin_float32, require_usable, weight_names
from fedhealth.models.local_training import Examples, LocalObjective, Weights
from fedhealth.models.traced_calls import to_vector, trace

AdjustGradients = Callable[[list[tf.Tensor]], list[tf.Tensor]]
"""Gradients -> gradients."""


class Trainer:
    """A model, its optimiser and their traced functions; several hospitals may share one trainer.

    The traced functions take and return all weights as one vector, since every argument of a TensorFlow call takes time.
    `build` makes a model instead of `model_name`; raises a `UsageError` if the model is not of the same form.
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
        build: BuildModel | None = None,
    ) -> None:
        pin_float32()
        if build:
            self.model = require_usable(build(num_inputs), num_inputs)
        else:
            self.model = build_model(name=model_name, num_inputs=num_inputs, seed=seed, hidden=hidden)
        self._initial_weights = self.model.get_weights()
        self.optimizer = keras.optimizers.SGD(learning_rate=learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.is_dense = build is None
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.weight_names = weight_names(self.model)
        self._shapes = [tuple(weight.shape) for weight in self._initial_weights]
        self._sizes = [weight.size for weight in self._initial_weights]
        vector = tf.TensorSpec(shape=(sum(self._sizes),), dtype=tf.float32)
        inputs = tf.TensorSpec(shape=(None, num_inputs), dtype=tf.float32)
        labels = tf.TensorSpec(shape=(None,), dtype=tf.float32)
        orders = tf.TensorSpec(shape=(None, None), dtype=tf.int32)
        # Traced once, with open lengths, so that a hospital of another size causes no retracing.
        self._signature = (vector, inputs, inputs, labels, orders)
        self._train = trace(self._predict_and_train, *self._signature)
        self._nobody = Examples(np.zeros((1, num_inputs), dtype=np.float32), np.zeros(1, dtype=np.float32))
        self._kept: WeakKeyDictionary[Examples, tuple[tf.Tensor, tf.Tensor]] = WeakKeyDictionary()
        self._is_warm = False
        self._adjusted: tf.types.experimental.ConcreteFunction | None = None
        self._predict = trace(self._predict_risks, vector, inputs)

    def initial_weights(self) -> Weights:
        """The seeded weights, before any training."""
        return [weight.copy() for weight in self._initial_weights]

    def warm_up(self) -> None:
        """Run both functions once on a dummy patient, so that the first round takes no longer than later ones."""
        if self._is_warm:
            return
        self._is_warm = True
        weights = self.initial_weights()
        self.train(weights, self._nobody, np.zeros((1, 1), dtype=np.int32))
        self.predict(weights, self._nobody.inputs)

    def train(
        self,
        weights: Sequence[NDArray[np.float32]],
        examples: Examples,
        orders: NDArray[np.int32],
        objective: LocalObjective | None = None,
    ) -> tuple[Weights, float]:
        """Stochastic gradient descent from `weights`, one epoch per row of `orders` (num_epochs, num_patients).

        Returns
        -------
        The new weights, and the mean loss (nats per patient, with class weights if there are any, without penalties)
        over all batches, each before its step.
        """
        return self.predict_and_train(weights, self._nobody, examples, orders, objective)[1:]

    def predict_and_train(
        self,
        weights: Sequence[NDArray[np.float32]],
        tests: Examples,
        examples: Examples,
        orders: NDArray[np.int32],
        objective: LocalObjective | None = None,
    ) -> tuple[NDArray[np.float32], Weights, float]:
        """`predict` for the patients `tests` and `train`, from the same weights, in one call: calls take time.

        Returns
        -------
        The risks, the new weights and the mean loss.
        """
        start = to_vector(weights)
        given = (start, self._tensors(tests)[0], *self._tensors(examples), tf.constant(orders))
        if objective is None:
            risks, trained, loss = self._train(*given)
        else:
            risks, trained, loss = self._trace_adjusted()(*given, objective=to_tensors(objective, start))
        return risks.numpy(), self.to_weights(trained), float(loss)

    def _tensors(self, examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        """Inputs and labels, kept as long as the examples are: they are the same in every round."""
        if examples not in self._kept:
            self._kept[examples] = tf.constant(examples.inputs), tf.constant(examples.labels)
        return self._kept[examples]

    def to_weights(self, vector: tf.Tensor) -> Weights:
        """The weights of a vector, in the model's shapes."""
        values, ends = vector.numpy(), itertools.accumulate(self._sizes)
        parts = zip(ends, self._sizes, self._shapes, strict=True)
        return [values[end - size : end].reshape(shape) for end, size, shape in parts]

    def predict(self, weights: Sequence[NDArray[np.float32]], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted risks (num_patients,) of standardised `inputs` (num_patients, num_inputs)."""
        (risks,) = self._predict(to_vector(weights), tf.constant(inputs))
        found: NDArray[np.float32] = risks.numpy()
        return found

    def split(self, vector: tf.Tensor) -> list[tf.Tensor]:
        """As `to_weights`, for use inside a traced function."""
        parts = tf.split(vector, self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def assign(self, vector: tf.Tensor) -> None:
        """Set the model's weights."""
        for variable, part in zip(self.model.weights, self.split(vector), strict=True):
            variable.assign(part)

    def _trace_adjusted(self) -> "tf.types.experimental.ConcreteFunction":
        """The function for an objective, traced when first needed; the plain function stays without its cost."""
        if self._adjusted is None:
            vector = self._signature[0]
            pair = tf.TensorSpec(shape=(2,), dtype=tf.float32)
            number = tf.TensorSpec(shape=(), dtype=tf.float32)
            traced = tf.function(self._train_adjusted)
            self._adjusted = traced.get_concrete_function(*self._signature, objective=(number, vector, pair))
        return self._adjusted

    def _predict_and_train(
        self, vector: tf.Tensor, tests: tf.Tensor, inputs: tf.Tensor, labels: tf.Tensor, orders: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return (self._predict_risks(vector, tests), *self._visit(vector, inputs, labels, orders, self._step))

    def _train_adjusted(
        self,
        vector: tf.Tensor,
        tests: tf.Tensor,
        inputs: tf.Tensor,
        labels: tf.Tensor,
        orders: tf.Tensor,
        *,
        objective: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Predict, and train with an `objective` as returned by `to_tensors`."""
        class_weights, adjust_gradients = objective[2], self.adjust_from(vector, objective)

        def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return self._step(inputs, labels, tf.gather(class_weights, tf.cast(labels, tf.int32)), adjust_gradients)

        return (self._predict_risks(vector, tests), *self._visit(vector, inputs, labels, orders, step))

    def adjust_from(self, vector: tf.Tensor, objective: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> AdjustGradients:
        """A function that adds the terms of `objective` to gradients; `vector` holds the weights before training."""
        proximal_mu, correction, _ = objective
        starts, extras = self.split(vector), self.split(correction)

        def adjust_gradients(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
            parts = zip(gradients, self.model.trainable_variables, starts, extras, strict=True)
            return [gradient + proximal_mu * (now - start) + extra for gradient, now, start, extra in parts]

        return adjust_gradients

    def _visit(
        self,
        vector: tf.Tensor,
        inputs: tf.Tensor,
        labels: tf.Tensor,
        orders: tf.Tensor,
        step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Call `step` on every batch of every epoch, starting at the weights in `vector`: the new vector and mean loss."""
        self.assign(vector)
        num_epochs, num_patients = tf.shape(orders)[0], tf.shape(orders)[1]
        summed = tf.constant(0.0)
        for epoch in tf.range(num_epochs):
            for start in tf.range(0, num_patients, self.batch_size):
                batch = orders[epoch, start : start + self.batch_size]
                loss = step(tf.gather(inputs, batch), tf.gather(labels, batch))
                summed += loss * tf.cast(tf.size(batch), tf.float32)
        trained = tf.concat([tf.reshape(weight, [-1]) for weight in self.model.weights], axis=0)
        return trained, summed / tf.cast(tf.size(orders), tf.float32)

    def _step(
        self,
        inputs: tf.Tensor,
        labels: tf.Tensor,
        patient_weights: tf.Tensor | None = None,
        adjust_gradients: AdjustGradients | None = None,
    ) -> tf.Tensor:
        """One gradient step."""
        with tf.GradientTape() as tape:
            loss = self.loss(labels[:, tf.newaxis], self.model(inputs, training=True), sample_weight=patient_weights)
        self.apply(tape.gradient(loss, self.model.trainable_variables), adjust_gradients)
        return loss

    def apply(self, gradients: list[tf.Tensor], adjust_gradients: AdjustGradients | None) -> None:
        """One gradient step. Weight decay (L2) applies to kernels only: on the bias it would pull the mean risk to 0.5."""
        variables = self.model.trainable_variables
        if self.weight_decay:
            gradients = [
                gradient + self.weight_decay * variable if variable.name == "kernel" else gradient
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
        self.optimizer.apply(adjust_gradients(gradients) if adjust_gradients else gradients, variables)

    def _predict_risks(self, vector: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        self.assign(vector)
        return tf.sigmoid(self.model(inputs, training=False))[:, 0]


def to_tensors(objective: LocalObjective, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`objective` as tensors for the traced functions."""
    correction = tf.zeros_like(start) if objective.correction is None else to_vector(objective.correction)
    class_weights = tf.constant(objective.class_weights, dtype=tf.float32)
    return tf.constant(objective.proximal_mu, dtype=tf.float32), correction, class_weights
