"""Local training: the same numbers as Keras's own, and no work done twice."""

import json
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.backend import config as keras_config
from numpy.typing import NDArray

from fedhealth.common.runtime_env import quiet_tensorflow
from fedhealth.data.preprocessing import Standardisation, encode, encoded_names, standardise
from fedhealth.data.sources.heart import FEATURES, HEART
from fedhealth.models.keras_models import build_model, save_model
from fedhealth.models.local_training import Examples, LocalObjective, shuffled_orders
from fedhealth.models.training import Trainer

NUM_INPUTS = 5


def make_examples(num_patients: int, seed: int = 0, num_inputs: int = NUM_INPUTS) -> Examples:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(num_patients, num_inputs)).astype(np.float32)
    return Examples(inputs, (inputs[:, 0] + generator.normal(size=num_patients) > 0).astype(np.float32))


def make_trainer(model: str = "mlp", batch_size: int = 8, learning_rate: float = 0.1) -> Trainer:
    return Trainer(model, NUM_INPUTS, learning_rate=learning_rate, batch_size=batch_size, seed=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("model_name", ["mlp", "logistic"])
def test_training_equals_keras_train_on_batch_weight_for_weight(model_name: str) -> None:
    examples, orders = make_examples(37), shuffled_orders(37, num_epochs=3, seed=[1])
    trainer = make_trainer(model_name)
    weights, loss = trainer.train(trainer.initial_weights(), examples, orders)

    model = build_model(model_name, NUM_INPUTS, seed=3)  # type: ignore[arg-type]
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    losses = []
    for order in orders:
        for start in range(0, 37, 8):
            batch = order[start : start + 8]
            # Keras reports a running mean since the last reset.
            model.reset_metrics()
            losses.append((model.train_on_batch(examples.inputs[batch], examples.labels[batch, None]), len(batch)))
    for ours, keras_weights in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras_weights, rtol=0, atol=1e-6)
    assert loss == pytest.approx(np.average([x for x, _ in losses], weights=[n for _, n in losses]), abs=1e-5)


