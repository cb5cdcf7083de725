"""Training and predicting, one case at a time: alone, federated, in one place; always by the apps of a real run.

A hospital alone is a federation of one; all rows in one place are a federation of one hospital that has them all.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.splits import Case, Rows
from fedhealth.client import app, participant
from fedhealth.client.personalization import ADAPTIVE, PLAIN_RATE, Model, finetune
from fedhealth.common.array_codec import read_array
from fedhealth.config.federation import FederationSettings, StrategyName
from fedhealth.data.hospital import Hospital
from fedhealth.data.patients import Patients
from fedhealth.models.recalibration import fit_intercept, fit_prevalence
from fedhealth.server.app import federate
from fedhealth.server.events import Event, RunFinished
from fedhealth.transport.in_process import InProcessGrid

Risks = dict[str, NDArray[np.float64]]
"""Hospital name -> risks of its test patients."""
AT_EPSILON = ", epsilon "
"""Stands in a method's name between the strategy and what its patients are promised."""

_numbers = itertools.count()


def train_model(train: Mapping[str, Rows], settings: FederationSettings) -> Model:
    """One federated run in this process, by the same two apps as over the network."""
    events: list[Event] = []
    keys = {name: f"memory:{next(_numbers)}" for name in train}
    # Every patient counts in a study; a real hospital keeps sums over fewer than five to itself.
    chosen = dataclasses.replace(settings, hospitals=len(train), min_count=1, importance=False, personalise="none")
    try:
        for place, (name, key) in enumerate(keys.items()):
            patients = train[name].patients
            # What is tested while training decides nothing; the test patients are not even shown to the run.
            hospital, noise_seed = Hospital(name, name, patients, "study", ()), [chosen.seed, place, len(patients)]
            participant.hold_in_memory(key, hospital, patients, patients, noise_seed)
        nodes = {name: {"data": key, "name": name, "min-count": 1} for name, key in keys.items()}
        grid = InProcessGrid(app.app, nodes, chosen.to_run_config())
        federate(grid, chosen, events.append, max_wait=1.0)
    finally:
        for key in keys.values():
            participant.forget_in_memory(key)
    finished = events[-1]
    if not isinstance(finished, RunFinished) or finished.standardisation is None:
        raise ValueError("a study needs a run that ends, with a common standardisation")
    return Model([read_array(array) for array in finished.weights.values()], finished.standardisation, chosen)


def run_case(
    case: Case, settings: FederationSettings, strategies: Sequence[StrategyName], epsilons: Sequence[float] = ()
) -> Iterator[tuple[str, Risks]]:
    """Method name -> risks of all test patients, one method after the other; `epsilons` are tried with the first strategy."""
    base = dataclasses.replace(settings, seed=case.seed, missing_indicators=case.missing_indicators)
    rate = PLAIN_RATE * settings.learning_rate
    alone = dataclasses.replace(base, strategy="fedavg", hospitals=1, learning_rate=rate)
    if case.test.keys() <= case.train.keys():
        local = {name: train_model({name: case.train[name]}, alone) for name in case.test}
        yield "local", {name: to_risks(local[name].log_odds(rows.patients)) for name, rows in case.test.items()}
    for strategy in strategies:
        fitting = base if strategy in ADAPTIVE else dataclasses.replace(base, learning_rate=rate)
        model = train_model(case.train, dataclasses.replace(fitting, strategy=strategy, hospitals=len(case.train)))
        yield from with_personal(f"federated {strategy}", model, case, finetuned=True)
        for epsilon in epsilons if strategy == strategies[0] else ():
            private = dataclasses.replace(fitting, strategy=strategy, hospitals=len(case.train), dp_epsilon=epsilon)
            method = f"federated {strategy}{AT_EPSILON}{epsilon:g}"
            yield from with_personal(method, train_model(case.train, private), case, finetuned=False)
    yield from with_personal("central", train_model({"central": pool(case.train)}, alone), case, finetuned=False)


def with_personal(method: str, model: Model, case: Case, finetuned: bool) -> Iterator[tuple[str, Risks]]:
    """The model as it is, and made personal in each hospital: by its own training rows, or without any label if it is new."""
    global_odds = {name: model.log_odds(rows.patients) for name, rows in case.test.items()}
    yield method, {name: to_risks(odds) for name, odds in global_odds.items()}
    if not case.test.keys() <= case.train.keys():
        trained = float(pool(case.train).patients.labels.mean())
        moved = {name: odds + fit_prevalence(odds, trained)[1] for name, odds in global_odds.items()}
        yield f"{method} + prevalence", {name: to_risks(odds) for name, odds in moved.items()}
        return
    own = {name: case.train[name].patients for name in case.test}
    shifts = {name: fit_intercept(model.log_odds(patients), patients.labels) for name, patients in own.items()}
    yield f"{method} + intercept", {name: to_risks(odds + shifts[name]) for name, odds in global_odds.items()}
    if finetuned:
        tuned = {name: finetune(model, patients) for name, patients in own.items()}
        risks = {name: to_risks(tuned[name].log_odds(rows.patients)) for name, rows in case.test.items()}
        yield f"{method} + finetune", risks


def epsilon_of(method: str) -> float | None:
    """What the method promises each patient; None if nothing."""
    _, at, rest = method.partition(AT_EPSILON)
    return float(rest.partition(" ")[0]) if at else None


def pool(hospitals: Mapping[str, Rows]) -> Rows:
    """All rows in one place, as no federation has them."""
    features = np.concatenate([rows.patients.features for rows in hospitals.values()])
    labels = np.concatenate([rows.patients.labels for rows in hospitals.values()])
    return Rows(Patients(features, labels), np.arange(len(labels)))


def to_risks(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds -> risk."""
    risks: NDArray[np.float64] = 1 / (1 + np.exp(-log_odds))
    return risks
