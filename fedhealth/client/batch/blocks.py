"""Blocks: hospitals with as many healthy and ill patients each, whose values are one array."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.patient_split import PatientSplit, split_for
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.hospital import Hospital
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.models.local_training import Examples

PartName = Literal["train", "test", "validation"]
PARTS: tuple[PartName, ...] = ("train", "test", "validation")


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


class Block(Protocol):
    """Hospitals with their patients."""

    numbers: NDArray[np.int64]
    """(num_hospitals,): which hospitals of the simulation these are."""
    source: str
    split: PatientSplit
    """The split of every hospital, see `split_places`."""

    @property
    def names(self) -> Sequence[str]:
        """Of the hospitals."""
        ...

    def part(self, name: PartName) -> Part | None:
        """The training, test or validation patients; None if there are none."""
        ...


class OneHospital:
    """The block of one hospital, whose patients are split as `split_for` does.

    Raises
    ------
    RunError
        A part of its patients would be too small.
    """

    def __init__(self, settings: FederationSettings, number: int, hospital: Hospital) -> None:
        patients = hospital.patients
        ill = int((patients.labels > 0.5).sum())
        self.numbers = np.array([number])
        self.names = [hospital.name]
        self.source = hospital.source
        self.split = split_places(settings, len(patients) - ill, ill)
        self._parts = take_parts(self.split, patients.features[np.newaxis], patients.labels[np.newaxis])

    def part(self, name: PartName) -> Part | None:
        """The training, test or validation patients; None if there are none."""
        return self._parts.get(name)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A block's standardised inputs and labels.

    Attributes
    ----------
    seeds : (num_hospitals,) checksums of their names, which seed the orders of their batches.
    parts : the training, test and validation patients, as far as there are any and they were asked for.
    """

    numbers: NDArray[np.int64]
    seeds: NDArray[np.uint32]
    parts: Mapping[PartName, Examples]

    def select(self, wanted: NDArray[np.bool_]) -> "Prepared":
        """The hospitals that are `wanted` (num_hospitals,)."""
        if wanted.all():
            return self
        parts = {name: Examples(part.inputs[wanted], part.labels[wanted]) for name, part in self.parts.items()}
        return Prepared(self.numbers[wanted], self.seeds[wanted], parts)

    def fits(self, other: "Prepared", most: int) -> bool:
        """Whether both have as many patients of each part in a hospital, and no more than `most` together."""
        ours, theirs = ([part.labels.shape[1] for part in each.parts.values()] for each in (self, other))
        return ours == theirs and sum(ours) * (len(self.numbers) + len(other.numbers)) <= most

    def join(self, other: "Prepared") -> "Prepared":
        """The hospitals of both."""
        pairs = ((name, one, other.parts[name]) for name, one in self.parts.items())
        parts = {
            name: Examples(np.concatenate([one.inputs, two.inputs]), np.concatenate([one.labels, two.labels]))
            for name, one, two in pairs
        }
        numbers, seeds = np.concatenate([self.numbers, other.numbers]), np.concatenate([self.seeds, other.seeds])
        return Prepared(numbers, seeds, parts)


def split_places(settings: FederationSettings, healthy: int, ill: int) -> PatientSplit:
    """The split of a hospital with so many healthy and ill patients, whose "patients" are places: the healthy, then the ill.

    A split depends on the labels only, as far as the order of the patients of either label goes. So one is enough for all
    hospitals with equal counts.

    Raises
    ------
    RunError
        A part would be too small.
    """
    places = np.arange(healthy + ill, dtype=np.float64)[:, np.newaxis]
    return split_for(settings, Patients(places, np.repeat(np.array([0, 1], dtype=np.float32), [healthy, ill])))


def take_parts(split: PatientSplit, features: NDArray[np.float64], labels: NDArray[np.float32]) -> dict[PartName, Part]:
    """The parts of hospitals whose patients are split like that: `features` (num_hospitals, num_patients, num_features)."""
    by_label = np.argsort(labels, axis=1, kind="stable")

    def take(part: Patients) -> Part:
        rows = np.sort(by_label[:, part.features[:, 0].astype(np.intp)], axis=1)
        return Part(
            np.take_along_axis(features, rows[..., np.newaxis], axis=1), np.take_along_axis(labels, rows, axis=1)
        )

    held: dict[PartName, Part] = {"validation": take(split.validation)} if split.validation else {}
    return {"train": take(split.train), "test": take(split.test), **held}


def prepare(
    block: Block,
    schema: Schema,
    settings: FederationSettings,
    standardisation: Standardisation | None,
    wanted: Sequence[PartName],
) -> Prepared:
    """The block's inputs of the parts that are `wanted`.

    Without a common `standardisation` each hospital's is that of its training patients.
    """
    found = {name: part for name in wanted if (part := block.part(name))}
    own = None if standardisation else _own_standardisations(block, schema)
    parts = {name: _encode(part, schema, settings, standardisation, own) for name, part in found.items()}
    seeds = np.array([zlib.crc32(name.encode()) for name in block.names], dtype=np.uint32)
    return Prepared(block.numbers, seeds, parts)


def _own_standardisations(block: Block, schema: Schema) -> list[Standardisation]:
    train = block.part("train")
    return [preprocessing.local_standardisation(schema, features) for features in train.features] if train else []


def _encode(
    part: Part,
    schema: Schema,
    settings: FederationSettings,
    standardisation: Standardisation | None,
    own: Sequence[Standardisation] | None,
) -> Examples:
    shape = part.labels.shape
    rows = part.features.reshape(shape[0] * shape[1], -1)
    encoded = preprocessing.encode(schema, rows, settings.missing_indicators)
    if standardisation:
        inputs = preprocessing.standardise(encoded, standardisation)
    else:
        each = zip(np.split(encoded, shape[0]), own or (), strict=True)
        inputs = np.concatenate([preprocessing.standardise(some, scale) for some, scale in each])
    return Examples(inputs.reshape(*shape, -1), part.labels)
