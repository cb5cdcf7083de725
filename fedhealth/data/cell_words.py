"""The text of one cell -> a number: words for codes, marks of a missing value, numbers."""

import re

from fedhealth.data.schema import CATEGORIES, TARGET, Column

TARGET_COLUMN = Column(TARGET, "diagnosis", "category", codes={0: "healthy", 1: "disease"}, can_be_missing=False)

QUIET_MARKS = frozenset({"", "?", "na", "nan"})
"""What data/README.md names as a missing value; other marks are reported."""
OTHER_MARKS = frozenset({"n/a", "#n/a", "#na", "<na>", "null", "none", ".", "-"})
"""What programs write for a missing value: pandas, R, SAS, SQL and Excel."""
MISSING_MARKS = QUIET_MARKS | OTHER_MARKS

# float() alone would take "inf", "1_0" and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

YES_OR_NO = {"yes": 1, "y": 1, "true": 1, "no": 0, "n": 0, "false": 0}
OTHER_WORDS: dict[str, dict[str, int]] = {
    "sex": {"f": 0, "m": 1},
    "cp": {"ta": 1, "ata": 2, "nap": 3, "non anginal": 3, "asy": 4},
    "fbs": YES_OR_NO,
    "restecg": {"st": 1, "st t abnormality": 1, "lvh": 2, "lv hypertrophy": 2},
    "exang": YES_OR_NO,
    "slope": {"up": 1, "down": 3},
    "thal": {"fixed": 6, "reversible": 7, "reversable": 7, "reversable defect": 7},
    TARGET: {**YES_OR_NO, "absence": 0, "absent": 0, "ill": 1, "presence": 1, "present": 1},
}
"""Column -> words of other layouts and programs, plain, beside the meanings that the schema gives to its codes."""


def plain_words(text: str) -> str:
    """In small letters, with single blanks for blanks, hyphens and underscores."""
    return " ".join(text.lower().replace("-", " ").replace("_", " ").split())


WORDS: dict[str, dict[str, int]] = {
    column.name: {plain_words(meaning): code for code, meaning in column.codes.items()}
    | OTHER_WORDS.get(column.name, {})
    for column in (*CATEGORIES, TARGET_COLUMN)
}
"""Column with coded categories -> plain word -> UCI's code. `ca` has none: in a file, `None` is a missing value."""


def code_of(column: Column, text: str) -> str:
    """The code that a word of a command line stands for (also `none` to `three` for `ca`); other text stays as it is."""
    words = {plain_words(meaning): code for code, meaning in column.codes.items()} | WORDS.get(column.name, {})
    code = words.get(plain_words(text))
    return text.strip() if code is None else str(code)


def is_word(name: str, text: str) -> bool:
    """Whether a cell of the column holds a word for a code."""
    return plain_words(text) in WORDS.get(name, {})


def is_missing(text: str) -> bool:
    """Whether a cell holds a mark of a missing value that is not a number."""
    return text.lower() in MISSING_MARKS


def parse_number(text: str) -> float:
    """NaN for a missing value; infinity for text that is no number, because no range and no code holds that."""
    if is_missing(text):
        return float("nan")
    return float(text) if NUMBER.fullmatch(text) else float("inf")


def parse_cell(name: str, text: str) -> float:
    """The value of one cell of the column; words become UCI's codes."""
    code = None if is_missing(text) else WORDS.get(name, {}).get(plain_words(text))
    return parse_number(text) if code is None else float(code)
