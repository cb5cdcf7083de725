"""Models that a hospital trains for itself after the run: a personalized global model, and a local-only model.

They are not sent. All are compared on the hospital's test patients, none of whom was used in training.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.local_model import LocalModel, require_risks
from fedhealth.client.patient_split import PatientSplit
from fedhealth.common.risk import log_odds
from fedhealth.config.federation import ADAPTIVE, PLAIN_TO_ADAPTIVE, FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.paired_comparison import PairedComparison, choose_metric, compare_paired
from fedhealth.metrics.ranking import only_class
from fedhealth.models.newton_sums import PATIENT_INFORMATION
from fedhealth.models.recalibration import INTERCEPT_PRIOR, fit_intercept, shift_log_odds
from fedhealth.transport.protocol.finalization import FinalRequest

FASTEST = 100.0
"""The largest allowed learning rate."""
FINETUNE_EPOCHS = 5


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model."""

    weights: list[NDArray[np.float32]]
    standardisation: Standardisation
    local: LocalModel

    @property
    def settings(self) -> FederationSettings:
        """The settings it was trained with."""
        return self.local.settings

    def risks(self, patients: Patients) -> NDArray[np.float32]:
        """Predicted risks of disease (num_patients,)."""
        return self.local.predict(self.weights, patients, self.standardisation)

    def log_odds(self, patients: Patients) -> NDArray[np.float64]:
        """Log odds of disease (num_patients,)."""
        return log_odds(self.risks(patients))


@dataclass(frozen=True, eq=False)
class Outcome:
    """A hospital's models after a run, and their comparison on its test patients.

    `models` are named global, personal (if there is one) and alone (local-only); one that diverged is left out. `risks`
    holds each model's predicted risks of the test patients; `comparisons` compares global and personal with alone.
    """

    models: Mapping[str, Model]
    labels: NDArray[np.float32]
    risks: Mapping[str, NDArray[np.float32]]
    comparisons: Mapping[str, PairedComparison]
    trained_on_only: str = ""
    """`ill` or `healthy` if all training patients are: the local-only model has then learned no ranking."""


class FinalModel:
    """The final model that the server sent, and its comparison with the hospital's own models."""

    def __init__(self, local: LocalModel, split: PatientSplit, request: FinalRequest, fewest: int) -> None:
        self.threshold = request.threshold
        self._local = local
        self._split = split
        self._request = request
        self._fewest = fewest

    @cached_property
    def outcome(self) -> Outcome:
        """The hospital's models and their comparison, computed once; raises a `RunError` if the weights do not fit."""
        weights = self._local.order_weights(self._request.weights)
        standardisation = self._local.standardisation(self._request.scale, self._split.train)
        return compare_models(Model(weights, standardisation, self._local), self._split, self._fewest)


def compare_models(final: Model, split: PatientSplit, fewest: int) -> Outcome:
    """Train the hospital's own models and compare all models on its test patients.

    The AUROC is compared only if at least `fewest` of them are ill and as many healthy, and the local-only model has
    learned from both, else the Brier score. An intercept does not change the ranking, so a model personalized by it is
    compared by the Brier score.
    """
    models = {"global": final, **make_personal(final, split.train), "alone": train_alone(final.local, split.train)}
    risks = {name: model.risks(split.test) for name, model in models.items()}
    require_risks(risks["global"])
    risks = {name: each for name, each in risks.items() if np.all(np.isfinite(each))}
    labels, comparisons = split.test.labels, dict[str, PairedComparison]()
    only = only_class(split.train.labels)
    for name in risks if "alone" in risks else ():
        by_error = bool(only) or (name == "personal" and final.settings.personalise == "intercept")
        if name != "alone":
            metric = choose_metric(labels, fewest, by_error)
            comparisons[name] = compare_paired(risks[name], risks["alone"], labels, metric)
    return Outcome({name: models[name] for name in risks}, labels, risks, comparisons, only)


def make_personal(final: Model, train: Patients) -> dict[str, Model]:
    """The global model personalized on the training patients, under the key `personal`; empty with `--personalise none`."""
    if final.settings.personalise == "none":
        return {}
    if final.settings.personalise == "finetune":
        return {"personal": finetune(final, train)}
    settings = final.settings
    prior = settings.intercept_prior * PATIENT_INFORMATION if settings.strategy == "newton" else INTERCEPT_PRIOR
    shift = fit_intercept(final.log_odds(train), train.labels, prior)
    return {"personal": dataclasses.replace(final, weights=shift_log_odds(final.weights, by=shift))}


def finetune(model: Model, patients: Patients) -> Model:
    """The model after `FINETUNE_EPOCHS` more epochs on the hospital's patients."""
    weights = model.local.train_further(model.weights, patients, model.standardisation, FINETUNE_EPOCHS)
    return dataclasses.replace(model, weights=weights)


def train_alone(local: LocalModel, train: Patients) -> Model:
    """The local-only model: same initial weights and number of epochs, standardised by the hospital's own means."""
    settings = alone_settings(local.settings)
    alone = local.with_settings(settings)
    standardisation = preprocessing.local_standardisation(local.schema, train.features)
    epochs = settings.rounds * settings.local_epochs
    weights = alone.train_further(alone.trainer.initial_weights(), train, standardisation, epochs)
    return Model(weights, standardisation, alone)


def alone_settings(settings: FederationSettings) -> FederationSettings:
    """The settings of a federation of one hospital, with a learning rate for plain FedAvg."""
    rate = settings.local_learning_rate * (PLAIN_TO_ADAPTIVE if settings.strategy in ADAPTIVE else 1.0)
    return dataclasses.replace(
        settings, strategy="fedavg", hospitals=1, learning_rate=min(rate, FASTEST), secure_aggregation=False
    )
