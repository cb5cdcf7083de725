"""Decimal commas and decimal points: which of them a file has, judged from all its cells, and never from one row.

`1,234` is 1.234 with a decimal comma and 1234 with a decimal point. Other cells of the file decide it (`5,2`, `1.234,5`), or
the ranges of the columns do, if none reaches 1000. Otherwise it is a question, which `--decimal` answers.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from fedhealth.common.errors import DataError
from fedhealth.data.cell_words import NUMBER
from fedhealth.data.schema import Column

Decimal = Literal["auto", "comma", "point"]
Reading = Literal["comma", "point"]
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)
PATTERNS: dict[Reading, re.Pattern[str]] = {
    "comma": re.compile(r"[+-]?(?:\d*,\d+|[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?)", re.ASCII),
    "point": re.compile(r"[+-]?(?:\d*\.\d+|[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?)", re.ASCII),
}
"""Numbers with at least one mark: a decimal one, or those between groups of three digits."""
SIGNS: dict[Reading, str] = {"comma": ",", "point": "."}
OTHER: dict[Reading, Reading] = {"comma": "point", "point": "comma"}

Rows = list[tuple[int, list[Any]]]
"""(row number, cells) of each patient; only cells that are text are judged, because a typed number has no mark."""
Cells = Mapping[tuple[str, int], int]
"""(text, position) of the cells with a comma or a point -> the first row that has it."""


def read_decimals(rows: Rows, columns: Mapping[int, Column], choice: Decimal, path: Path) -> tuple[Rows, list[str]]:
    """The rows with decimal points in the given columns (position -> column); and notes.

    There is a note for each column in which marks between thousands are left out.

    Raises
    ------
    DataError
        The file does not decide it; or a cell contradicts the choice: one line for each.
    """
    cells = {(text, place): row for row, place, text in _marked(rows, columns)}
    if choice == "auto":
        reading = find_reading(cells, columns, path)
    else:
        reading = choice
        check_choice(cells, columns, choice, path)
    if not reading:
        return rows, []
    become = {text: plain for text, _ in cells if (plain := read_as(reading, text))}
    if not any(text != plain for text, plain in become.items()):
        return rows, []
    return _replace(rows, columns, become), _thousands(rows, columns, reading, become)


def _replace(rows: Rows, columns: Mapping[int, Column], become: Mapping[str, str]) -> Rows:
    """The rows with other texts in the columns."""
    replaced = [(row, list(record)) for row, record in rows]
    for _, record in replaced:
        for place in columns:
            if place < len(record) and isinstance(record[place], str):
                record[place] = become.get(record[place].strip(), record[place])
    return replaced


def _marked(rows: Rows, columns: Mapping[int, Column]) -> Iterator[tuple[int, int, str]]:
    """(row, position, text) of the cells with a comma or a point, the last row first, so that the first one is kept."""
    for row, record in reversed(rows):
        for place in columns:
            text = record[place].strip() if place < len(record) and isinstance(record[place], str) else ""
            if "," in text or "." in text:
                yield row, place, text


def read_as(reading: Reading, text: str) -> str:
    """The number with a decimal point; empty if the text is none in this reading."""
    if not PATTERNS[reading].fullmatch(text):
        return ""
    return text.replace(SIGNS[OTHER[reading]], "").replace(SIGNS[reading], ".")


def find_reading(cells: Cells, columns: Mapping[int, Column], path: Path) -> Reading | None:
    """The reading of the whole file; None for a file with both marks, which is then refused cell by cell."""
    texts = {text for text, _ in cells}
    clear = [reading for reading in SIGNS if any(read_as(reading, t) and not read_as(OTHER[reading], t) for t in texts)]
    open_texts = {text for text in texts if all(read_as(reading, text) for reading in SIGNS)}
    if len(clear) == 2 or not texts:
        return None
    if not clear:
        refuse_open(cells, columns, open_texts, path)
        signs = [reading for reading, sign in SIGNS.items() if any(sign in text for text in open_texts)]
        return signs[0] if len(signs) == 1 else None
    (reading,) = clear
    other = SIGNS[OTHER[reading]]
    grouped = any(other in text and read_as(reading, text) for text in texts - open_texts)
    against = {text for text in open_texts if other in text}
    if grouped or not against:
        return reading
    refuse_open(cells, columns, against, path)
    return None


def refuse_open(cells: Cells, columns: Mapping[int, Column], texts: set[str], path: Path) -> None:
    """Ask about the first of the texts that may be in the thousands by its column."""
    for (text, place), row in sorted(cells.items(), key=lambda item: item[1]):
        if text in texts and reaches_thousands(columns[place]):
            comma, point = read_as("comma", text), read_as("point", text)
            meant = f"{comma} with a decimal comma and {point} with a decimal point"
            ask = "give --decimal comma or --decimal point"
            raise DataError([f"{path}: row {row}: {columns[place].name} is {text}, which is {meant}; {ask}"])


def reaches_thousands(column: Column) -> bool:
    """Whether the column can have a number that is written with a mark between thousands."""
    return any(abs(value) >= 1000 for value in column.codes or (column.minimum, column.maximum))


def check_choice(cells: Cells, columns: Mapping[int, Column], choice: Reading, path: Path) -> None:
    """Refuse numbers with the other mark than the chosen one."""
    wrong = [
        (row, columns[place].name, text)
        for (text, place), row in cells.items()
        if NUMBER.fullmatch(text.replace(",", ".")) and not read_as(choice, text) and not _is_plain(choice, text)
    ]
    if wrong:
        raise DataError(
            [
                f"{path}: row {row}: {name} is {text}, which has no decimal {choice}; correct it or leave out --decimal"
                for row, name, text in sorted(wrong)
            ]
        )


def _is_plain(choice: Reading, text: str) -> bool:
    """Whether a text such as `1.5e3` or `63.` is a number as it stands."""
    return choice == "point" and bool(NUMBER.fullmatch(text))


def _thousands(rows: Rows, columns: Mapping[int, Column], reading: Reading, become: Mapping[str, str]) -> list[str]:
    """One note for each column in which marks between thousands are left out."""
    sign = SIGNS[OTHER[reading]]
    counts = Counter(
        columns[place].name for _, place, text in _marked(rows, columns) if sign in text and text in become
    )
    return [
        f'{name}: "{sign}" between thousands is left out (in {count} cell{"s" * (count > 1)})'
        for name, count in counts.items()
    ]
