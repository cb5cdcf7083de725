"""Where the blocks of a simulation come from; they are kept as long as there is room, and made again where there is not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.batch.blocks import Block, Prepared, prepare, split_block
from fedhealth.client.trainers import Trainers, count_inputs
from fedhealth.client.virtual import VirtualSource
from fedhealth.common.errors import RunError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.data.sources.heart import HOSPITALS
from fedhealth.data.sources.synthetic import sample_many

BLOCK_PATIENTS = 2**15
"""Patients of a block, if it has more than one hospital: their inputs take 4 MB, which a processor's cache can hold."""
ROOM = 900e6
"""Bytes of inputs that all processes together keep."""


class BlockSource:
    """The hospitals with these `numbers`, in blocks.

    Attributes
    ----------
    refused : number -> why this hospital cannot take part; known after the first pass over all.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        engine: EngineSettings,
        settings: FederationSettings,
        room: float = ROOM,
        block_patients: int = BLOCK_PATIENTS,
    ) -> None:
        self.schema: Schema = load_schema(Path(engine.schema) if engine.schema else None)
        self.refused: dict[int, str] = {}
        self._numbers = np.asarray(numbers, dtype=np.int64)
        self._engine = engine
        self._settings = settings
        self._files = VirtualSource(engine, settings.seed, Trainers())
        self._block_patients = block_patients
        self._at_once = max(1, block_patients // engine.patients)
        inputs = 4 * count_inputs(self.schema, settings)
        self._keeps = bool(engine.data) or len(numbers) * engine.patients * inputs <= room
        self._raw: dict[int, Block] = {}
        self._ready: list[Prepared] = []
        self._scale: Standardisation | None = None

    def blocks(self) -> Iterator[Block]:
        """All blocks, with the patients' values."""
        for numbers in self._chunks(self._numbers):
            block = self._load(numbers)
            if block:
                yield block

    def prepared(
        self, standardisation: Standardisation | None, wanted: NDArray[np.int64] | None = None
    ) -> Iterator[Prepared]:
        """The blocks of the hospitals that are `wanted` (None: all), as inputs and labels."""
        if not self._keeps:
            for numbers in self._chunks(self._numbers if wanted is None else np.sort(wanted)):
                block = self._load(numbers)
                if block:
                    yield prepare(block, self.schema, self._settings, standardisation)
            return
        if standardisation != self._scale:
            self._ready.clear()
            self._scale = standardisation
        if not self._ready:
            self._prepare_all(standardisation)
        for ready in self._ready:
            mask = None if wanted is None else np.isin(ready.numbers, wanted)
            if mask is None or mask.any():
                yield ready if mask is None else ready.select(mask)

    def _prepare_all(self, standardisation: Standardisation | None) -> None:
        """Keep all blocks as inputs; small ones with as many patients in each hospital become one."""
        for numbers in list(self._chunks(self._numbers)):
            block = self._load(numbers)
            if block is None:
                continue
            ready = prepare(block, self.schema, self._settings, standardisation)
            if not self._engine.data:  # a file's patients are kept, since reading them takes longer
                self._raw.pop(int(numbers[0]), None)
            fits = (place for place, each in enumerate(self._ready) if each.fits(ready, self._block_patients))
            place = next(fits, None)
            if place is None:
                self._ready.append(ready)
            else:
                self._ready[place] = self._ready[place].join(ready)

    def _chunks(self, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The numbers block by block: a file's hospital alone, synthetic ones with those of the same original."""
        if self._engine.data:
            yield from numbers[:, np.newaxis]
            return
        for original in range(len(HOSPITALS)):
            alike = numbers[numbers % len(HOSPITALS) == original]
            for start in range(0, len(alike), self._at_once):
                yield alike[start : start + self._at_once]

    def _load(self, numbers: NDArray[np.int64]) -> Block | None:
        """The block of these hospitals; None, and the reason in `refused`, if they cannot take part."""
        key = int(numbers[0])
        if key in self._raw:
            return self._raw[key]
        if key in self.refused:
            return None
        try:
            block = self._read(key) if self._engine.data else self._sample(numbers)
        except RunError as error:
            self.refused |= dict.fromkeys(numbers.tolist(), str(error))
            return None
        if self._keeps and (self._engine.data or not self._ready):
            self._raw[key] = block
        return block

    def _read(self, number: int) -> Block:
        hospital = self._files.load(number)
        patients, named = hospital.patients, ([hospital.name], hospital.source)
        return split_block(self._settings, [number], named, patients.features[np.newaxis], patients.labels[np.newaxis])

    def _sample(self, numbers: NDArray[np.int64]) -> Block:
        names, features, labels = sample_many(numbers.tolist(), self._engine.patients, self._settings.seed)
        return split_block(self._settings, numbers.tolist(), (names, "synthetic"), features, labels)
