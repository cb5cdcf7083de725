"""Recognises a published copy by its rows, and finds the reading that makes them UCI's.

Order, repeats, and some edited or filled-in values do not matter. A file of other patients is not a copy, whatever its
header.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fedhealth.data.cell_words import is_missing, is_word, parse_cell
from fedhealth.data.outcome_check import label_values
from fedhealth.data.sources.code_schemes import CODED, SCHEMES, UCI, decode_codes, find_foreign
from fedhealth.data.sources.heart import COLUMNS, TARGET
from fedhealth.data.sources.known_rows import KNOWN_SHARE, KnownRows, hash_readings, hash_unchanged
from fedhealth.data.sources.label_codes import GRADES, GRAVE, ONE_IS_HEALTHY, ONE_IS_ILL, STATLOG, LabelCodes
from fedhealth.data.sources.readings import Copy, Reading

LABELS = (ONE_IS_ILL, ONE_IS_HEALTHY, GRADES, STATLOG, GRAVE)


@dataclass(frozen=True)
class Recognised:
    """A file whose rows are published ones."""

    reading: Reading
    hospitals: list[frozenset[str]]
    """For each patient, the hospitals that published such a row; empty for a row that was edited."""

    @property
    def hospital(self) -> str:
        """The only hospital that published all of the rows; empty if there are several (two published the same row)."""
        known = [names for names in self.hospitals if names]
        common = frozenset.intersection(*known) if known else frozenset()
        return next(iter(common)) if len(common) == 1 else ""


def recognise(copy: Copy, known: KnownRows) -> Recognised | None:
    """The reading under which the rows of a copy are those of the UCI files; None if they are not published rows."""
    hashes = hash_unchanged(copy.table.cells)
    hospitals = [known.hospitals.get(each, frozenset()) for each in hashes]
    places = [place for place, names in enumerate(hospitals) if names]
    if len(places) < KNOWN_SHARE * len(hashes) or not places:
        return None
    scored = [(count_matches(copy, reading, places, known), reading) for reading in readings_of(copy)]
    matches, reading = max(scored, key=lambda each: each[0], default=(0, None))
    return Recognised(reading, hospitals) if reading and matches >= KNOWN_SHARE * len(places) else None


def readings_of(copy: Copy) -> list[Reading]:
    """All readings of a copy whose labels have a meaning, those first that explain the most cells."""
    with_words = any(is_word(COLUMNS[name], text) for name in CODED for text in set(copy.table.cells.get(name, ())))
    schemes = sorted((UCI,) if with_words else SCHEMES, key=lambda scheme: len(find_foreign(scheme, copy.table.cells)))
    values = label_values(COLUMNS[TARGET], copy.labels)
    return [Reading(codes, labels) for codes in schemes for labels in LABELS if values <= set(labels.codes)]


def count_matches(copy: Copy, reading: Reading, places: Sequence[int], known: KnownRows) -> int:
    """How many of the patients at these places have UCI's chest pain type, resting ECG and grade under the reading."""
    cells = decode_codes(reading.codes, copy.table.cells)
    chosen = {name: [cells[name][place] for place in places] for name in cells}
    grades = [possible_grades(reading.labels, copy.labels[place]) for place in places]
    return sum(bool(hashes & known.readings) for hashes in hash_readings(chosen, grades))


def possible_grades(labels: LabelCodes, text: str) -> tuple[int, ...]:
    """The grades that a label may stand for; none if it is missing or no code."""
    value = parse_cell(COLUMNS[TARGET], text)
    return labels.codes[int(value)] if not is_missing(text) and value in labels.codes else ()
