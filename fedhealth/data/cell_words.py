"""The text of one cell -> a number: words for codes, marks of a missing value, numbers."""

import re

from fedhealth.data.schema import Column, plain_words

QUIET_MARKS = frozenset({"", "?", "na", "nan"})
"""What data/README.md names as a missing value; other marks are reported."""
OTHER_MARKS = frozenset({"n/a", "#n/a", "#na", "<na>", "null", "none", ".", "-"})
"""What programs write for a missing value: pandas, R, SAS, SQL and Excel."""
MISSING_MARKS = QUIET_MARKS | OTHER_MARKS

# float() alone would take "inf", "1_0" and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def code_of(column: Column, text: str) -> str:
    """The code that a word of a command line stands for, also of a number with codes; other text stays as it is."""
    code = column.code_of_word.get(plain_words(text))
    return text.strip() if code is None else str(code)


def is_word(column: Column, text: str) -> bool:
    """Whether a cell of the column holds a word for a code."""
    return not column.is_number and plain_words(text) in column.code_of_word


def is_missing(text: str) -> bool:
    """Whether a cell holds a mark of a missing value that is not a number."""
    return text.lower() in MISSING_MARKS


def parse_number(text: str) -> float:
    """NaN for a missing value; infinity for text that is no number, because no range and no code holds that."""
    if is_missing(text):
        return float("nan")
    return float(text) if NUMBER.fullmatch(text) else float("inf")


def parse_cell(column: Column, text: str) -> float:
    """The value of one cell of the column; words become codes, but not those of a number: `None` is missing."""
    if is_missing(text) or not is_word(column, text):
        return parse_number(text)
    return float(column.code_of_word[plain_words(text)])
