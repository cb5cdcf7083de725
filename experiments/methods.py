"""Training and predicting, one case at a time: alone, federated, in one place; always by the apps of a real run.

A hospital alone is a federation of one; all rows in one place are a federation of one hospital that has them all.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.splits import Case, Rows
from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.local_model import LocalModel
from fedhealth.client.patient_split import PatientSplit
from fedhealth.client.personalization import Model, finetune
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.trainers import Trainers
from fedhealth.common.array_codec import read_array
from fedhealth.config.federation import ADAPTIVE, PLAIN_TO_ADAPTIVE, FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.data.hospital import Hospital
from fedhealth.data.patients import Patients
from fedhealth.models.recalibration import fit_intercept, fit_prevalence
from fedhealth.server.app import federate
from fedhealth.server.events import Event, RunFinished
from fedhealth.transport.in_process import InProcessGrid

Risks = dict[str, NDArray[np.float64]]
"""Hospital name -> risks of its test patients."""
AT_EPSILON = ", epsilon "
"""Stands in a method's name between the strategy and the epsilon of its guarantee."""


def train_model(train: Mapping[str, Rows], settings: FederationSettings, trainers: Trainers) -> Model:
    """One federated run in this process, by the same two apps as over the network."""
    events: list[Event] = []
    # Every patient counts in a study; a real hospital keeps sums over fewer than five to itself.
    chosen = dataclasses.replace(settings, hospitals=len(train), min_count=1, importance=False, personalise="none")
    apps = {
        name: make_client_app(study_hospital(name, rows.patients, [chosen.seed, place], trainers))
        for place, (name, rows) in enumerate(train.items())
    }
    federate(InProcessGrid(apps, chosen.to_run_config()), chosen, events.append, max_wait=1.0)
    finished = events[-1]
    if not isinstance(finished, RunFinished) or finished.standardisation is None:
        raise ValueError("a study needs a run that ends, with a common standardisation")
    return Model(
        [read_array(array) for array in finished.weights.values()],
        finished.standardisation,
        LocalModel(chosen, trainers),
    )


def study_hospital(name: str, train: Patients, noise_seed: Sequence[int], trainers: Trainers) -> HospitalData:
    """A hospital that trains on these patients; its noise can be repeated, since a study's patients are public."""
    # What is tested while training decides nothing; the case's test patients are not part of the run.
    return HospitalData(
        Hospital(name, name, train, "study", ()),
        trainers,
        HospitalLimits(min_count=1),
        noise_source=NoiseSource([*noise_seed, len(train)]),
        fixed_split=PatientSplit(train, train),
    )


def run_case(
    case: Case,
    settings: FederationSettings,
    strategies: Sequence[StrategyName],
    trainers: Trainers,
    epsilons: Sequence[float] = (),
) -> Iterator[tuple[str, Risks]]:
    """Method name -> risks of all test patients, one method after the other; `epsilons` are tried with the first strategy."""
    base = dataclasses.replace(settings, seed=case.seed, missing_indicators=case.missing_indicators)
    alone = dataclasses.replace(base, strategy="fedavg", hospitals=1)
    if case.test.keys() <= case.train.keys():
        local = {name: train_model({name: case.train[name]}, alone, trainers) for name in case.test}
        yield "local", {name: to_risks(local[name].log_odds(rows.patients)) for name, rows in case.test.items()}
    for strategy in strategies:
        rate = settings.learning_rate / (PLAIN_TO_ADAPTIVE if strategy in ADAPTIVE else 1.0)
        chosen = dataclasses.replace(base, strategy=strategy, hospitals=len(case.train), learning_rate=rate)
        model = train_model(case.train, chosen, trainers)
        yield from with_personal(f"federated {strategy}", model, case, finetuned=True)
        for epsilon in epsilons if strategy == strategies[0] else ():
            private = train_model(case.train, dataclasses.replace(chosen, dp_epsilon=epsilon), trainers)
            yield from with_personal(f"federated {strategy}{AT_EPSILON}{epsilon:g}", private, case, finetuned=False)
    central = train_model({"central": pool(case.train)}, alone, trainers)
    yield from with_personal("central", central, case, finetuned=False)


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
    """The epsilon that the method guarantees each patient; None without a guarantee."""
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
