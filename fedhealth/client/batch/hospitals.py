"""The hospitals of one process: they do in blocks what `client.app` does hospital by hospital, with the same results.

Every result says by the hospitals' numbers whose it is; each process returns that of its own hospitals.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.batch.blocks import PARTS, Block, Part, PartName
from fedhealth.client.batch.source import BlockSource
from fedhealth.client.local_model import LocalModel, require_risks
from fedhealth.client.split_hash import derive_key, hash_patients
from fedhealth.client.trainers import Trainers
from fedhealth.common.errors import RunError
from fedhealth.common.seeding import seeded_generators
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.many_histograms import Scores, score_many
from fedhealth.metrics.many_importance import can_measure_many, measure_many_importance
from fedhealth.metrics.many_subgroups import count_many_subgroups
from fedhealth.metrics.permutation_importance import SHUFFLE_STREAM
from fedhealth.models.local_training import (
    Examples,
    LocalObjective,
    Weights,
    finish_layers,
    many_orders,
    split_first_layer,
)
from fedhealth.models.numpy_training import NumpyTrainer
from fedhealth.models.weighted_sums import WeightedSum, add_sums, find_too_large, sum_weights
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.setup import Description

Numbers = NDArray[np.int64]
"""(num_hospitals,): which hospitals of the simulation."""
MOST_HASHED = 10_000
"""In a simulation of more hospitals the hashes of their test patients are left out: they take longer than the training."""


class Described(NamedTuple):
    """Hospitals with equal descriptions, but for their names and the hashes of their test patients (None: they send none)."""

    numbers: Numbers
    names: Sequence[str]
    like: Description
    hashes: Sequence[str] | None


class Trained(NamedTuple):
    """The hospitals' training in one round."""

    total: WeightedSum | None
    """The sum of the valid weights; None if there are none."""
    numbers: Numbers
    losses: NDArray[np.float32]
    """Of the hospitals in the sum."""
    diverged: Numbers
    """The hospitals whose weights are invalid."""


class Evaluated(NamedTuple):
    """The scores of the hospitals' test patients and, if there are any, of their validation patients, block by block."""

    numbers: Numbers
    tested: Sequence[Scores]
    validation: Sequence[Scores]


