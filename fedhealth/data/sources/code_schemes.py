"""The schemes in which the layouts of the heart disease data write cp, restecg, slope, ca and thal.

Established by comparing every row of the published copies with the UCI files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedhealth.data.cell_words import is_missing, is_word, parse_number
from fedhealth.data.outcome_check import Cells
from fedhealth.data.sources.heart import COLUMNS, FEATURES

UNKNOWN = -9
"""The mark of a missing value in every layout that comes from UCI's raw files."""
MISSING = ""
"""Stands for a scheme's own code of a missing value."""


@dataclass(frozen=True)
class CodeScheme:
    """What the numbers in the five coded columns stand for."""

    flag: str
    """The value of `--codes` that chooses it."""
    title: str
    codes: Mapping[str, Mapping[int, str]]
    """Our column -> the scheme's code -> UCI's code, or `MISSING`."""


def shift(codes: Sequence[int], first: int = 0) -> dict[int, str]:
    """UCI's codes in their order, counted from `first`."""
    return {first + place: str(code) for place, code in enumerate(codes)}


CODES_OF_UCI = {column.name: tuple(column.codes) for column in FEATURES}
CODED = ("cp", "restecg", "slope", "ca", "thal")

UCI = CodeScheme("uci", "UCI's codes", {name: {code: str(code) for code in CODES_OF_UCI[name]} for name in CODED})
ZERO_BASED = CodeScheme("zero-based", "codes counted from 0", {name: shift(CODES_OF_UCI[name]) for name in CODED})
ZERO_BASED_THAL_1 = CodeScheme(
    "zero-based", "codes counted from 0 (thal from 1)", {**ZERO_BASED.codes, "thal": shift(CODES_OF_UCI["thal"], 1)}
)
KAGGLE_303 = CodeScheme(
    "kaggle-303",
    "the codes of Kaggle's 303-row copy",
    {
        "cp": {0: "4", 1: "2", 2: "3", 3: "1"},
        "restecg": {0: "2", 1: "0", 2: "1"},
        "slope": {0: "3", 1: "2", 2: "1"},
        "ca": {0: "0", 1: "1", 2: "2", 3: "3", 4: MISSING},
        "thal": {0: MISSING, 1: "6", 2: "3", 3: "7"},
    },
)
SCHEMES = (UCI, ZERO_BASED, ZERO_BASED_THAL_1, KAGGLE_303)


def is_foreign(scheme: CodeScheme, name: str, text: str) -> bool:
    """Whether a cell of a coded column is no code of the scheme, no word and no mark of a missing value."""
    if is_missing(text) or is_word(COLUMNS[name], text):
        return False
    value = parse_number(text)
    return value != UNKNOWN and value not in scheme.codes[name]


def decode_cell(scheme: CodeScheme, name: str, text: str) -> str:
    """One cell of a coded column in UCI's codes; words, missing marks and foreign cells stay as they are."""
    if name not in CODED or is_missing(text) or is_word(COLUMNS[name], text):
        return text
    value = parse_number(text)
    return scheme.codes[name][int(value)] if value in scheme.codes[name] else text


def decode_codes(scheme: CodeScheme, cells: Cells) -> dict[str, list[str]]:
    """All cells, the five coded columns in UCI's codes; each distinct text is decoded once."""
    decoded = {}
    for name, texts in cells.items():
        code_of = {text: decode_cell(scheme, name, text) for text in set(texts)}
        decoded[name] = [code_of[text] for text in texts]
    return decoded


def find_foreign(scheme: CodeScheme, cells: Cells) -> list[tuple[int, str]]:
    """(patient, column) of every cell of the coded columns that the scheme does not explain, by patient."""
    found = []
    for name in CODED:
        foreign = {text for text in set(cells.get(name, ())) if is_foreign(scheme, name, text)}
        found += [(patient, name) for patient, text in enumerate(cells.get(name, ())) if text in foreign]
    return sorted(found)


def possible_schemes(cells: Cells) -> list[CodeScheme]:
    """The schemes that explain every cell, one for each different result; a file with words is in UCI's codes."""
    distinct = {name: sorted(set(cells.get(name, ()))) for name in CODED}
    with_words = any(is_word(COLUMNS[name], text) for name in CODED for text in distinct[name])
    fitting = [scheme for scheme in (SCHEMES[:1] if with_words else SCHEMES) if not find_foreign(scheme, distinct)]
    results = [decode_codes(scheme, distinct) for scheme in fitting]
    return [scheme for place, scheme in enumerate(fitting) if results[place] not in results[:place]]


def nearest_scheme(cells: Cells) -> CodeScheme:
    """The scheme that explains the most cells, for the lines about those that it does not."""
    return min(SCHEMES, key=lambda scheme: len(find_foreign(scheme, cells)))
