"""Local training without a federation: our one traced call compared with Keras's two methods, on the same batches.

Every repetition is the work of one round in a hospital: global weights in, one epoch (or one evaluation), weights (or
risks) out. `set_weights` and `get_weights` are included where they are needed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.common import report, summarise
from fedhealth.common.errors import RunError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.federation import FederationSettings

if TYPE_CHECKING:
    import keras

    from fedhealth.models.local_training import Examples, Weights

NUM_TRAIN, NUM_TEST = 200, 60
TARGETS = {"train, ours": 3.0, "evaluate, ours": 1.5}
"""The project's target in milliseconds."""
LARGEST_DIFFERENCE = 1e-5
"""Between weights or risks that should be equal, in float32."""

Way = Callable[[], "Weights | NDArray[np.float32]"]


@dataclass(frozen=True)
class LocalTrainingSettings:
    """One local epoch and one evaluation: ours, train_on_batch / predict_on_batch, model.fit / model.evaluate.

    Example: python -m benchmarks.local_training --quick
    """

    repetitions: int = 100
    """Repetitions of each method, in turns."""
    quick: bool = False
    """Only 20 repetitions."""


def main() -> None:
    """Check that all methods give the same numbers, run them in turns, report."""
    settings = tyro.cli(LocalTrainingSettings)
    quiet_libraries()
    with silenced_stderr():
        import fedhealth.models.training  # noqa: F401
    train, test = make_examples()
    ways = training_ways(train) | evaluation_ways(train, test)
    first = {name: measure(way) for name, way in ways.items()}
    check_equal(ways)
    later: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(20 if settings.quick else settings.repetitions):
        for name, way in ways.items():
            later[name].append(measure(way))
    show(first, later)


def make_examples() -> tuple["Examples", "Examples"]:
    """Model input of 200 training and 60 test patients, synthetic."""
    from fedhealth.data import preprocessing
    from fedhealth.data.sources.heart import FEATURE_NAMES, HEART, TARGET
    from fedhealth.data.sources.synthetic import sample_patients
    from fedhealth.models.local_training import Examples

    table = sample_patients(920, 0).iloc[: NUM_TRAIN + NUM_TEST]
    features = table[list(FEATURE_NAMES)].to_numpy(dtype=np.float64)
    labels = table[TARGET].to_numpy(dtype=np.float32)
    encoded = preprocessing.encode(HEART, features, FederationSettings().missing_indicators)
    inputs = preprocessing.standardise(encoded, preprocessing.local_standardisation(HEART, features[:NUM_TRAIN]))
    return Examples(inputs[:NUM_TRAIN], labels[:NUM_TRAIN]), Examples(inputs[NUM_TRAIN:], labels[NUM_TRAIN:])


def stock_model(settings: FederationSettings, num_inputs: int) -> "keras.Model":
    """The model that our trainer builds, compiled as in Keras's tutorials; accuracy at log odds 0 is risk 0.5."""
    import keras

    from fedhealth.models.keras_models import build_model

    model = build_model(name=settings.model, num_inputs=num_inputs, seed=settings.seed)
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=settings.local_learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
    )
    return model


