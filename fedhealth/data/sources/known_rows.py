"""Recognises the 920 published patients by short hashes of their rows, so that a copy is known by what it holds.

The hashes are in `known_rows.toml`, the rows are nowhere. One hash of a row covers the values that no copy recodes (age,
sex, blood pressure, cholesterol, heart rate); another also covers chest pain type, resting ECG and grade in UCI's
codes, and shows which reading of a copy's codes and labels is the right one.
"""

import hashlib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from fedhealth.data.cell_words import parse_cell
from fedhealth.data.sources.heart import COLUMNS, FEATURES, HOSPITAL, LABEL

FILE = Path(__file__).with_name("known_rows.toml")
NEVER_RECODED = ("age", "sex", "trestbps", "chol", "thalach")
RECODED = ("cp", "restecg")
HASH_BYTES = 3
"""One of 920 hashes of 24 bits meets a strange row in 5 of 100,000 cases; a copy needs `KNOWN_SHARE` of its rows."""
KNOWN_SHARE = 0.8
"""Of the rows of a file: the 918-row copy fills in missing values, which leaves 90 % of its rows as published."""
WIDTH = 108
"""Digits in a line of the file: nine patients."""
HEADER = """\
# Short hashes of the 920 rows of the UCI Heart Disease files (two of each; see known_rows.py), in the files' order.
# Written by `python -m tests.data.test_sources_copies`.
"""

MARKS = {column.name: column.missing_marks for column in FEATURES}
Cells = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class KnownRows:
    """Hashes of the published rows."""

    hospitals: Mapping[str, frozenset[str]]
    """Hash of the values that no copy recodes -> the hospitals with such a patient."""
    readings: frozenset[str]
    """Hashes of these values with chest pain type, resting ECG and grade."""


def short_hash(texts: Iterable[str]) -> str:
    """Six hexadecimal digits."""
    return hashlib.blake2b("|".join(texts).encode(), digest_size=HASH_BYTES).hexdigest()


def plain_value(name: str, value: float) -> str:
    """The same text for 63 and 63.0; a mark of a missing value is `?`."""
    return "?" if math.isnan(value) or value in MARKS[name] else f"{value:g}"


def take_values(cells: Cells, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The named columns of a table as comparable texts, patient by patient; a column that is not there is missing."""
    count = max(map(len, cells.values()), default=0)
    columns = []
    for name in names:
        texts = cells.get(name, [""] * count)
        known = {text: plain_value(name, parse_cell(COLUMNS[name], text)) for text in set(texts)}
        columns.append([known[text] for text in texts])
    return list(zip(*columns, strict=True))


def hash_unchanged(cells: Cells) -> list[str]:
    """The hash of each patient's values that no copy recodes."""
    return [short_hash(values) for values in take_values(cells, NEVER_RECODED)]


def hash_readings(cells: Cells, grades: Sequence[Iterable[int]]) -> list[set[str]]:
    """The hashes of each patient, in UCI's codes, with each of the grades that the patient's label may stand for."""
    rows = take_values(cells, (*NEVER_RECODED, *RECODED))
    return [
        {short_hash([*values, str(grade)]) for grade in possible} for values, possible in zip(rows, grades, strict=True)
    ]


def describe_rows(table: pd.DataFrame) -> str:
    """The content of `known_rows.toml` for the table of the UCI files: for each hospital, both hashes of each row."""
    parts = [HEADER]
    for hospital, patients in table.groupby(HOSPITAL, sort=False):
        cells = {name: ["" if pd.isna(value) else f"{value:g}" for value in patients[name]] for name in MARKS}
        readings = hash_readings(cells, [[grade] for grade in patients[LABEL.name]])
        pairs = zip(hash_unchanged(cells), readings, strict=True)
        hashes = "".join(unchanged + "".join(reading) for unchanged, reading in pairs)
        lines = [f'    "{hashes[start : start + WIDTH]}",' for start in range(0, len(hashes), WIDTH)]
        parts.append("\n".join([f"{hospital} = [", *lines, "]"]))
    return "\n".join(parts) + "\n"


def parse_rows(text: str) -> KnownRows:
    """The content of `known_rows.toml` -> hashes."""
    hospitals: dict[str, frozenset[str]] = {}
    readings, digits = set(), 2 * HASH_BYTES
    for hospital, lines in tomllib.loads(text).items():
        digest = "".join(lines)
        hashes = [digest[start : start + digits] for start in range(0, len(digest), digits)]
        for unchanged, reading in zip(hashes[::2], hashes[1::2], strict=True):
            hospitals[unchanged] = hospitals.get(unchanged, frozenset()) | {hospital}
            readings.add(reading)
    return KnownRows(hospitals, frozenset(readings))


@cache
def load_known_rows() -> KnownRows:
    """The hashes of the published rows, read once."""
    return parse_rows(FILE.read_text(encoding="ascii"))
