"""Blocks of synthetic hospitals: drawn when their patients are needed, and kept in a byte for most values."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.batch.blocks import Part, PartName, take_parts
from fedhealth.client.patient_split import PatientSplit
from fedhealth.data.sources.fitted import DECIMALS
from fedhealth.data.sources.heart import FEATURES
from fedhealth.data.sources.synthetic import name_hospitals, sample_many

SCALES = np.array([10.0 ** DECIMALS.get(column.name, 0) for column in FEATURES])
"""(num_features,): a value is a whole number by this."""
LOWEST = np.array(
    [column.minimum * scale if column.is_number else 0 for column, scale in zip(FEATURES, SCALES, strict=True)]
)
_HIGHEST = np.array([column.maximum if column.is_number else max(column.codes) for column in FEATURES]) * SCALES
IS_WIDE: NDArray[np.bool_] = np.iinfo(np.uint8).max <= _HIGHEST - LOWEST
NARROW, WIDE = np.flatnonzero(~IS_WIDE), np.flatnonzero(IS_WIDE)
"""The places of features that have fewer than 255 different values, and of the others."""
PACKED_BYTES = len(NARROW) + 2 * len(WIDE) + 1
"""Of a patient."""


class PackedPart:
    """The training, test or validation patients of hospitals, as many of each; a missing value is the largest code."""

    def __init__(self, hospitals: int, patients: int) -> None:
        shape = hospitals, patients
        self._narrow = np.empty((*shape, len(NARROW)), dtype=np.uint8)
        self._wide = np.empty((*shape, len(WIDE)), dtype=np.uint16)
        self._ill = np.empty(shape, dtype=np.bool_)

    def put(self, rows: NDArray[np.intp], part: Part) -> None:
        """Keep the patients of the hospitals in these rows."""
        whole = np.rint(part.features * SCALES) - LOWEST
        for codes, places in ((self._narrow, NARROW), (self._wide, WIDE)):
            codes[rows] = np.nan_to_num(whole[..., places], nan=np.iinfo(codes.dtype).max)
        self._ill[rows] = part.labels > 0.5

    def get(self, rows: NDArray[np.intp]) -> Part:
        """The patients of the hospitals in these rows, as they were."""
        features = np.empty((len(rows), self._ill.shape[1], len(FEATURES)))
        for codes, places in ((self._narrow[rows], NARROW), (self._wide[rows], WIDE)):
            values = (codes + LOWEST[places]) / SCALES[places]
            values[codes == np.iinfo(codes.dtype).max] = np.nan
            features[..., places] = values
        return Part(features, self._ill[rows].astype(np.float32))


class SyntheticHospitals:
    """The synthetic hospitals of these `numbers` (ascending), which are modelled on the same real one.

    Parameters
    ----------
    patients, seed : of each hospital how many; of the draws.
    split : the places of the training, test and validation patients of every hospital, see `split_places`.
    keeps : whether patients are kept once they are drawn.
    """

    def __init__(
        self, numbers: NDArray[np.int64], patients: int, seed: int, split: PatientSplit, *, keeps: bool
    ) -> None:
        self.split = split
        self._numbers = numbers
        self._patients = patients
        self._seed = seed
        self.keeps = keeps
        self._drawn = np.zeros(len(numbers) if keeps else 0, dtype=np.bool_)
        parts = {"train": split.train, "test": split.test, "validation": split.validation}
        self._parts = {name: PackedPart(len(self._drawn), len(part)) for name, part in parts.items() if part}

    def get(self, numbers: NDArray[np.int64], name: PartName) -> Part | None:
        """These hospitals' patients of a part, kept from now on; None if there is no such part."""
        if name not in self._parts:
            return None
        rows = np.searchsorted(self._numbers, numbers)
        if not self._drawn[rows].all():
            for each, part in self.draw(numbers).items():
                self._parts[each].put(rows, part)
            self._drawn[rows] = True
        return self._parts[name].get(rows)

    def draw(self, numbers: NDArray[np.int64]) -> Mapping[PartName, Part]:
        """All parts of these hospitals' patients, drawn."""
        _, features, labels = sample_many(numbers.tolist(), self._patients, self._seed)
        return take_parts(self.split, features, labels)


class SyntheticBlock:
    """Some of the hospitals of a `SyntheticHospitals`; see `blocks.Block`."""

    source = "synthetic"

    def __init__(self, hospitals: SyntheticHospitals, numbers: NDArray[np.int64]) -> None:
        self.numbers = numbers
        self.split = hospitals.split
        self._hospitals = hospitals

    @cached_property
    def names(self) -> Sequence[str]:
        """Of the hospitals."""
        return name_hospitals(self.numbers.tolist())

    def part(self, name: PartName) -> Part | None:
        """The training, test or validation patients; None if there are none."""
        return self._hospitals.get(self.numbers, name) if self._hospitals.keeps else self._drawn.get(name)

    @cached_property
    def _drawn(self) -> Mapping[PartName, Part]:
        return self._hospitals.draw(self.numbers)