@pytest.fixture
def float64() -> Iterator[None]:
    """Keras as a keras.json with "floatx": "float64" leaves it."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("float64")
def test_a_model_has_32_bit_floats_whatever_keras_was_told_before() -> None:
    trainer = make_trainer()
    weights, _ = trainer.train(trainer.initial_weights(), make_examples(10), shuffled_orders(10, 1, [0]))
    assert {weight.dtype for weight in weights} == {np.dtype(np.float32)}
    assert trainer.predict(weights, make_examples(10).inputs).dtype == np.float32


@pytest.mark.parametrize("floatx", ["float64", "no float"])
def test_keras_reads_no_keras_json_in_our_processes(
    floatx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": floatx, "backend": "jax"}))
    monkeypatch.setattr(os, "environ", {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax"})
    quiet_tensorflow()
    settings = runpy.run_path(keras_config.__file__)  # what `import keras` does with file and environment
    assert (settings["_FLOATX"], settings["_BACKEND"]) == ("float32", "tensorflow")
    assert [path.name for path in tmp_path.iterdir()] == ["keras.json"]


def test_the_loss_goes_down() -> None:
    trainer, examples = make_trainer(), make_examples(200)
    weights, first = trainer.train(trainer.initial_weights(), examples, shuffled_orders(200, 1, [0]))
    _, later = trainer.train(weights, examples, shuffled_orders(200, 20, [1]))
    assert later < first


def test_nothing_is_traced_again_for_other_hospitals_rounds_or_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[str] = []
    originals = {name: getattr(Trainer, name) for name in ("_predict_and_train", "_predict_risks")}

    # The Python functions run only while they are being traced.
    def train(self: Trainer, *given: object) -> object:
        traced.append("_predict_and_train")
        return originals["_predict_and_train"](self, *given)

    def predict(self: Trainer, vector: object, inputs: object) -> object:
        traced.append("_predict_risks")
        return originals["_predict_risks"](self, vector, inputs)

    monkeypatch.setattr(Trainer, "_predict_and_train", train)
    monkeypatch.setattr(Trainer, "_predict_risks", predict)
    trainer = make_trainer()
    trainer.warm_up()
    assert traced == ["_predict_and_train", "_predict_risks", "_predict_risks"]
    weights = trainer.initial_weights()
    for num_patients, num_epochs in ((10, 1), (37, 2), (200, 5), (8, 1)):
        examples = make_examples(num_patients)
        weights, _ = trainer.train(weights, examples, shuffled_orders(num_patients, num_epochs, [0]))
        trainer.predict(weights, examples.inputs)
    assert traced == ["_predict_and_train", "_predict_risks", "_predict_risks"]


def test_a_call_does_not_change_the_next_one() -> None:
    """Two hospitals share a trainer: the first one's training must not change the second one's result."""
    trainer, ours, orders = make_trainer(), make_examples(40), shuffled_orders(40, 2, [5])
    alone, _ = trainer.train(trainer.initial_weights(), ours, orders)
    fresh = make_trainer()
    initial = fresh.initial_weights()
    fresh.train(initial, make_examples(60, seed=9), shuffled_orders(60, 3, [6]))
    shared, _ = fresh.train(initial, ours, orders)
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("objective", [None, LocalObjective(0.3, class_weights=(1.0, 2.0))])
@pytest.mark.parametrize("model_name", ["mlp", "logistic"])
def test_prediction_and_training_in_one_call_are_those_of_two(
    model_name: str, objective: LocalObjective | None
) -> None:
    trainer, examples, tests = make_trainer(model_name), make_examples(37), make_examples(11, seed=1)
    weights, orders = trainer.initial_weights(), shuffled_orders(37, num_epochs=2, seed=[4])
    risks, trained, loss = trainer.predict_and_train(weights, tests, examples, orders, objective)
    np.testing.assert_array_equal(risks, trainer.predict(weights, tests.inputs))
    alone, loss_alone = trainer.train(weights, examples, orders, objective)
    for one, other in zip(trained, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert loss == loss_alone


def test_neither_warming_up_nor_training_touches_the_initial_weights() -> None:
    cold, warm = make_trainer(), make_trainer()
    warm.warm_up()
    warm.train(warm.initial_weights(), make_examples(40), shuffled_orders(40, 2, [5]))
    for one, other in zip(cold.initial_weights(), warm.initial_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_hospital_builds_the_same_model_and_another_seed_another_one() -> None:
    first, same, other = (build_model("mlp", NUM_INPUTS, seed=seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_one_full_batch_step_of_fedavg_equals_one_pooled_gradient_step() -> None:
    """McMahan et al. 2017, section 2: with one local step on all rows, averaging weights is averaging gradients."""
    sizes = (31, 7, 22)
    hospitals = [make_examples(size, seed=size) for size in sizes]
    pooled = Examples(np.concatenate([h.inputs for h in hospitals]), np.concatenate([h.labels for h in hospitals]))
    trainer = make_trainer(batch_size=1000, learning_rate=0.5)
    # From trained weights, so that no gradient is zero by symmetry.
    start, _ = trainer.train(trainer.initial_weights(), pooled, shuffled_orders(60, 5, [0]))
    locals_ = [trainer.train(start, h, shuffled_orders(len(h.labels), 1, [1]))[0] for h in hospitals]
    central, _ = trainer.train(start, pooled, shuffled_orders(60, 1, [2]))
    for place, expected in enumerate(central):
        federated = sum(weights[place] * (size / 60) for weights, size in zip(locals_, sizes, strict=True))
        np.testing.assert_allclose(federated, expected, rtol=0, atol=1e-6)
        assert np.abs(expected - start[place]).max() > 1e-4


# --- objectives of strategies -----------------------------------------------------------------------------------------


def test_an_empty_objective_gives_the_plain_weights() -> None:
    trainer, examples, orders = make_trainer(), make_examples(40), shuffled_orders(40, 3, [5])
    plain, plain_loss = trainer.train(trainer.initial_weights(), examples, orders)
    steered, steered_loss = trainer.train(trainer.initial_weights(), examples, orders, LocalObjective())
    assert steered_loss == pytest.approx(plain_loss, abs=1e-6)
    for one, other in zip(plain, steered, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def logistic_gradient(
    weights: list[NDArray[np.float32]], examples: Examples, patient_weights: NDArray[np.float64] | float = 1.0
) -> list[NDArray[np.float64]]:
    """Of the mean log loss over all patients, by the textbook's formula."""
    risks = 1 / (1 + np.exp(-(examples.inputs @ weights[0] + weights[1])[:, 0].astype(np.float64)))
    errors = patient_weights * (risks - examples.labels) / len(risks)
    return [(examples.inputs.T @ errors)[:, None], np.array([errors.sum()])]


