"""Finds tables whose codes are another layout's throughout: counted from 0, where the schema has other numbers."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from fedhealth.data.cell_words import is_missing, is_word, parse_number
from fedhealth.data.csv_table import Texts
from fedhealth.data.outcome_check import Cells
from fedhealth.data.schema import Column, Schema

FEWEST_FOR_A_SCHEME = 10
"""Rows below which wrong codes are reported cell by cell: too few to distinguish another scheme from a typing error."""
CLEARLY = 10
"""How many times fewer cells another scheme must leave unexplained than the schema's codes do."""

Codes = Mapping[str, set[int]]
"""Column -> the codes that it can have."""


def find_scheme_fault(schema: Schema, cells: Cells, num_patients: int) -> str:
    """What to do about a table whose codes are another layout's throughout; empty if they are not.

    It takes time, and finds something only in a table that has faults.
    """
    if num_patients < FEWEST_FOR_A_SCHEME:
        return ""
    coded = [column for column in schema.features if is_coded(column) and column.name in cells]
    counted = {column.name: count_numbers(column, cells[column.name]) for column in coded}
    foreign = count_foreign(counted, {column.name: set(column.codes) for column in coded})
    least = min(sum(count_foreign(counted, codes).values()) for codes in counted_schemes(coded))
    total = sum(foreign.values())
    if not total or CLEARLY * min(least, total) > total:
        return ""
    names = ", ".join(name for name, count in foreign.items() if count)
    return (
        f"{names}: not the schema's codes but those of another layout, counted from 0; convert the file or write the "
        "schema's codes (docs/own-files.md)"
    )


def is_coded(column: Column) -> bool:
    """Whether another layout could number the codes of a column in another way."""
    return len(column.codes) > 2 or (bool(column.codes) and set(column.codes) != {0, 1})


def counted_schemes(coded: list[Column]) -> list[Codes]:
    """The codes counted from 0; and the same, but those with gaps between them counted from 1."""
    sizes = {column.name: len(column.codes) for column in coded}
    gaps = {column.name for column in coded if max(column.codes) - min(column.codes) >= len(column.codes)}
    from_0 = {name: set(range(size)) for name, size in sizes.items()}
    return [from_0, {name: set(range(1, sizes[name] + 1)) if name in gaps else codes for name, codes in from_0.items()}]


def count_numbers(column: Column, texts: Texts) -> Counter[float]:
    """Number -> how many cells hold it, words and missing values left out; text that is no number is infinity."""
    counts = Counter[float]()
    if isinstance(texts, np.ndarray):
        values, times = np.unique(texts[~np.isnan(texts)], return_counts=True)
        counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    else:
        for text, count in Counter(texts).items():
            if not is_missing(text) and not is_word(column, text):
                counts[parse_number(text)] += count
    return Counter({value: count for value, count in counts.items() if value not in column.missing_marks})


def count_foreign(counted: Mapping[str, Counter[float]], codes: Codes) -> dict[str, int]:
    """Column -> how many of its cells are none of these codes."""
    return {
        name: sum(count for value, count in counts.items() if value not in codes[name])
        for name, counts in counted.items()
    }
