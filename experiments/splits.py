"""Training and test patients of each protocol, drawn from seeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedhealth.config.scripts import DatasetSettings
from fedhealth.data.partition import deal_out
from fedhealth.data.patients import UNKNOWN_HOSPITAL, Patients
from fedhealth.data.schema import Schema
from fedhealth.data.validation import labels_of

NUM_FOLDS = 5
SMALL_SIZES = (15, 30, 60)
DRAWS_PER_SEED = 4
"""Repetitions per seed of the protocol `small`, whose results vary most."""
FOLD_STREAM, DRAW_STREAM = 0xF01D, 0xD4A3
"""Make these random numbers independent of other uses of the same seed."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Patients of one hospital and their indices in that hospital's table (num_patients,)."""

    patients: Patients
    places: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Case:
    """Training and test rows of one model, by hospital name; a hospital without training rows is new to the model."""

    schema: Schema
    protocol: str
    repetition: int
    seed: int
    train: Mapping[str, Rows]
    test: Mapping[str, Rows]
    missing_indicators: bool = True


def patients_of(schema: Schema, table: pd.DataFrame) -> dict[str, Patients]:
    """Table -> hospital name -> its patients, in the table's order."""
    return {
        str(name): Patients(
            features=rows[list(schema.feature_names)].to_numpy(dtype=np.float64),
            labels=labels_of(schema, rows),
        )
        for name, rows in table.groupby(schema.hospital, sort=False)
    }


def deal_to_hospitals(schema: Schema, table: pd.DataFrame, split: str, clients: int) -> dict[str, Patients]:
    """Hospital name -> its patients: the table's own hospitals (`natural`), or as `create_dataset.py` deals them out.

    Raises a `UsageError` if the table does not name the hospitals, or has too few patients to be dealt out.
    """
    if split == "natural" and UNKNOWN_HOSPITAL not in set(table[schema.hospital]):
        return patients_of(schema, table)
    parts = deal_out(table, schema, split=split, clients=clients, alpha=DatasetSettings.alpha, seed=0)
    return patients_of(
        schema,
        pd.concat([part.assign(**{schema.hospital: str(place)}) for place, part in enumerate(parts, start=1)]),
    )


def take(patients: Patients, places: NDArray[np.int64]) -> Rows:
    """The patients at `places`."""
    return Rows(Patients(patients.features[places], patients.labels[places]), places)


def assign_folds(labels: NDArray[np.float32], num_folds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Fold of each patient (num_patients,), stratified by label."""
    folds, assigned = np.zeros(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        folds[members] = (np.arange(len(members)) + assigned) % num_folds
        assigned += len(members)
    return folds


def cross_validation_cases(
    schema: Schema,
    hospitals: Mapping[str, Patients],
    seeds: int,
    protocol: str = "cv",
    missing_indicators: bool = True,
) -> Iterator[Case]:
    """Five folds stratified by hospital and label, for each seed; every patient is tested once per seed."""
    for seed in range(seeds):
        generator = np.random.default_rng([FOLD_STREAM, seed])
        folds = {name: assign_folds(patients.labels, NUM_FOLDS, generator) for name, patients in hospitals.items()}
        for fold in range(NUM_FOLDS):
            train = {name: take(p, np.flatnonzero(folds[name] != fold)) for name, p in hospitals.items()}
            test = {name: take(p, np.flatnonzero(folds[name] == fold)) for name, p in hospitals.items()}
            yield Case(schema, protocol, seed, seed, train, test, missing_indicators)


def new_hospital_cases(schema: Schema, hospitals: Mapping[str, Patients], seeds: int) -> Iterator[Case]:
    """Cases in which each hospital in turn is new: trained on the others, tested on it."""
    for seed in range(seeds):
        for left_out in hospitals:
            train = {name: take(p, np.arange(len(p))) for name, p in hospitals.items() if name != left_out}
            test = {left_out: take(hospitals[left_out], np.arange(len(hospitals[left_out])))}
            yield Case(schema, "new-hospital", seed, seed, train, test)


def small_cases(schema: Schema, hospitals: Mapping[str, Patients], seeds: int, size: int) -> Iterator[Case]:
    """`size` training patients per hospital, stratified by label; a fifth of the hospital's patients is the test set."""
    for repetition in range(seeds * DRAWS_PER_SEED):
        generator = np.random.default_rng([DRAW_STREAM, repetition])
        train, test = {}, {}
        for name, patients in hospitals.items():
            folds = assign_folds(patients.labels, NUM_FOLDS, generator)
            rest = np.flatnonzero(folds != 0)
            parts = assign_folds(patients.labels[rest], max(1, len(rest) // size), generator)
            train[name] = take(patients, rest[parts == 0][:size])
            test[name] = take(patients, np.flatnonzero(folds == 0))
        yield Case(schema, f"small-{size}", repetition, repetition, train, test)