def training_ways(examples: "Examples") -> dict[str, Way]:
    """One epoch in one fixed order, from the same weights: name -> function that returns the new weights."""
    from fedhealth.client.privacy.noise import NoiseSource
    from fedhealth.models.dp_sgd import DpSgdTrainer
    from fedhealth.models.local_training import DpSgdBatches, shuffled_orders
    from fedhealth.models.training import Trainer

    settings = FederationSettings()
    num_inputs, size = examples.inputs.shape[1], settings.batch_size
    trainer = Trainer(settings.model, num_inputs, settings.local_learning_rate, size, settings.seed)
    batch_model, fit_model = stock_model(settings, num_inputs), stock_model(settings, num_inputs)
    orders = shuffled_orders(num_patients=NUM_TRAIN, num_epochs=1, seed=[settings.seed])
    start = trainer.initial_weights()
    inputs, labels = examples.inputs[orders[0]], examples.labels[orders[0], np.newaxis]

    def train_on_batches() -> "Weights":
        batch_model.set_weights(start)
        for first in range(0, NUM_TRAIN, size):
            batch_model.train_on_batch(inputs[first : first + size], labels[first : first + size])
        return list(batch_model.get_weights())

    def fit() -> "Weights":
        fit_model.set_weights(start)
        fit_model.fit(inputs, labels, epochs=1, batch_size=size, shuffle=False, verbose=0)
        return list(fit_model.get_weights())

    private, noise_source = DpSgdTrainer(trainer), NoiseSource()

    def train_privately() -> "Weights":
        batches = [noise_source.choose(NUM_TRAIN, size / NUM_TRAIN) for _ in range(-(-NUM_TRAIN // size))]
        noise = noise_source.gaussian((len(batches), private.num_weights))
        return private.train(start, examples, DpSgdBatches(batches, noise, settings.dp_clip, 5.0, size))

    return {
        "train, ours": lambda: trainer.train(start, examples, orders)[0],
        "train, differential privacy": train_privately,
        "train, train_on_batch": train_on_batches,
        "train, model.fit": fit,
    }


def evaluation_ways(train: "Examples", test: "Examples") -> dict[str, Way]:
    """Risks of the test patients (`model.evaluate` gives only their loss) under weights that are not the initial ones."""
    from fedhealth.models.training import Trainer

    settings = FederationSettings()
    num_inputs = test.inputs.shape[1]
    trainer = Trainer(settings.model, num_inputs, settings.local_learning_rate, settings.batch_size, settings.seed)
    predict_model, evaluate_model = stock_model(settings, num_inputs), stock_model(settings, num_inputs)
    weights = [weight + np.float32(0.1) for weight in trainer.initial_weights()]
    labels = test.labels[:, np.newaxis]

    def predict_on_batch() -> NDArray[np.float32]:
        predict_model.set_weights(weights)
        log_odds: NDArray[np.float32] = predict_model.predict_on_batch(test.inputs)[:, 0]
        return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float32)

    def evaluate() -> NDArray[np.float32]:
        evaluate_model.set_weights(weights)
        loss, _ = evaluate_model.evaluate(test.inputs, labels, verbose=0)
        return np.array([loss], dtype=np.float32)

    return {
        "evaluate, ours": lambda: trainer.predict(weights, test.inputs),
        "evaluate, predict_on_batch": predict_on_batch,
        "evaluate, model.evaluate": evaluate,
    }


def check_equal(ways: Mapping[str, Way]) -> None:
    """Raise a `RunError` if the methods give different numbers, since their times could not be compared."""
    pairs = [(f"train, {peer}", "train, ours") for peer in ("train_on_batch", "model.fit")]
    for peer, ours in [*pairs, ("evaluate, predict_on_batch", "evaluate, ours")]:
        for theirs, own in zip(ways[peer](), ways[ours](), strict=True):
            if np.max(np.abs(theirs - own)) > LARGEST_DIFFERENCE:
                raise RunError(f"{peer} and {ours} do not give the same numbers")


def measure(way: Way) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def show(first: Mapping[str, float], later: Mapping[str, list[float]]) -> None:
    """One row per method; the first call (tracing, in ms) is a separate column."""
    rows: list[dict[str, Any]] = []
    for name, seconds in later.items():
        times = summarise(seconds)
        ours = summarise(later[f"{name.partition(',')[0]}, ours"])
        row = {"way": name, **times, "times ours": times["median ms"] / ours["median ms"]}
        target = {"target ms": TARGETS[name]} if name in TARGETS else {}
        rows.append(row | {"first call ms": 1000 * first[name], "calls": len(seconds)} | target)
    report(
        "local_training",
        f"One epoch of {NUM_TRAIN} patients and evaluation of {NUM_TEST}, weights in and out",
        ["way", "median ms", "p95 ms", "times ours", "target ms", "first call ms", "calls"],
        rows,
    )


if __name__ == "__main__":
    main()
