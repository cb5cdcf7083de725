"""Train and predict one case by each method: local, federated and central, always with the apps of a real run.

Local training is a federation of one hospital; central training is a federation of one hospital that has all rows.
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
from fedhealth.client.personalization import Model, finetune, make_personal
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.trainers import Trainers
from fedhealth.common.array_codec import read_array
from fedhealth.config.federation import ADAPTIVE, PLAIN_TO_ADAPTIVE, FederationSettings
from fedhealth.config.federation_flags import Personalise, StrategyName
from fedhealth.data.hospital import Hospital
from fedhealth.data.patients import Patients
from fedhealth.data.schema import Schema
from fedhealth.models.recalibration import fit_intercept, fit_prevalence
from fedhealth.server.app import federate
from fedhealth.server.events import Event, RunFinished
from fedhealth.transport.in_process import InProcessGrid

Risks = dict[str, NDArray[np.float64]]
"""Hospital name -> risks of its test patients."""
NEWTON_DECAY = 0.03
"""Weight decay of newton, which runs to its optimum, while 30 rounds of FedAvg stop before it. Chosen on training rows."""
AT_EPSILON = ", epsilon "
"""Separates the strategy and the epsilon in the name of a method."""


def train_model(
    schema: Schema,
    train: Mapping[str, Rows],
    settings: FederationSettings,
    trainers: Trainers,
    personalise: Personalise = "none",
) -> Model:
    """The model of one federated run in this process, with the same apps as over the network.

    With `personalise`, hospitals also fit their own model after the run; of newton, the intercepts are jointly optimal.
    """
    events: list[Event] = []
    # The study's data are public, so no sum is suppressed; a real hospital suppresses sums over fewer than 5 patients.
    chosen = dataclasses.replace(settings, hospitals=len(train), min_count=1, importance=False, personalise=personalise)
    apps = {
        name: make_client_app(study_hospital(schema, name, rows.patients, [chosen.seed, place], trainers))
        for place, (name, rows) in enumerate(train.items())
    }
    federate(InProcessGrid(apps, chosen.to_run_config()), chosen, events.append, max_wait=1.0, schema=schema)
    finished = events[-1]
    if not isinstance(finished, RunFinished) or finished.standardisation is None:
        raise ValueError("the run of a study must finish and have a common standardisation")
    return Model(
        [read_array(array) for array in finished.weights.values()],
        finished.standardisation,
        LocalModel(schema, chosen, trainers),
    )


def study_hospital(
    schema: Schema, name: str, train: Patients, noise_seed: Sequence[int], trainers: Trainers
) -> HospitalData:
    """A hospital that trains on these patients; its noise is seeded, which is safe because a study's patients are public."""
    # It also evaluates on them, which has no effect; the case's test patients are not part of the run.
    return HospitalData(
        Hospital(name, name, train, schema, "study", ()),
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
    """Yield (method name, risks of all test patients) for each method; `epsilons` are run with the first strategy."""
    base = dataclasses.replace(settings, seed=case.seed, missing_indicators=case.missing_indicators)
    alone = dataclasses.replace(base, strategy="fedavg", hospitals=1)
    if case.test.keys() <= case.train.keys():
        local = {name: train_model(case.schema, {name: case.train[name]}, alone, trainers) for name in case.test}
        yield "local", {name: to_risks(local[name].log_odds(rows.patients)) for name, rows in case.test.items()}
    for strategy in strategies:
        rate = settings.learning_rate / (PLAIN_TO_ADAPTIVE if strategy in ADAPTIVE else 1.0)
        chosen = dataclasses.replace(base, strategy=strategy, hospitals=len(case.train), learning_rate=rate)
        if strategy == "newton":
            chosen = dataclasses.replace(chosen, weight_decay=NEWTON_DECAY)
        model = train_model(case.schema, case.train, chosen, trainers)
        yield from with_personal(f"federated {strategy}", model, case, finetuned=strategy != "newton")
        if strategy == "newton" and case.test.keys() <= case.train.keys():
            yield f"federated {strategy} + joint intercept", joint_intercepts(case, chosen, trainers)
        for epsilon in epsilons if strategy == strategies[0] else ():
            private = train_model(case.schema, case.train, dataclasses.replace(chosen, dp_epsilon=epsilon), trainers)
            yield from with_personal(f"federated {strategy}{AT_EPSILON}{epsilon:g}", private, case, finetuned=False)
    central = train_model(case.schema, {"central": pool(case.train)}, alone, trainers)
    yield from with_personal("central", central, case, finetuned=False)


def joint_intercepts(case: Case, settings: FederationSettings, trainers: Trainers) -> Risks:
    """The risks of Newton's model with intercepts that are optimal together with all coefficients."""
    joint = train_model(case.schema, case.train, settings, trainers, personalise="intercept")
    personal = {name: make_personal(joint, case.train[name].patients)["personal"] for name in case.test}
    return {name: to_risks(personal[name].log_odds(rows.patients)) for name, rows in case.test.items()}


def with_personal(method: str, model: Model, case: Case, finetuned: bool) -> Iterator[tuple[str, Risks]]:
    """Yield the risks of the model and of its corrections in each hospital (by training rows, or by prevalence if new)."""
    global_odds = {name: model.log_odds(rows.patients) for name, rows in case.test.items()}
    yield method, {name: to_risks(odds) for name, odds in global_odds.items()}
    if not case.test.keys() <= case.train.keys():
        trained = float(pool(case.train).patients.labels.mean())
        shifted = {name: odds + fit_prevalence(odds, trained)[1] for name, odds in global_odds.items()}
        yield f"{method} + prevalence", {name: to_risks(odds) for name, odds in shifted.items()}
        return
    own = {name: case.train[name].patients for name in case.test}
    shifts = {name: fit_intercept(model.log_odds(patients), patients.labels) for name, patients in own.items()}
    yield f"{method} + intercept", {name: to_risks(odds + shifts[name]) for name, odds in global_odds.items()}
    if finetuned:
        tuned = {name: finetune(model, patients) for name, patients in own.items()}
        risks = {name: to_risks(tuned[name].log_odds(rows.patients)) for name, rows in case.test.items()}
        yield f"{method} + finetune", risks


def epsilon_of(method: str) -> float | None:
    """The epsilon of a method's guarantee for each patient; None without differential privacy."""
    _, at, rest = method.partition(AT_EPSILON)
    return float(rest.partition(" ")[0]) if at else None


def pool(hospitals: Mapping[str, Rows]) -> Rows:
    """The rows of all hospitals, concatenated."""
    features = np.concatenate([rows.patients.features for rows in hospitals.values()])
    labels = np.concatenate([rows.patients.labels for rows in hospitals.values()])
    return Rows(Patients(features, labels), np.arange(len(labels)))


def to_risks(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds -> risk."""
    risks: NDArray[np.float64] = 1 / (1 + np.exp(-log_odds))
    return risks