class BatchHospitals:
    """The hospitals of a source, without limits of their own; `hashes`: whether they send the hash of their test patients."""

    def __init__(self, source: BlockSource, settings: FederationSettings, *, hashes: bool) -> None:
        self._source = source
        self._settings = settings
        self._hashes = hashes
        self._min_count = settings.min_count
        self._local = LocalModel(source.schema, settings, Trainers(NumpyTrainer))
        self._trainer: NumpyTrainer = self._local.trainer  # type: ignore[assignment]  # that of the factory

    def describe(self) -> tuple[list[Described], dict[int, str]]:
        """The descriptions of all hospitals, and the reason of each that cannot take part."""
        return [self._describe(block) for block in self._source.blocks()], self._source.refused

    def _describe(self, block: Block) -> Described:
        train, test, held = block.split
        like = Description(
            "",
            block.source,
            self._source.schema.fingerprint,
            len(train),
            len(test),
            _count_ill(test),
            len(held) if held else None,
            _count_ill(held) if held else None,
        )
        hashes = _hash_test(block) if self._hashes else None
        return Described(block.numbers, block.names, like, hashes)

    def sum_moments(self, means: Sequence[float] | None) -> tuple[Numbers, NDArray[np.int64], NDArray[np.float64]]:
        """Numbers of the hospitals, counts and sums (num_hospitals, num_numbers); with `means` the second pass."""
        parts = [
            (
                block.numbers,
                *preprocessing.sum_moments(self._source.schema, _part(block, "train").features, self._min_count, means),
            )
            for block in self._source.blocks()
        ]
        numbers, counts, sums = (np.concatenate(each) for each in zip(*parts, strict=True))
        return numbers, counts, sums

    def label_counts(self) -> tuple[int, int]:
        """Healthy and ill training patients of the hospitals that disclose them, summed."""
        healthy = ill = 0
        for block in self._source.blocks():
            each = _count_ill(block.split.train)
            counts = np.array([len(block.split.train) - each, each])
            if counts.min() >= self._min_count:
                healthy, ill = np.add((healthy, ill), counts * len(block.numbers)).tolist()
        return healthy, ill

    def initial_weights(self) -> dict[str, NDArray[np.float32]]:
        """The seeded initial weights by name."""
        return dict(zip(self._trainer.weight_names, self._trainer.initial_weights(), strict=True))

    def train(
        self, weights: Weights, round_num: int, scale: Scale | None, objective: LocalObjective, wanted: Numbers | None
    ) -> Trained:
        """Train the weights on the training patients of the hospitals that are `wanted` (None: all)."""
        sums, valid, losses, diverged = [], [], [], []
        for block in self._source.prepared(_standardisation(scale), ["train"], wanted):
            seed, examples = [self._settings.seed, round_num], block.parts["train"]
            orders = many_orders(examples.labels.shape[1], self._settings.local_epochs, seed, block.seeds)
            trained, loss = self._trainer.train_many(weights, examples, orders, objective)
            good = ~(find_too_large(trained) | ~np.isfinite(loss))
            diverged.append(block.numbers[~good])
            valid.append(block.numbers[good])
            losses.append(loss[good])
            if good.any():
                sums.append(sum_weights([weight[good] for weight in trained], examples.labels.shape[1]))
        return Trained(add_sums(sums), _joined(valid), np.concatenate([[], *losses]), _joined(diverged))

    def evaluate(self, weights: Weights, scale: Scale | None) -> Evaluated:
        """The scores of all hospitals' test and validation patients under these weights."""
        numbers, tested, validation = [], [], []
        for block in self._source.prepared(_standardisation(scale), ["test", "validation"]):
            numbers.append(block.numbers)
            tested.append(self._score(weights, block.parts["test"]))
            validation += [self._score(weights, part) for name, part in block.parts.items() if name == "validation"]
        return Evaluated(_joined(numbers), tested, validation)

    def _score(self, weights: Weights, examples: Examples) -> Scores:
        return score_many(self._trainer.predict(weights, examples.inputs), examples.labels)

    def subgroups(self, weights: Weights, scale: Scale | None) -> list[tuple[Numbers, dict[str, NDArray[np.int64]]]]:
        """The hospitals' outcomes by subgroup of their test patients, block by block; see `count_many_subgroups`."""
        found, schema = [], self._source.schema
        for block in self._source.blocks():
            test, ready = _part(block, "test"), self._source.prepare(block, _standardisation(scale), ["test"])
            risks = self._trainer.predict(weights, ready.parts["test"].inputs)
            counts = count_many_subgroups(schema, test.features, test.labels, risks, self._min_count)
            found.append((block.numbers, counts))
        return found

    def importance(self, weights: Weights, scale: Scale | None) -> list[tuple[Numbers, NDArray[np.float64]]]:
        """Permutation importance (num_hospitals, num_features) on test patients, of hospitals with enough of either label."""
        found = []
        for block in self._source.blocks():
            ill = _count_ill(block.split.test)
            if min(ill, len(block.split.test) - ill) >= self._min_count:
                found.append((block.numbers, self._measure(weights, block, ill, _standardisation(scale))))
        return found

    def _measure(
        self, weights: Weights, block: Block, ill: int, standardisation: Standardisation | None
    ) -> NDArray[np.float64]:
        schema, settings, test = self._source.schema, self._settings, _part(block, "test")
        ready = self._source.prepare(block, standardisation, ["test"])
        places = preprocessing.input_places(schema, settings.missing_indicators)
        if not can_measure_many(ill, test.patients - ill, max(places) + 1):
            train, seeds = _part(block, "train"), ready.seeds.tolist()
            scales = [standardisation or preprocessing.local_standardisation(schema, each) for each in train.features]
            each = (
                self._local.importance(weights, test.of(place), scales[place], [settings.seed, seed])
                for place, seed in enumerate(seeds)
            )
            return np.array(list(each))
        examples = ready.parts["test"]
        require_risks(self._trainer.predict(weights, examples.inputs))
        parts = split_first_layer(weights, examples.inputs, places)
        generators = seeded_generators([SHUFFLE_STREAM, settings.seed], ready.seeds)
        return measure_many_importance(parts, weights[1], partial(finish_layers, weights), examples.labels, generators)


def _part(block: Block, name: PartName) -> Part:
    """The training or test patients, which every block has."""
    part = block.part(name)
    if part is None:
        raise RunError(f"the hospitals have no {name} patients")
    return part


def _hash_test(block: Block) -> list[str]:
    """The keyed hash of each hospital's test patients."""
    parts = [part for name in PARTS if (part := block.part(name))]
    each = ([part.of(place) for part in parts] for place in range(len(block.numbers)))
    return [hash_patients(some[1], derive_key(_join(*some))) for some in each]


def _standardisation(scale: Scale | None) -> Standardisation | None:
    return Standardisation(**vars(scale)) if scale else None


def _count_ill(patients: Patients) -> int:
    return int(patients.labels.sum())


def _join(*parts: Patients) -> Patients:
    features, labels = ([getattr(part, key) for part in parts] for key in ("features", "labels"))
    return Patients(np.concatenate(features), np.concatenate(labels))


def _joined(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])
