"""The hospitals of one process: they do in blocks what `client.app` does hospital by hospital, with the same results.

Every result says by the hospitals' numbers whose it is; each process returns that of its own hospitals.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.batch.blocks import Block
from fedhealth.client.batch.source import BlockSource
from fedhealth.client.local_model import LocalModel
from fedhealth.client.split_hash import derive_key, hash_patients
from fedhealth.client.trainers import Trainers
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.many_histograms import Scores, score_many
from fedhealth.metrics.subgroups import count_subgroups
from fedhealth.models.local_training import Examples, LocalObjective, Weights, many_orders
from fedhealth.models.numpy_training import NumpyTrainer
from fedhealth.models.weighted_sums import WeightedSum, add_sums, find_too_large, sum_weights
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.setup import Description

Numbers = NDArray[np.int64]
"""(num_hospitals,): which hospitals of the simulation."""
MOST_HASHED = 10_000
"""In a simulation of more hospitals the hashes of their test patients are left out: they take longer than the training."""


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

    def describe(self) -> tuple[dict[int, Description], dict[int, str]]:
        """The description of each hospital, and the reason of each that cannot take part."""
        found = {}
        for block in self._source.blocks():
            for place, number in enumerate(block.numbers.tolist()):
                found[number] = self._describe(block, place)
        return found, self._source.refused

    def _describe(self, block: Block, place: int) -> Description:
        train, test = block.train.of(place), block.test.of(place)
        held = block.validation.of(place) if block.validation else None
        whole = _join(train, test, *([held] if held else []))
        return Description(
            block.names[place],
            block.source,
            self._source.schema.fingerprint,
            len(train),
            len(test),
            _count_ill(test),
            len(held) if held else None,
            _count_ill(held) if held else None,
            split_hash=hash_patients(test, derive_key(whole)) if self._hashes else None,
        )

    def sum_moments(self, means: Sequence[float] | None) -> tuple[Numbers, NDArray[np.int64], NDArray[np.float64]]:
        """Numbers of the hospitals, counts and sums (num_hospitals, num_numbers); with `means` the second pass."""
        parts = [
            (
                block.numbers,
                *preprocessing.sum_moments(self._source.schema, block.train.features, self._min_count, means),
            )
            for block in self._source.blocks()
        ]
        numbers, counts, sums = (np.concatenate(each) for each in zip(*parts, strict=True))
        return numbers, counts, sums

    def label_counts(self) -> tuple[int, int]:
        """Healthy and ill training patients of the hospitals that disclose them, summed."""
        healthy = ill = 0
        for block in self._source.blocks():
            each = block.train.labels.sum(axis=1).astype(np.int64)
            counts = np.stack([block.train.patients - each, each])
            healthy, ill = np.add((healthy, ill), counts[:, counts.min(axis=0) >= self._min_count].sum(axis=1)).tolist()
        return healthy, ill

    def initial_weights(self) -> dict[str, NDArray[np.float32]]:
        """The seeded initial weights by name."""
        return dict(zip(self._trainer.weight_names, self._trainer.initial_weights(), strict=True))

    def train(
        self, weights: Weights, round_num: int, scale: Scale | None, objective: LocalObjective, wanted: Numbers | None
    ) -> Trained:
        """Train the weights on the training patients of the hospitals that are `wanted` (None: all)."""
        sums, valid, losses, diverged = [], [], [], []
        for block in self._source.prepared(_standardisation(scale), wanted):
            seed, examples = [self._settings.seed, round_num], block.parts[0]
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
        for block in self._source.prepared(_standardisation(scale)):
            numbers.append(block.numbers)
            test, *held = (self._score(weights, part) for part in block.parts[1:])
            tested.append(test)
            validation += held
        return Evaluated(_joined(numbers), tested, validation)

    def _score(self, weights: Weights, examples: Examples) -> Scores:
        return score_many(self._trainer.predict(weights, examples.inputs), examples.labels)

    def subgroups(self, weights: Weights, scale: Scale | None) -> dict[int, dict[str, tuple[int, ...]]]:
        """Each hospital's outcomes by subgroup of its test patients, without small ones."""
        found: dict[int, dict[str, tuple[int, ...]]] = {}
        for number, _, train, test in self._hospitals():
            risks = self._local.predict(weights, test, self._local.standardisation(scale, train))
            counted = count_subgroups(self._source.schema, test.features, test.labels, risks, self._min_count)
            found[number] = {group: outcomes.counts() for group, outcomes in counted.items()}
        return found

    def importance(self, weights: Weights, scale: Scale | None) -> dict[int, list[float] | None]:
        """Each hospital's permutation importance on its test patients; None if too few of them are ill or healthy."""
        found: dict[int, list[float] | None] = {}
        for number, name, train, test in self._hospitals():
            found[number] = None
            if min(_count_ill(test), len(test) - _count_ill(test)) >= self._min_count:
                seed = [self._settings.seed, zlib.crc32(name.encode())]
                standardisation = self._local.standardisation(scale, train)
                found[number] = self._local.importance(weights, test, standardisation, seed)
        return found

    def _hospitals(self) -> Iterator[tuple[int, str, Patients, Patients]]:
        """Number, name, training and test patients of each hospital."""
        for block in self._source.blocks():
            for place, number in enumerate(block.numbers.tolist()):
                yield number, block.names[place], block.train.of(place), block.test.of(place)


def _standardisation(scale: Scale | None) -> Standardisation | None:
    return Standardisation(**vars(scale)) if scale else None


def _count_ill(patients: Patients) -> int:
    return int(patients.labels.sum())


def _join(*parts: Patients) -> Patients:
    features, labels = ([getattr(part, key) for part in parts] for key in ("features", "labels"))
    return Patients(np.concatenate(features), np.concatenate(labels))


def _joined(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])
