"""Blocks: hospitals with as many healthy and ill patients each, whose values are one array."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.patient_split import split_for
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.models.local_training import Examples


@dataclass(frozen=True, eq=False)
class Part:
    """The training, test or validation patients of a block."""

    features: NDArray[np.float64]
    """(num_hospitals, num_patients, num_features)."""
    labels: NDArray[np.float32]
    """(num_hospitals, num_patients)."""

    @property
    def patients(self) -> int:
        """How many each hospital has."""
        return len(self.labels[0])

    def of(self, place: int) -> Patients:
        """Those of one hospital."""
        return Patients(self.features[place], self.labels[place])


@dataclass(frozen=True, eq=False)
class Block:
    """Hospitals with their patients."""

    numbers: NDArray[np.int64]
    """(num_hospitals,): which hospitals of the simulation these are."""
    names: Sequence[str]
    source: str
    train: Part
    test: Part
    validation: Part | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A block's standardised inputs and labels.

    Attributes
    ----------
    seeds : (num_hospitals,) checksums of their names, which seed the orders of their batches.
    parts : the training, test and, if there are any, validation patients.
    """

    numbers: NDArray[np.int64]
    seeds: NDArray[np.uint32]
    parts: tuple[Examples, ...]

    def select(self, wanted: NDArray[np.bool_]) -> "Prepared":
        """The hospitals that are `wanted` (num_hospitals,)."""
        if wanted.all():
            return self
        parts = tuple(Examples(part.inputs[wanted], part.labels[wanted]) for part in self.parts)
        return Prepared(self.numbers[wanted], self.seeds[wanted], parts)

    def fits(self, other: "Prepared", most: int) -> bool:
        """Whether both have as many patients of each part in a hospital, and no more than `most` together."""
        ours, theirs = ([part.labels.shape[1] for part in each.parts] for each in (self, other))
        return ours == theirs and sum(ours) * (len(self.numbers) + len(other.numbers)) <= most

    def join(self, other: "Prepared") -> "Prepared":
        """The hospitals of both."""
        parts = tuple(
            Examples(np.concatenate([one.inputs, two.inputs]), np.concatenate([one.labels, two.labels]))
            for one, two in zip(self.parts, other.parts, strict=True)
        )
        numbers, seeds = np.concatenate([self.numbers, other.numbers]), np.concatenate([self.seeds, other.seeds])
        return Prepared(numbers, seeds, parts)


def split_block(
    settings: FederationSettings,
    numbers: Sequence[int],
    named: tuple[Sequence[str], str],
    features: NDArray[np.float64],
    labels: NDArray[np.float32],
) -> Block:
    """The block of these hospitals; each one's patients are split as `split_for` does. `named` are names and source.

    Raises
    ------
    RunError
        A part of each hospital's patients would be too small.
    """
    # A split depends on the labels only, as far as the order of the patients of either label goes. So one is enough, of
    # hospitals with equal counts, whose "patients" are their places among the healthy and then the ill.
    by_label = np.argsort(labels, axis=1, kind="stable")
    places = np.arange(labels.shape[1], dtype=np.float64)[:, np.newaxis]
    split = split_for(settings, Patients(places, np.sort(labels[0])))

    def take(part: Patients) -> Part:
        rows = np.sort(by_label[:, part.features[:, 0].astype(np.intp)], axis=1)
        return Part(
            np.take_along_axis(features, rows[..., np.newaxis], axis=1), np.take_along_axis(labels, rows, axis=1)
        )

    names, source = named
    held = take(split.validation) if split.validation else None
    return Block(np.asarray(numbers), names, source, take(split.train), take(split.test), held)


def prepare(
    block: Block, schema: Schema, settings: FederationSettings, standardisation: Standardisation | None
) -> Prepared:
    """The block's inputs; without a common `standardisation` each hospital's is that of its training patients."""
    own = (
        None
        if standardisation
        else [preprocessing.local_standardisation(schema, features) for features in block.train.features]
    )

    def encode(part: Part) -> Examples:
        shape = part.labels.shape
        rows = part.features.reshape(shape[0] * shape[1], -1)
        encoded = preprocessing.encode(schema, rows, settings.missing_indicators)
        if standardisation:
            inputs = preprocessing.standardise(encoded, standardisation)
        else:
            each = zip(np.split(encoded, shape[0]), own or (), strict=True)
            inputs = np.concatenate([preprocessing.standardise(rows, scale) for rows, scale in each])
        return Examples(inputs.reshape(*shape, -1), part.labels)

    seeds = np.array([zlib.crc32(name.encode()) for name in block.names], dtype=np.uint32)
    parts = (block.train, block.test, block.validation)
    return Prepared(block.numbers, seeds, tuple(encode(part) for part in parts if part))
