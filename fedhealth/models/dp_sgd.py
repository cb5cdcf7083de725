"""Local training with differential privacy: DP-SGD, compiled once, one call per round.

Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1. Batches and noise are arguments: they must be
unpredictable, so they come from `client.privacy.noise.NoiseSource` and not from TensorFlow's generators.
"""

import numpy as np
import tensorflow as tf

from fedhealth.models.local_training import DpSgdBatches, Examples, LocalObjective, Weights
from fedhealth.models.traced_calls import to_vector
from fedhealth.models.training import Trainer, to_tensors


class DpSgdTrainer:
    """A trainer's model and optimiser with traced DP-SGD steps."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._variables = trainer.model.trainable_variables
        self.num_weights = sum(int(np.prod(variable.shape)) for variable in self._variables)
        self._train = tf.function(self._take_steps).get_concrete_function(
            tf.TensorSpec(shape=(self.num_weights,), dtype=tf.float32),
            tf.TensorSpec(shape=(None, trainer.model.input_shape[1]), dtype=tf.float32),
            tf.TensorSpec(shape=(None,), dtype=tf.float32),
            (
                tf.TensorSpec(shape=(None,), dtype=tf.int32),
                tf.TensorSpec(shape=(None,), dtype=tf.int32),
                tf.TensorSpec(shape=(None, self.num_weights), dtype=tf.float32),
                tf.TensorSpec(shape=(2,), dtype=tf.float32),
            ),
            tuple(tf.TensorSpec(shape=shape, dtype=tf.float32) for shape in ((), (self.num_weights,), (2,))),
        )

    def train(
        self, weights: Weights, examples: Examples, steps: DpSgdBatches, objective: LocalObjective | None = None
    ) -> Weights:
        """The weights after `steps`, starting at `weights`; no loss is computed, since it would not be private."""
        # A dummy patient with weight 0 is appended to the patients and to every batch, so that no batch is empty.
        inputs = np.concatenate([examples.inputs, np.zeros((1, examples.inputs.shape[1]), dtype=np.float32)])
        labels = np.append(examples.labels, np.float32(0))
        batches = [np.append(batch, np.int32(len(examples.labels))) for batch in steps.batches]
        start = to_vector(weights)
        trained = self._train(
            start,
            tf.constant(inputs),
            tf.constant(labels),
            (
                tf.constant(np.concatenate(batches).astype(np.int32)),
                tf.constant(np.cumsum([0, *map(len, batches)]).astype(np.int32)),
                tf.constant(steps.noise * np.float32(steps.multiplier * steps.clip)),
                tf.constant([steps.clip, steps.expected], dtype=tf.float32),
            ),
            to_tensors(objective or LocalObjective(), start),
        )
        return self._trainer.to_weights(trained)

    def warm_up(self) -> None:
        """Run once on a dummy patient, so that the first round takes no longer than later ones."""
        examples = Examples(np.zeros((1, self._trainer.model.input_shape[1]), np.float32), np.zeros(1, np.float32))
        noise = np.zeros((1, self.num_weights), dtype=np.float32)
        self.train(
            self._trainer.initial_weights(), examples, DpSgdBatches([np.zeros(1, np.int32)], noise, 1.0, 0.0, 1.0)
        )

    def _take_steps(
        self,
        vector: tf.Tensor,
        inputs: tf.Tensor,
        labels: tf.Tensor,
        steps: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
        objective: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    ) -> tf.Tensor:
        """The weights after all steps. `steps`: concatenated batches, where each begins, noise per step, (clip, expected)."""
        trainer, (order, splits, noise, scale) = self._trainer, steps
        clip, expected = scale[0], scale[1]
        trainer.assign(vector)
        adjust_gradients = trainer.adjust_from(vector, objective)
        for step in tf.range(tf.shape(noise)[0]):
            batch = order[splits[step] : splits[step + 1]]
            sampled = tf.shape(labels)[0] - 1
            counted = tf.cast(batch < sampled, tf.float32)
            summed = self._sum_clipped(tf.gather(inputs, batch), tf.gather(labels, batch), counted, clip)
            noisy = trainer.split((summed + noise[step]) / expected)
            trainer.apply(noisy, adjust_gradients)
        return tf.concat([tf.reshape(weight, [-1]) for weight in trainer.model.weights], axis=0)

    def _sum_clipped(self, inputs: tf.Tensor, labels: tf.Tensor, counted: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
        """The sum (num_weights,) of the patients' gradients, each clipped to L2 norm `clip`.

        A patient's gradient for a dense layer is the outer product of the layer's input and the loss's gradient at the
        layer's output, so its norm is known without computing it (Goodfellow 2015, "Efficient per-example gradient
        computations").
        """
        layers, layer_inputs, outputs, now = self._trainer.model.layers, [], [], inputs
        with tf.GradientTape() as tape:
            for layer in layers:
                layer_inputs.append(now)
                outputs.append(tf.matmul(now, layer.kernel) + layer.bias)
                now = layer.activation(outputs[-1])
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=now[:, 0])
        gradients = tape.gradient(losses, outputs)
        squares = [
            tf.reduce_sum(gradient**2, axis=1) * (1.0 + tf.reduce_sum(values**2, axis=1))
            for gradient, values in zip(gradients, layer_inputs, strict=True)
        ]
        norms = tf.sqrt(tf.add_n(squares))
        factors = counted * tf.minimum(1.0, clip / tf.maximum(norms, 1e-12))
        parts = []
        for gradient, values in zip(gradients, layer_inputs, strict=True):
            clipped = gradient * factors[:, tf.newaxis]
            parts += [tf.reshape(tf.matmul(values, clipped, transpose_a=True), [-1]), tf.reduce_sum(clipped, axis=0)]
        return tf.concat(parts, axis=0)
