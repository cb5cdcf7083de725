"""What is wrong with the tables of a schema file: each alone, and one beside the others. Each fault is one line."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import isfinite

from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER, is_missing
from fedhealth.data.schema import LARGEST_NUMBER, Column, plain_name, plain_words
from fedhealth.data.schema_keys import ColumnTable, SchemaTable, codes_of, conversions_of
from fedhealth.data.toml_lines import Fault

MOST_COLUMNS = 10_000
MOST_CHARACTERS = 100
"""Of a column's name."""
NARROWEST = 1e-3
"""Of a range. The model's standardisation takes a deviation below 1e-6 for a number that does not vary."""
COLUMNS = ("column", "outcome")
"""The two kinds of tables in the file."""
CODE = re.compile(r"0|-?[1-9]\d{0,14}", re.ASCII)
"""A whole number that a float holds exactly."""
OF_NUMBERS = ("unit", "range", "other-units", "reference-mean", "reference-deviation")
"""Keys that only a column of numbers has."""

NUMBER_TO_PREDICT = (
    "risks of an event are predicted, not numbers; give the table a column with codes, such as 1 for more than 7 days and "
    '0 for others, and here its name, kind = "yes/no" and positive = [1]'
)

Found = Iterator[tuple[str, str]]
"""(key, line) of each fault of one table; of the table itself, the key is empty."""


def find_file_faults(table: SchemaTable) -> Found:
    """What is wrong with the keys of the whole file."""
    title = " ".join(table.title.split())
    if not title or not title.isprintable():
        yield "title", 'give what is predicted, in one line, such as "heart disease"'
    if not " ".join(table.source.split()).isprintable():
        yield "source", "has a character that cannot be printed; leave it out"
    if fault := find_name_fault(table.hospital):
        yield "hospital", fault
    yield from _other_name_faults("hospital-other-names", table.hospital_other_names)
    yield from _mark_faults(table.missing_marks)
    if len(table.column) > MOST_COLUMNS:
        yield "column", f"{len(table.column)} are too many; {MOST_COLUMNS} are possible"


def find_faults(table: ColumnTable, kind: str, marks: Sequence[float]) -> Found:
    """What is wrong with a column or an outcome by itself; `marks` are the missing marks of the whole file."""
    if fault := find_name_fault(table.name):
        yield "name", fault
    yield from _other_name_faults("other-names", table.other_names)
    meaning = " ".join(table.meaning.split())
    if not meaning or not meaning.isprintable():
        yield "meaning", 'give what the column holds, in one line, such as "age"'
    if bad := next((code for code in table.codes if not CODE.fullmatch(code)), None):
        shown = printable(bad, 40)
        yield "codes", f'"{shown}" is no whole number of at most 15 digits; number the codes, with the texts as words'
        return
    yield from chain(_code_faults(table), _word_faults(table), _code_mark_faults(table, marks))
    if kind == "outcome" and table.kind == "number":  # other keys of a number would be faults too
        yield "kind", NUMBER_TO_PREDICT
        return
    yield from _number_faults(table) if table.kind == "number" else _other_faults(table)
    yield from _outcome_faults(table) if kind == "outcome" else _column_faults(table)


def find_name_fault(name: str) -> str:
    """What to do about a name that no column may have; empty for any other."""
    sound = 1 <= len(name) <= MOST_CHARACTERS and name.isprintable() and name == name.strip() and "=" not in name
    if sound and plain_name(name):
        return ""
    return f"give a name of 1 to {MOST_CHARACTERS} printable characters, without = and without blanks at the ends"


def _other_name_faults(key: str, names: Sequence[str]) -> Found:
    if any(not (plain_name(text) and text.isprintable()) for text in names):
        yield key, "one of them is empty or cannot be printed; leave it out"


def _mark_faults(marks: Sequence[float]) -> Found:
    if bad := [mark for mark in marks if not isfinite(mark)]:
        yield "missing-marks", f"{bad[0]:g} is no number of a file; texts such as NaN are read as missing anyway"


def _code_faults(table: ColumnTable) -> Found:
    """What is wrong with the codes and their own words."""
    codes = codes_of(table)
    if bad := [code for code, word in codes.items() if not word.strip() or not word.isprintable()]:
        yield "codes", f"{bad[0]} has no word that can be printed; give one"
    if len(codes) < 2 and (codes or table.kind != "number"):
        yield "codes", 'at least two codes with words are needed, such as codes = { 0 = "female", 1 = "male" }'
    if len(codes) > 2 and table.kind == "yes/no":
        yield "codes", f'{len(codes)} codes are not yes/no; give kind = "category"'
    doubled = [word for word, count in Counter(map(plain_words, codes.values())).items() if count > 1]
    if doubled:
        yield "codes", f'two codes have the word "{printable(doubled[0], 40)}"; give each its own'
    low, high = table.range or (0, 0)
    if outside := [code for code in codes if table.kind == "number" and table.range and not low <= code <= high]:
        yield "codes", f"{outside[0]} is outside the range {low:g}..{high:g}; widen the range or leave the code out"


def _word_faults(table: ColumnTable) -> Found:
    """What is wrong with the words of codes, and with further words for them."""
    codes = codes_of(table)
    for key, texts in (("codes", list(filter(str.strip, codes.values()))), ("words", list(table.words))):
        if numbers := [word for word in texts if NUMBER.fullmatch(plain_words(word))]:
            yield key, f'"{printable(numbers[0], 40)}" reads as a number; give a word, such as "grade 1"'
        # A number is never read by its words, so that "none" may be the word of 0 vessels.
        if marks := [word for word in texts if table.kind != "number" and is_missing(plain_words(word))]:
            yield key, f'"{printable(marks[0], 40)}" stands for a missing value in files; give another word'
    meant = {plain_words(word): code for code, word in codes.items()}
    for word, code in table.words.items():
        shown, owner = printable(word, 40), meant.setdefault(plain_words(word), code)
        if code not in codes:
            yield "words", f'"{shown}" is {code}, which is none of the codes'
        elif owner != code:
            yield "words", f'"{shown}" is the word of the code {owner}, not of {code}'


