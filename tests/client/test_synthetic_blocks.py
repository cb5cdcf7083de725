"""Synthetic hospitals of a simulation: drawn when needed, kept in few bytes, the same however they are asked for."""

import numpy as np
import pytest

from fedhealth.client.batch.blocks import PARTS, split_places, take_parts
from fedhealth.client.batch.source import BlockSource
from fedhealth.client.batch.synthetic import PACKED_BYTES, PackedPart, SyntheticBlock, SyntheticHospitals
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.fitted import fitted_plan
from fedhealth.data.sources.heart import HOSPITALS
from fedhealth.data.sources.synthetic import count_ill, sample_many

PATIENTS = 50
SETTINGS = FederationSettings(hospitals=40, threshold="youden")


def make_hospitals(original: int, *, keeps: bool) -> SyntheticHospitals:
    ill = count_ill(fitted_plan(tuple(HOSPITALS)[original]), PATIENTS)
    numbers = np.arange(original, 40, len(HOSPITALS))
    return SyntheticHospitals(numbers, PATIENTS, 0, split_places(SETTINGS, PATIENTS - ill, ill), keeps=keeps)


@pytest.mark.parametrize("original", range(len(HOSPITALS)), ids=list(HOSPITALS))
def test_what_is_kept_in_few_bytes_comes_back_bit_for_bit(original: int) -> None:
    numbers = list(range(original, 800, len(HOSPITALS)))
    _, features, labels = sample_many(numbers, PATIENTS, seed=0)
    parts = take_parts(make_hospitals(original, keeps=False).split, features, labels)
    for part in parts.values():
        packed = PackedPart(len(numbers), part.patients)
        packed.put(np.arange(len(numbers)), part)
        rows = np.array([7, 3, 150])
        np.testing.assert_array_equal(packed.get(rows).features, part.features[rows])
        np.testing.assert_array_equal(packed.get(rows).labels, part.labels[rows])
        assert not np.any(np.signbit(packed.get(rows).features) & (packed.get(rows).features == 0))
    assert PACKED_BYTES == 15


def test_a_block_has_the_same_patients_kept_or_not_and_whatever_was_asked_for_before() -> None:
    kept, drawn = make_hospitals(1, keeps=True), make_hospitals(1, keeps=False)
    numbers = np.array([5, 9, 25])
    kept.get(np.array([1, 9]), "test")
    for name in PARTS:
        one, other = SyntheticBlock(kept, numbers).part(name), SyntheticBlock(drawn, numbers).part(name)
        assert one
        assert other
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.labels.sum(axis=1).tolist() == [dict(zip(PARTS, kept.split, strict=True))[name].labels.sum()] * 3  # type: ignore[union-attr]


def test_hospitals_are_described_without_drawing_a_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("fedhealth.client.batch.synthetic.sample_many")
    blocks = list(BlockSource(range(40), EngineSettings(patients=PATIENTS), SETTINGS).blocks())
    assert sorted(number for block in blocks for number in block.numbers.tolist()) == list(range(40))
    assert {sum(len(part) for part in block.split if part) for block in blocks} == {PATIENTS}
    assert blocks[0].names[1] == "synthetic-cleveland-000005"


def test_patients_are_drawn_once_where_there_is_room_for_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def draw(numbers: list[int], patients: int, seed: int) -> object:
        asked.extend(numbers)
        return sample_many(numbers, patients, seed)

    monkeypatch.setattr("fedhealth.client.batch.synthetic.sample_many", draw)
    room = 40 * PATIENTS * PACKED_BYTES
    settings = FederationSettings(hospitals=40)
    source = BlockSource(range(40), EngineSettings(patients=PATIENTS), settings, room=room)
    some = list(source.prepared(None, ["train", "validation"], np.array([3, 11, 12])))
    assert [block.numbers.tolist() for block in some] == [[12], [3, 11]]
    assert sorted(asked) == [3, 11, 12]
    for _ in range(2):
        assert sum(len(block.numbers) for block in source.prepared(None, ["test", "validation"])) == 40
    assert set(asked) == set(range(40))
    assert len([number for number in asked if number % 4 != 3]) == 30 + 1
