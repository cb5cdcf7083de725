"""Where the blocks of a simulation come from; they are kept as long as there is room, and made again where there is not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedhealth.client.batch.blocks import PARTS, Block, OneHospital, PartName, Prepared, prepare, split_places
from fedhealth.client.batch.synthetic import PACKED_BYTES, SyntheticBlock, SyntheticHospitals
from fedhealth.client.trainers import Trainers, count_inputs
from fedhealth.client.virtual import VirtualSource
from fedhealth.common.errors import RunError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.data.sources.fitted import fitted_plan
from fedhealth.data.sources.heart import HOSPITALS
from fedhealth.data.sources.synthetic import count_ill, original_of

BLOCK_PATIENTS = 2**15
"""Patients of a block, if it has more than one hospital: their inputs take 4 MB, which a processor's cache can hold."""
ROOM = 900e6
"""Bytes of inputs and of patients that all processes together keep; without room for the inputs, patients alone."""


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
        patients, inputs = len(numbers) * engine.patients, 4 * count_inputs(self.schema, settings)
        self._keeps = bool(engine.data) or patients * (inputs + PACKED_BYTES) <= room
        self._keeps_packed = patients * PACKED_BYTES <= room
        self._read: dict[int, OneHospital] = {}
        self._synthetic: dict[int, SyntheticHospitals] = {}
        self._ready: list[Prepared] = []
        self._scale: Standardisation | None = None

    def blocks(self) -> Iterator[Block]:
        """All blocks, with the patients' values."""
        for numbers in self._chunks(self._numbers):
            block = self._load(numbers)
            if block:
                yield block

    def prepared(
        self,
        standardisation: Standardisation | None,
        parts: Sequence[PartName],
        wanted: NDArray[np.int64] | None = None,
    ) -> Iterator[Prepared]:
        """The blocks of the hospitals that are `wanted` (None: all), as inputs and labels of these parts at least."""
        if not self._keeps:
            for numbers in self._chunks(self._numbers if wanted is None else np.sort(wanted)):
                block = self._load(numbers)
                if block:
                    yield self.prepare(block, standardisation, parts)
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

    def prepare(self, block: Block, standardisation: Standardisation | None, parts: Sequence[PartName]) -> Prepared:
        """These parts of a block's patients as inputs and labels."""
        return prepare(block, self.schema, self._settings, standardisation, parts)

    def _prepare_all(self, standardisation: Standardisation | None) -> None:
        """Keep all blocks as inputs; small ones with as many patients in each hospital become one."""
        for block in self.blocks():
            ready = self.prepare(block, standardisation, PARTS)
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
        if key in self.refused:
            return None
        try:
            return self._read_file(key) if self._engine.data else SyntheticBlock(self._alike(key), numbers)
        except RunError as error:
            self.refused |= dict.fromkeys(numbers.tolist(), str(error))
            return None

    def _read_file(self, number: int) -> Block:
        """The hospital of a file, which is kept, since reading takes longer than training."""
        if number not in self._read:
            self._read[number] = OneHospital(self._settings, number, self._files.load(number))
        return self._read[number]

    def _alike(self, number: int) -> SyntheticHospitals:
        """All hospitals that are modelled on the same real one as this."""
        place, patients = number % len(HOSPITALS), self._engine.patients
        if place not in self._synthetic:
            ill = count_ill(fitted_plan(original_of(number)), patients)
            split = split_places(self._settings, patients - ill, ill)
            numbers = self._numbers[self._numbers % len(HOSPITALS) == place]
            self._synthetic[place] = SyntheticHospitals(
                numbers, patients, self._settings.seed, split, keeps=self._keeps_packed
            )
        return self._synthetic[place]
