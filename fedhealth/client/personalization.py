"""Models that a hospital makes for itself once the run is over: the global one made personal, and one of its own alone.

They never leave it. What they are good for is measured on its own test patients, which trained none of them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedhealth.client import local_model
from fedhealth.client.participant import Participant
from fedhealth.common.risk import log_odds
from fedhealth.config.federation import FederationSettings, StrategyName
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.paired_comparison import PairedComparison, choose_metric, judge
from fedhealth.models.recalibration import fit_intercept, shift_log_odds

ADAPTIVE: tuple[StrategyName, ...] = ("fedadam", "fedyogi", "fedadagrad")
PLAIN_RATE = 3.0
"""Where no server adapts the steps (alone, in one place, the other strategies), hospitals take three times the learning rate;
on training rows that did better than the same."""
FASTEST = 100.0
"""The largest learning rate that there is."""
FINETUNE_EPOCHS = 5


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model."""

    weights: list[NDArray[np.float32]]
    standardisation: Standardisation
    settings: FederationSettings

    def risks(self, patients: Patients) -> NDArray[np.float32]:
        """Risks of disease (num_patients,)."""
        return local_model.predict_risks(self.weights, patients, self.standardisation, self.settings)

    def log_odds(self, patients: Patients) -> NDArray[np.float64]:
        """Log odds of disease (num_patients,)."""
        return log_odds(self.risks(patients))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run has brought one hospital.

    `models` are named global, personal (unless there is none) and alone; one that diverged is left out. `risks` are those of
    the test patients by each, `verdicts` those on the first two against the last.
    """

    models: Mapping[str, Model]
    labels: NDArray[np.float32]
    risks: Mapping[str, NDArray[np.float32]]
    verdicts: Mapping[str, PairedComparison]


def compare_models(part: Participant, final: Model, fewest: int) -> Outcome:
    """Make the hospital's own models, and compare all on its test patients.

    An AUROC counts only if `fewest` of them are ill, and as many healthy. An intercept leaves their order as it is, so its
    worth is judged by the Brier score.
    """
    models = {"global": final, **make_personal(final, part), "alone": train_alone(part)}
    risks = {name: model.risks(part.test) for name, model in models.items()}
    local_model.require_risks(risks["global"])
    risks = {name: each for name, each in risks.items() if np.all(np.isfinite(each))}
    labels, verdicts = part.test.labels, dict[str, PairedComparison]()
    for name in risks if "alone" in risks else ():
        same_order = name == "personal" and part.settings.personalise == "intercept"
        if name != "alone":
            verdicts[name] = judge(risks[name], risks["alone"], labels, choose_metric(labels, fewest, same_order))
    return Outcome({name: models[name] for name in risks}, labels, risks, verdicts)


def make_personal(final: Model, part: Participant) -> dict[str, Model]:
    """The global model made this hospital's own by its training patients, under `personal`; nothing if that is not wanted."""
    if part.settings.personalise == "none":
        return {}
    if part.settings.personalise == "finetune":
        return {"personal": finetune(final, part.train)}
    shift = fit_intercept(final.log_odds(part.train), part.train.labels)
    return {"personal": dataclasses.replace(final, weights=shift_log_odds(final.weights, by=shift))}


def finetune(model: Model, patients: Patients) -> Model:
    """The model after a few epochs more on one hospital's own patients."""
    weights = local_model.train_further(model.weights, patients, model.standardisation, model.settings, FINETUNE_EPOCHS)
    return dataclasses.replace(model, weights=weights)


@lru_cache(maxsize=1)
def train_alone(part: Participant) -> Model:
    """What the hospital would have without the others: same start and as many epochs, its own means, nobody's weights."""
    settings = alone_settings(part.settings)
    standardisation = preprocessing.local_standardisation(part.train.features)
    start = local_model.find_trainer(settings).initial_weights()
    epochs = settings.rounds * settings.local_epochs
    return Model(
        local_model.train_further(start, part.train, standardisation, settings, epochs), standardisation, settings
    )


def alone_settings(settings: FederationSettings) -> FederationSettings:
    """The settings of a federation of one, with the learning rate that suits it."""
    rate = settings.learning_rate * (PLAIN_RATE if settings.strategy in ADAPTIVE else 1.0)
    return dataclasses.replace(settings, strategy="fedavg", hospitals=1, learning_rate=min(rate, FASTEST))
