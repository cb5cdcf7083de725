"""Nested cross-validation: estimate how much the choice of the default settings biases the results.

In each case the candidates are compared on its training rows only, by inner folds (or, for a new hospital, by leaving out one
training hospital). The best candidate is then trained on all training rows and tested once, so that no test row influences
the selection (Varma & Simon 2006, "Bias in error estimation when using cross-validation for model selection"). If the
defaults are not better than this, their choice has not biased the results noticeably.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.methods import Risks, train_model, with_personal
from experiments.splits import Case, Rows, assign_folds
from fedhealth.client.trainers import Trainers
from fedhealth.common.risk import SMALLEST_RISK
from fedhealth.config.federation import FederationSettings

CHOSEN = "federated chosen"
INNER_FOLDS = 4
INNER_STREAM = 0x1AA3

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "fedavg logistic": {},
    "fedavg logistic, 40 rounds, decay 0.03": {"rounds": 40, "weight_decay": 0.03},
    "fedavg logistic, 20 rounds, batches of 32, decay 0.03": {"rounds": 20, "batch_size": 32, "weight_decay": 0.03},
    "fedadagrad logistic, 20 rounds": {"strategy": "fedadagrad", "rounds": 20},
    "scaffold logistic, 40 rounds": {"strategy": "scaffold", "rounds": 40},
    "fedavg mlp, 60 rounds, decay 0.03": {"model": "mlp", "rounds": 60, "weight_decay": 0.03},
}
"""Candidate -> its changes to the default settings; the first changes nothing."""


def run_chosen(
    case: Case, settings: FederationSettings, chosen: list[str], trainers: Trainers
) -> Iterator[tuple[str, Risks]]:
    """Select a candidate on the case's training rows, train it on all of them and test; appends its name to `chosen`."""
    inner = list(new_hospital_folds(case) if not case.test.keys() <= case.train.keys() else training_folds(case))
    losses = {
        name: inner_loss(inner, dataclasses.replace(settings, **changes), trainers)
        for name, changes in CANDIDATES.items()
    }
    chosen.append(min(losses, key=lambda name: losses[name]))
    best = dataclasses.replace(
        settings,
        **CANDIDATES[chosen[-1]],
        seed=case.seed,
        missing_indicators=case.missing_indicators,
        hospitals=len(case.train),
    )
    yield from with_personal(CHOSEN, train_model(case.schema, case.train, best, trainers), case, finetuned=False)


def training_folds(case: Case) -> Iterator[Case]:
    """Inner folds of the case's training rows; a small hospital may have no test patient in a fold."""
    generator = np.random.default_rng([INNER_STREAM, case.repetition])
    folds = {name: assign_folds(rows.patients.labels, INNER_FOLDS, generator) for name, rows in case.train.items()}
    for fold in range(INNER_FOLDS):
        train = {name: subset(rows, np.flatnonzero(folds[name] != fold)) for name, rows in case.train.items()}
        test = {name: subset(rows, np.flatnonzero(folds[name] == fold)) for name, rows in case.train.items()}
        yield dataclasses.replace(case, train=train, test=test)


def new_hospital_folds(case: Case) -> Iterator[Case]:
    """Cases in which each training hospital in turn is the new one."""
    for left_out, rows in case.train.items():
        rest = {name: other for name, other in case.train.items() if name != left_out}
        yield dataclasses.replace(case, train=rest, test={left_out: rows})


def subset(rows: Rows, places: np.ndarray[Any, np.dtype[np.int64]]) -> Rows:
    """The rows at `places`."""
    patients = dataclasses.replace(
        rows.patients, features=rows.patients.features[places], labels=rows.patients.labels[places]
    )
    return Rows(patients, rows.places[places])


def inner_loss(cases: Sequence[Case], settings: FederationSettings, trainers: Trainers) -> float:
    """Mean log loss per patient over the folds, over the global model and its correction in each hospital."""
    total, patients = 0.0, 0
    for case in cases:
        chosen = dataclasses.replace(
            settings, seed=case.seed, missing_indicators=case.missing_indicators, hospitals=len(case.train)
        )
        for _, risks in with_personal(
            CHOSEN, train_model(case.schema, case.train, chosen, trainers), case, finetuned=False
        ):
            for name, values in risks.items():
                ill = case.test[name].patients.labels > 0.5
                right = np.where(ill, values, 1 - values)
                total -= float(np.log(np.clip(right, SMALLEST_RISK, 1)).sum())
                patients += len(ill)
    return total / patients
