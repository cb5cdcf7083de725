"""The NumPy trainer takes the steps of the Keras trainer, and needs no TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from fedhealth.config.federation_flags import ModelName
from fedhealth.models.keras_models import build_model
from fedhealth.models.local_training import Examples, LocalObjective, Weights, many_orders, shuffled_orders
from fedhealth.models.log_loss import log_losses, sigmoid
from fedhealth.models.numpy_training import NumpyTrainer, differentiate, forward
from fedhealth.models.training import Trainer
from tests.support.processes import PATIENCE, ROOT

NUM_INPUTS = 32
MODELS: tuple[ModelName, ...] = ("logistic", "mlp")
OBJECTIVES = {
    "plain": None,
    "nothing asked": LocalObjective(),
    "pull": LocalObjective(proximal_mu=0.3),
    "class weights": LocalObjective(class_weights=(0.5, 2.0)),
}
ROUNDING = 5e-7
"""Largest difference from Keras of a weight of about 1 after 60 steps; measured: 3e-8 (logistic), 3e-7 (mlp)."""


def make_examples(num_patients: int, seed: int = 0) -> Examples:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(num_patients, NUM_INPUTS)).astype(np.float32)
    return Examples(inputs, (inputs[:, 0] + generator.normal(size=num_patients) > 0).astype(np.float32))


def make_numpy_trainer(model: ModelName) -> NumpyTrainer:
    return NumpyTrainer(model, NUM_INPUTS, learning_rate=0.1, batch_size=64, seed=3, hidden=7, weight_decay=0.01)


def make_pair(model: ModelName) -> tuple[Trainer, NumpyTrainer]:
    keras = Trainer(model, NUM_INPUTS, learning_rate=0.1, batch_size=64, seed=3, hidden=7, weight_decay=0.01)
    return keras, make_numpy_trainer(model)


def require_close(found: Weights, expected: Weights, atol: float = ROUNDING) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("model", MODELS)
def test_sixty_steps_end_where_keras_ends_whatever_the_objective(model: ModelName) -> None:
    keras, ours = make_pair(model)
    examples, orders = make_examples(200), shuffled_orders(200, num_epochs=15, seed=[1])
    start = keras.initial_weights()
    correction = [np.full_like(weight, 0.05) for weight in start]
    cases = {**OBJECTIVES, "correction": LocalObjective(correction=correction)}
    ends = {}
    for name, objective in cases.items():
        expected, expected_loss = keras.train(start, examples, orders, objective)
        ends[name], loss = ours.train(start, examples, orders, objective)
        require_close(ends[name], expected)
        assert loss == pytest.approx(expected_loss, abs=ROUNDING)
        np.testing.assert_allclose(
            ours.predict(ends[name], examples.inputs), keras.predict(expected, examples.inputs), rtol=0, atol=ROUNDING
        )
    different = [np.abs(ends[name][0] - ends["plain"][0]).max() for name in ("pull", "class weights", "correction")]
    assert min(different) > 1e-3, "every objective changes where training ends"
    assert all(np.array_equal(*pair) for pair in zip(ends["plain"], ends["nothing asked"], strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_names_and_shapes_are_those_of_keras(model: ModelName) -> None:
    keras, ours = make_pair(model)
    assert ours.weight_names == keras.weight_names
    assert [weight.shape for weight in ours.initial_weights()] == [weight.shape for weight in keras.initial_weights()]


@pytest.mark.parametrize("seed", [0, 3, 2**31 - 3, 2**31 - 2, 2**31 - 1])
@pytest.mark.parametrize("shape", [(NUM_INPUTS, 7), (5, 1), (13, 64)], ids=str)
def test_the_mlp_begins_with_the_weights_of_keras_bit_for_bit(shape: tuple[int, int], seed: int) -> None:
    keras = build_model("mlp", num_inputs=shape[0], seed=seed, hidden=shape[1]).get_weights()
    ours = NumpyTrainer("mlp", shape[0], 0.1, 64, seed=seed, hidden=shape[1]).initial_weights()
    for one, other in zip(ours, keras, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("num_patients", [10, 75, 200])
def test_many_hospitals_at_once_train_as_each_alone_bit_for_bit(model: ModelName, num_patients: int) -> None:
    trainer, each = make_numpy_trainer(model), [make_examples(num_patients, seed) for seed in range(9)]
    block = Examples(np.stack([one.inputs for one in each]), np.stack([one.labels for one in each]))
    orders = many_orders(num_patients, 2, [0], range(9))
    start = [weight + np.float32(0.1) for weight in trainer.initial_weights()]
    objective = LocalObjective(proximal_mu=0.1, class_weights=(0.7, 1.4))
    weights, losses = trainer.train_many(start, block, orders, objective)
    risks = trainer.predict(start, block.inputs)
    for place, one in enumerate(each):
        expected, loss = trainer.train(start, one, orders[place], objective)
        assert losses[place] == loss
        assert all(np.array_equal(weight[place], other) for weight, other in zip(weights, expected, strict=True))
        np.testing.assert_array_equal(risks[place], trainer.predict(start, one.inputs))
    some, _ = trainer.train_many(start, Examples(block.inputs[3:5], block.labels[3:5]), orders[3:5], objective)
    assert all(np.array_equal(weight[3:5], other) for weight, other in zip(weights, some, strict=True))


def test_the_logistic_model_begins_at_zero_and_the_mlp_within_glorots_limits() -> None:
    logistic, mlp = (make_numpy_trainer(model).initial_weights() for model in MODELS)
    assert all(np.all(weight == 0) for weight in logistic)
    limit = np.sqrt(6 / (NUM_INPUTS + 7))
    assert 0.9 * limit < np.abs(mlp[0]).max() <= limit
    assert all(np.all(weight == 0) for weight in mlp[1:])
    same, other = (
        NumpyTrainer("mlp", NUM_INPUTS, 0.1, 64, seed=seed, hidden=7).initial_weights()[0] for seed in (3, 4)
    )
    assert np.array_equal(same, mlp[0])
    assert not np.array_equal(other, mlp[0])


def test_one_step_on_two_patients_by_hand() -> None:
    """From zero every risk is 0.5: errors are 0.5 and -0.5, their mean gradients those of two inputs."""
    trainer = NumpyTrainer("logistic", 2, learning_rate=1.0, batch_size=2, seed=0)
    examples = Examples(np.array([[1, 2], [3, 4]], np.float32), np.array([0, 1], np.float32))
    (kernel, bias), loss = trainer.train(trainer.initial_weights(), examples, np.array([[0, 1]], np.int32))
    np.testing.assert_array_equal(kernel, [[0.5], [0.5]])
    np.testing.assert_array_equal(bias, [0])
    assert loss == pytest.approx(np.log(2))


def test_the_last_smaller_batch_counts_by_its_size() -> None:
    trainer = NumpyTrainer("logistic", 1, learning_rate=1.0, batch_size=2, seed=0)
    examples = Examples(np.zeros((3, 1), np.float32), np.array([1, 1, 0], np.float32))
    (_, bias), loss = trainer.train(trainer.initial_weights(), examples, np.array([[0, 1, 2]], np.int32))
    risk = 1 / (1 + np.exp(-0.5))
    assert bias[0] == pytest.approx(0.5 - risk)
    assert loss == pytest.approx((2 * np.log(2) - np.log(1 - risk)) / 3)


def test_gradients_equal_finite_differences_of_the_loss() -> None:
    weights = [np.float32(0.5) * weight + np.float32(0.1) for weight in make_numpy_trainer("mlp").initial_weights()]
    examples, patient_weights = make_examples(20), np.full(20, 2, np.float32)
    _, gradients = differentiate(weights, examples.inputs, examples.labels, patient_weights)

    def mean_loss(place: int, step: float) -> float:
        moved = [weight.astype(np.float64) for weight in weights]
        moved[place].flat[0] += step
        log_odds = forward(moved, examples.inputs.astype(np.float64))[-1][:, 0]  # type: ignore[arg-type]
        return float(np.mean(2 * log_losses(log_odds, examples.labels)))

    for place, gradient in enumerate(gradients):
        slope = (mean_loss(place, 1e-6) - mean_loss(place, -1e-6)) / 2e-6
        assert gradient.flat[0] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_training_does_not_change_its_arguments() -> None:
    trainer = make_numpy_trainer("mlp")
    examples, start = make_examples(100), trainer.initial_weights()
    trainer.warm_up()
    trainer.train(start, examples, shuffled_orders(100, 2, [5]), LocalObjective(proximal_mu=0.1))
    for one, other in zip(start, trainer.initial_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_diverged_weights_predict_nan_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    trainer = NumpyTrainer("mlp", NUM_INPUTS, learning_rate=1e30, batch_size=8, seed=0)
    examples = make_examples(64)
    weights, loss = trainer.train(trainer.initial_weights(), examples, shuffled_orders(64, 3, [0]))
    assert not np.isfinite(loss)
    assert not np.all(np.isfinite(trainer.predict(weights, examples.inputs)))
    assert len(recwarn) == 0


def test_large_log_odds_do_not_overflow() -> None:
    log_odds = np.array([-1e4, 0, 1e4], np.float32)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(sigmoid(log_odds), [0, 0.5, 1])
        np.testing.assert_allclose(log_losses(log_odds, np.ones(3, np.float32)), [1e4, np.log(2), 0])


def test_it_imports_no_tensorflow() -> None:
    program = (
        "import sys, fedhealth.models.numpy_training\n"
        "print([name for name in ('tensorflow', 'keras', 'flwr', 'pandas') if name in sys.modules])"
    )
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout == "[]\n"
