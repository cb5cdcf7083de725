"""DP-SGD's steps: clipping and noise on arrays that can be checked by hand; gradients against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from fedhealth.config.federation_flags import ModelName
from fedhealth.models.dp_sgd import DpSgdTrainer
from fedhealth.models.local_training import DpSgdBatches, Examples, LocalObjective
from fedhealth.models.training import Trainer

RATE = 0.5


def make_trainer(model: ModelName = "logistic", num_inputs: int = 2, weight_decay: float = 0.0) -> Trainer:
    return Trainer(model, num_inputs, RATE, batch_size=4, seed=0, hidden=3, weight_decay=weight_decay)


def steps_of(
    *batches: list[int],
    num_weights: int,
    noise: float = 0.0,
    clip: float = 1e6,
    multiplier: float = 0.0,
    expected: float = 1.0,
) -> DpSgdBatches:
    drawn = np.full((len(batches), num_weights), noise, dtype=np.float32)
    return DpSgdBatches([np.array(batch, dtype=np.int32) for batch in batches], drawn, clip, multiplier, expected)


def flat(weights: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in weights])


TWO = Examples(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32), np.array([1.0, 0.0], dtype=np.float32))
"""From zero weights the first has the gradient -0.5 * (3, 4, 1), 2.55 long; the second 0.5 * (0, 0, 1), 0.5 long."""


def test_each_patients_gradient_is_clipped_before_the_sum() -> None:
    trainer = make_trainer()
    private = DpSgdTrainer(trainer)
    trained = private.train(trainer.initial_weights(), TWO, steps_of([0, 1], num_weights=3, clip=1.0, expected=2.0))
    first = -0.5 * np.array([3, 4, 1]) / np.linalg.norm(0.5 * np.array([3, 4, 1]))
    second = np.array([0, 0, 0.5])
    assert flat(trained) == pytest.approx(-RATE * (first + second) / 2, abs=1e-6)


def test_noise_is_in_units_of_the_clipping_norm_and_divided_by_the_expected_batch_size() -> None:
    trainer = make_trainer()
    steps = steps_of([], num_weights=3, noise=1.0, clip=0.5, multiplier=4.0, expected=10.0)
    trained = DpSgdTrainer(trainer).train(trainer.initial_weights(), TWO, steps)
    assert flat(trained) == pytest.approx([-RATE * 0.5 * 4.0 / 10.0] * 3)


def test_the_sum_is_divided_by_the_expected_batch_size_whatever_the_actual_one() -> None:
    trainer = make_trainer()
    private = DpSgdTrainer(trainer)
    alone = private.train(trainer.initial_weights(), TWO, steps_of([1], num_weights=3, expected=5.0))
    assert flat(alone) == pytest.approx([0, 0, -RATE * 0.5 / 5.0])


def test_every_step_starts_from_the_one_before() -> None:
    trainer = make_trainer()
    private = DpSgdTrainer(trainer)
    both = private.train(trainer.initial_weights(), TWO, steps_of([0], [1, 0], num_weights=3, expected=2.0))
    first = private.train(trainer.initial_weights(), TWO, steps_of([0], num_weights=3, expected=2.0))
    second = private.train(first, TWO, steps_of([1, 0], num_weights=3, expected=2.0))
    assert flat(both) == pytest.approx(flat(second), abs=1e-6)


@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_norms_and_sums_equal_tensorflows_gradients_of_one_patient_at_a_time(model: ModelName) -> None:
    generator = np.random.default_rng(0)
    trainer = make_trainer(model, num_inputs=5)
    examples = Examples(
        generator.normal(size=(7, 5)).astype(np.float32), (generator.random(7) < 0.5).astype(np.float32)
    )
    start = [generator.normal(size=weight.shape).astype(np.float32) for weight in trainer.initial_weights()]
    trainer.model.set_weights(start)
    clipped = []
    for row, label in zip(examples.inputs, examples.labels, strict=True):
        with tf.GradientTape() as tape:
            loss = trainer.loss(tf.constant([[label]]), trainer.model(row[np.newaxis]))
        gradient = flat([part.numpy() for part in tape.gradient(loss, trainer.model.trainable_variables)])
        clipped.append(gradient * min(1.0, 0.7 / np.linalg.norm(gradient)))
    private = DpSgdTrainer(trainer)
    steps = steps_of(list(range(7)), num_weights=private.num_weights, clip=0.7, expected=7.0)
    trained = private.train(start, examples, steps)
    assert flat(trained) == pytest.approx(flat(start) - RATE * np.mean(clipped, axis=0), abs=1e-6)


@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_without_noise_and_clipping_a_full_step_is_the_ordinary_one(model: ModelName) -> None:
    generator = np.random.default_rng(1)
    trainer = make_trainer(model, num_inputs=5, weight_decay=0.1)
    examples = Examples(
        generator.normal(size=(4, 5)).astype(np.float32), (generator.random(4) < 0.5).astype(np.float32)
    )
    start = [generator.normal(size=weight.shape).astype(np.float32) for weight in trainer.initial_weights()]
    correction = [generator.normal(size=weight.shape).astype(np.float32) for weight in start]
    private = DpSgdTrainer(trainer)
    everybody = steps_of([0, 1, 2, 3], num_weights=private.num_weights, expected=4.0)
    order = np.arange(4, dtype=np.int32)[np.newaxis]
    for objective in (None, LocalObjective(proximal_mu=0.3), LocalObjective(correction=correction)):
        plain, _ = trainer.train(start, examples, order, objective)
        assert flat(private.train(start, examples, everybody, objective)) == pytest.approx(flat(plain), abs=1e-6)


def test_one_patient_changes_the_sum_by_at_most_the_clipping_norm() -> None:
    """The assumption of the accountant: one more patient changes the sum before noise by at most `clip`."""
    generator = np.random.default_rng(2)
    trainer = make_trainer("mlp", num_inputs=5)
    private = DpSgdTrainer(trainer)
    examples = Examples(
        (1e3 * generator.normal(size=(6, 5))).astype(np.float32), (generator.random(6) < 0.5).astype(np.float32)
    )
    start = [generator.normal(size=weight.shape).astype(np.float32) for weight in trainer.initial_weights()]

    def trained_on(patients: list[int]) -> np.ndarray:
        return flat(private.train(start, examples, steps_of(patients, num_weights=private.num_weights, clip=0.3)))

    everybody = list(range(6))
    moved = [
        np.linalg.norm(trained_on(everybody) - trained_on([p for p in everybody if p != out])) for out in everybody
    ]
    assert max(moved) == pytest.approx(RATE * 0.3, rel=1e-3), "at least one is cut, or this would show nothing"


def test_a_hospital_without_training_patients_replies_like_any_other() -> None:
    """An empty hospital must not be visible as a failure: the reply is noise only."""
    trainer = make_trainer()
    nobody = Examples(np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.float32))
    steps = steps_of([], num_weights=3, noise=1.0, clip=0.5, multiplier=4.0, expected=10.0)
    trained = DpSgdTrainer(trainer).train(trainer.initial_weights(), nobody, steps)
    assert flat(trained) == pytest.approx([-RATE * 0.5 * 4.0 / 10.0] * 3)
    assert trainer.predict(trained, nobody.inputs).shape == (0,)