def test_two_steps_with_proximal_term_correction_class_weights_and_decay_by_the_formula() -> None:
    rate, mu, decay, examples = 0.5, 0.3, 0.2, make_examples(30)
    trainer = Trainer("logistic", NUM_INPUTS, rate, 100, seed=0, weight_decay=decay)
    start, _ = trainer.train(trainer.initial_weights(), make_examples(30, seed=8), shuffled_orders(30, 3, [1]))
    correction = [np.full_like(weight, 0.05) for weight in start]
    objective = LocalObjective(proximal_mu=mu, correction=correction, class_weights=(0.5, 2.0))
    trained, _ = trainer.train(start, examples, shuffled_orders(30, 2, [2]), objective)

    expected = [weight.astype(np.float64) for weight in start]
    patient_weights = np.where(examples.labels > 0.5, 2.0, 0.5)
    for _ in range(2):
        kernel, bias = logistic_gradient(expected, examples, patient_weights)  # type: ignore[arg-type]
        gradients = [kernel + decay * expected[0], bias]
        expected = [
            now - rate * (gradient + mu * (now - before) + 0.05)
            for now, before, gradient in zip(expected, start, gradients, strict=True)
        ]
    for ours, theirs in zip(trained, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_weight_decay_shrinks_kernels_but_not_biases() -> None:
    decaying = Trainer("mlp", NUM_INPUTS, 0.1, 8, seed=3, weight_decay=0.5)
    inputs, labels = np.zeros((8, NUM_INPUTS), np.float32), np.array([0, 1] * 4, np.float32)
    start = [weight + np.float32(1) for weight in decaying.initial_weights()]
    start[-1][:] = -start[-2].sum() * 1  # inputs are 0 and biases 1: the log odds are 0, risk a half, gradients cancel
    trained, _ = decaying.train(start, Examples(inputs, labels), shuffled_orders(8, 1, [0]))
    for before, after in zip(start, trained, strict=True):
        np.testing.assert_allclose(after, before * (0.95 if before.ndim == 2 else 1), rtol=1e-5, atol=1e-5)


def test_hidden_units_are_as_many_as_asked_for() -> None:
    trainer = Trainer("mlp", NUM_INPUTS, 0.1, 8, seed=0, hidden=7)
    assert [weight.shape for weight in trainer.initial_weights()] == [(NUM_INPUTS, 7), (7,), (7, 1), (1,)]


def test_orders_are_permutations_and_follow_their_seed() -> None:
    orders = shuffled_orders(50, num_epochs=3, seed=[1, 2, 3])
    assert orders.shape == (3, 50)
    assert all(sorted(order) == list(range(50)) for order in orders.tolist())
    np.testing.assert_array_equal(orders, shuffled_orders(50, 3, [1, 2, 3]))
    assert not np.array_equal(orders, shuffled_orders(50, 3, [1, 2, 4]))


@pytest.mark.parametrize("missing_indicators", [True, False])
def test_a_saved_model_is_plain_keras_and_gives_the_trainers_risks_for_the_schemas_columns(
    tmp_path: pytest.TempPathFactory, missing_indicators: bool
) -> None:
    features = make_features(num_patients=60)
    num_inputs = len(encoded_names(HEART, missing_indicators))
    standardisation = Standardisation(
        tuple(column.reference_mean + 1 for column in HEART.numbers),
        tuple(column.reference_std for column in HEART.numbers),
    )
    trainer = Trainer("mlp", num_inputs, learning_rate=0.3, batch_size=8, seed=0)
    examples = Examples(
        standardise(encode(HEART, features, missing_indicators), standardisation),
        (np.arange(60) % 2).astype(np.float32),
    )
    weights, _ = trainer.train(trainer.initial_weights(), examples, shuffled_orders(60, 5, [0]))
    path = tmp_path / "model.keras"  # type: ignore[operator]
    save_model(path, HEART, weights, missing_indicators, standardisation)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.keras"]

    loaded = keras.models.load_model(path)  # no custom objects
    risks = loaded.predict(features.astype(np.float32), verbose=0)[:, 0]
    assert np.isnan(features).any()
    np.testing.assert_allclose(risks, trainer.predict(weights, examples.inputs), rtol=0, atol=1e-6)
    assert risks.std() > 0.05


def make_features(num_patients: int) -> NDArray[np.float64]:
    """Synthetic patients with all codes and some missing values."""
    generator = np.random.default_rng(0)
    columns = []
    for column in FEATURES:
        if not column.is_number:
            values = generator.choice(list(column.codes), size=num_patients).astype(float)
        else:
            values = column.reference_mean + column.reference_std * generator.normal(size=num_patients)
        if column.can_be_missing:
            values[generator.random(num_patients) < 0.2] = np.nan
        columns.append(values)
    return np.stack(columns, axis=1)