def _code_mark_faults(table: ColumnTable, marks: Sequence[float]) -> Found:
    """Missing marks that are no numbers, or codes."""
    own = table.missing_marks
    yield from _mark_faults(own or [])
    if both := [mark for mark in (marks if own is None else own) if mark in codes_of(table)]:
        remedy = "leave one of them out" if own is not None else "give the column missing-marks of its own, such as []"
        yield (
            "codes" if own is None else "missing-marks",
            f"{both[0]:g} is a code and stands for a missing value; {remedy}",
        )


def _number_faults(table: ColumnTable) -> Found:
    """What is wrong with range, units and reference values of a column of numbers."""
    if table.range is None:
        yield "", "a number needs its valid range, such as range = [18, 120]"
    else:
        yield from _range_faults(*table.range)
    if not table.unit.isprintable():
        yield "unit", "has a character that cannot be printed; leave it out"
    for unit, (factor, offset) in conversions_of(table).items():
        if not 0 < factor < float("inf"):
            yield "other-units", f'the factor of "{printable(unit, 40)}" is {factor:g}; give a number above 0'
        elif not isfinite(offset):
            yield (
                "other-units",
                f'the offset of "{printable(unit, 40)}" is {offset:g}; give what is added after the factor',
            )
    mean, deviation = table.reference_mean, table.reference_deviation
    if (mean is None) != (deviation is None):
        yield (
            "reference-mean" if deviation is None else "reference-deviation",
            "give both reference-mean and reference-deviation, or neither",
        )
    if mean is not None and not abs(mean) <= LARGEST_NUMBER:
        yield "reference-mean", f"is {mean:g}; give a number from {-LARGEST_NUMBER:g} to {LARGEST_NUMBER:g}"
    if deviation is not None and not NARROWEST <= deviation <= LARGEST_NUMBER:
        yield "reference-deviation", f"is {deviation:g}; give a number from {NARROWEST:g} to {LARGEST_NUMBER:g}"


def _range_faults(low: float, high: float) -> Found:
    shown = f"{low:g}..{high:g}"
    if not low < high:
        yield "range", f"{shown} is empty; give the lower end first"
    elif max(-low, high) > LARGEST_NUMBER:
        yield "range", f"{shown} goes beyond {LARGEST_NUMBER:g}; give it in a larger unit"
    elif high - low < NARROWEST:
        yield "range", f"{shown} is narrower than {NARROWEST:g}; give it in a smaller unit"


def _other_faults(table: ColumnTable) -> Found:
    """Keys of a number in a table that is none."""
    keys = (key for key in OF_NUMBERS if getattr(table, key.replace("-", "_")) not in (None, {}, ""))
    yield from ((key, 'only a [[column]] of kind = "number" has it; leave it out') for key in keys)


def _outcome_faults(table: ColumnTable) -> Found:
    """What only an outcome can do wrong."""
    if not table.positive or not set(table.positive) < set(codes_of(table)):
        yield "positive" if table.positive else "", "an outcome needs some of its codes, and not all, as positive = [1]"
    if table.subgroups is not False:
        yield "subgroups", "only a [[column]] has subgroups; leave it out"
    if table.can_be_missing:
        yield "can-be-missing", "an outcome is known of every patient; leave it out"


def _column_faults(table: ColumnTable) -> Found:
    """What is wrong with a feature: outcomes' keys, and subgroups that cannot be reported."""
    if table.positive:
        yield "positive", "only an [[outcome]] has positive codes; leave it out"
    if table.subgroups is False:
        return
    edges = table.subgroups if isinstance(table.subgroups, list) else []
    low, high = table.range or (0, 0)
    if table.can_be_missing is not False:
        yield "subgroups", "patients without the value would be in no subgroup; needs can-be-missing = false"
    if table.kind == "number" and (not edges or sorted(set(edges)) != edges):
        yield "subgroups", "give the edges of the bands in ascending order, such as subgroups = [50, 60]"
    elif table.kind == "number" and low < high and not all(low < edge < high for edge in edges):
        yield "subgroups", f"an edge is not inside the range {low:g}..{high:g}; leave it out"
    if table.kind != "number" and edges:
        yield "subgroups", "give true: there is a subgroup for each code"


def find_clashes(table: SchemaTable, columns: Mapping[str, list[Column]]) -> Iterator[Fault]:
    """What is wrong between columns: one name for two, or none at all."""
    if not columns["column"]:
        yield ("column",), "there is no [[column]]; give one for each feature"
    if not columns["outcome"]:
        yield ("outcome",), "there is no [[outcome]]; give the column that is to be predicted"
    owner: dict[str, str] = {}
    named = [
        ((kind, place, "name"), each.name, each.other_names)
        for kind in COLUMNS
        for place, each in enumerate(columns[kind])
    ]
    hospital = (("hospital",), table.hospital, tuple(map(plain_name, table.hospital_other_names)))
    for path, name, others in [*named, hospital]:
        for text in dict.fromkeys((plain_name(name), *others)):
            if text in owner:
                both = f"of {printable(owner[text], 40)} and of {printable(name, 40)}"
                yield path, f'"{printable(text, 40)}" is a name {both}; each needs its own'
            owner.setdefault(text, name)
