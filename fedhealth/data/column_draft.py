"""One column of a table -> what a schema could say of it, without a value that few patients have.

The cells are guessed at, so that a person has less to write; what only a person can decide is a note. Of the values, only
codes and words of at least `least` patients are kept; the ends of a range are rounded outwards (`round_outwards`).
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import pairwise

import numpy as np

from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import NUMBER, is_missing
from fedhealth.data.label_words import LONGEST_WORD, Labels, describe_labels, is_word, label_words, name_codes
from fedhealth.data.schema import LARGEST_NUMBER, USUAL_WORDS, Kind, plain_words
from fedhealth.data.schema_checks import NARROWEST
from fedhealth.data.suspect_values import FAR, FAR_FOR_A_USUAL_CODE, FEWEST

MARKS = (
    *(-9999, -999, -888, -777, -99, -88, -77, -9, -8, -7, -1),
    *(0, 9, 77, 88, 99, 777, 888, 999, 7777, 8888, 9999, 99999),
)
"""Numbers that files have for a missing value."""
DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3(\d{2}|\d{4}))([T ].*)?", re.ASCII)
ID_NAME = re.compile(
    r"(.*[\W_])?(id|pid|mrn|ssn|nr|no|number|index)|.*(patient|record|case|row|unnamed).*", re.IGNORECASE
)
MOSTLY_DISTINCT = 0.9
"""Share of different values from which on whole numbers may be numbers of patients."""
MOSTLY = 0.8
"""Share of numbers among the known cells from which on a column is one of numbers with a few texts."""
MOST_CODES, MOST_WORDS = 10, 20
"""Different whole numbers and texts, above which a column is no category; so it is with a text of `LONGEST_WORD`."""


@dataclass(frozen=True)
class ColumnDraft:
    """What a schema could say of a column."""

    name: str
    kind: Kind | None = None
    """None: the column is left out."""
    reason: str = ""
    """Why it is left out."""
    codes: Mapping[int, str] = field(default_factory=dict)
    """Code -> word, a placeholder for codes of the file; empty for yes/no."""
    ends: tuple[str, str] = ("", "")
    """Of a number, the ends of the range as text."""
    notes: tuple[str, ...] = ()
    """What a person must decide."""


def draft_column(name: str, texts: Sequence[str], least: int, labels: Labels | None = None) -> ColumnDraft:
    """What can be said of a column from its stripped cells, and the labels that the file has for its codes.

    No value that fewer than `least` patients have is in it, but all labels and their codes, which are no patient's.
    """
    counts = Counter(text for text in texts if not is_missing(text))
    known, full = counts.total(), () if counts.total() < len(texts) else (FULL,)
    if len(counts) < 2:
        return ColumnDraft(
            name, reason="all its cells have the same value" if counts else "none of its cells has a value"
        )
    if sum(count for text, count in counts.items() if DATE.fullmatch(text)) > known / 2:
        return ColumnDraft(name, reason="dates; add the time between two of them as a number of days if it matters")
    numbers = {text: float(text) for text in counts if NUMBER.fullmatch(text) and math.isfinite(float(text))}
    if sum(counts[text] for text in numbers) < MOSTLY * known:
        return _draft_words(name, counts, least, full)
    notes = (*full, *describe_texts({text: count for text, count in counts.items() if text not in numbers}, least))
    if _are_ids(name, [numbers[text] for text in texts if text in numbers]):
        return ColumnDraft(name, reason="numbers of patients or records, it seems")
    return _draft_numbers(name, {text: counts[text] for text in numbers}, least, notes, labels or {})


FULL = "No cell is empty here. If the value is known of every patient: can-be-missing = false"


def _are_ids(name: str, values: Sequence[float]) -> bool:
    """Whether numbers tell the patients apart: whole, nearly all different, and in ascending order or under such a name."""
    distinct = len(set(values)) >= MOSTLY_DISTINCT * len(values) and all(value.is_integer() for value in values)
    ascending = all(one < two for one, two in pairwise(values))
    return distinct and (ascending or ID_NAME.fullmatch(name) is not None)


def describe_texts(counts: Mapping[str, int], least: int) -> list[str]:
    """The note about texts among numbers."""
    if not counts:
        return []
    shown = [f'"{printable(text, LONGEST_WORD)}"' for text, count in counts.items() if count >= least]
    named = f": {', '.join(sorted(shown))}" if shown else f", each in fewer than {least} rows"
    return [f"Some cells hold texts instead of numbers{named}. Leave such cells empty in the file, or correct them"]


def _draft_numbers(
    name: str, counts: Mapping[str, int], least: int, notes: tuple[str, ...], labels: Labels
) -> ColumnDraft:
    """A column of numbers: yes/no, a category or a number."""
    values = Counter[float]()
    for text, count in counts.items():
        values[float(text)] += count
    words = label_words(labels)
    if len(words) > 1 and {*values} <= {*labels}:
        kind, codes = name_codes(words)
        return ColumnDraft(name, kind, codes=codes, notes=(*notes, *([describe_labels(labels)] if codes else [])))
    marks = [mark for mark in find_marks(values) if mark not in labels]
    notes = (*notes, *describe_marks({mark: values[mark] for mark in marks}, least))
    notes = (*notes, *([describe_labels(labels)] if labels else []))
    values = Counter({value: count for value, count in values.items() if value not in marks})
    if set(values) == {0, 1}:
        return ColumnDraft(name, "yes/no", notes=notes)
    few = len(values) <= min(MOST_CODES, values.total() // least) and all(value.is_integer() for value in values)
    shown = [int(value) for value, count in values.items() if count >= least] if few else []
    if len(shown) > 1:
        codes = {code: words.get(code, f"code {code}") for code in sorted({*shown, *words})}
        rare = describe_rare(len({*values} - {*codes}), "code", least)
        more = (
            'Give each code its word. If the numbers are amounts or grades to calculate with: kind = "number"',
            *rare,
        )
        return ColumnDraft(name, "category", codes=codes, notes=(*notes, *more))
    measured = [text for text in counts if float(text) in values and float(text) not in labels]
    return _draft_number(name, measured or list(counts), notes)


def _draft_number(name: str, texts: Sequence[str], notes: tuple[str, ...]) -> ColumnDraft:
    """A number with its range; left out if no schema may have the range."""
    low, high = round_outwards(texts)
    if max(-low, high) > LARGEST_NUMBER:
        return ColumnDraft(name, reason=f"numbers beyond {LARGEST_NUMBER:,.0f}; add it in a larger unit")
    if high - low < NARROWEST:
        return ColumnDraft(name, reason=f"numbers less than {NARROWEST:g} apart; add it in a smaller unit")
    return ColumnDraft(name, "number", ends=(f"{low.normalize():f}", f"{high.normalize():f}"), notes=notes)


def round_outwards(texts: Sequence[str]) -> tuple[Decimal, Decimal]:
    """The ends of a range around all of these numbers, of which none but 0 is an end.

    The ends are multiples of a step: the largest power of ten that is at most the span, and at least ten units of the last
    digit that the numbers have. An end is one step or more, and less than two, beyond the extreme value on its side, so
    that it shows the extreme only as one of ten or more values. Where no number is negative (positive), no end is.
    """
    numbers = [Decimal(text) for text in texts]
    last_digit = min(0, *map(_last_digit, numbers))
    lowest, highest = min(numbers), max(numbers)
    exponent = max((highest - lowest).adjusted() if highest > lowest else last_digit, last_digit + 1)
    step = Decimal(1).scaleb(exponent)
    low = ((lowest / step).to_integral_value(ROUND_FLOOR) - 1) * step
    high = ((highest / step).to_integral_value(ROUND_CEILING) + 1) * step
    return (max(low, Decimal(0)) if lowest >= 0 else low), (min(high, Decimal(0)) if highest <= 0 else high)


def _last_digit(number: Decimal) -> int:
    """The power of ten of the last digit that is not 0, -12 at least."""
    exponent = number.normalize().as_tuple().exponent
    return max(exponent, -12) if isinstance(exponent, int) else 0


def find_marks(values: Mapping[float, int]) -> list[float]:
    """The numbers that may stand for a missing value: usual marks of a few patients, beyond and far from all others."""
    plain = {value: count for value, count in values.items() if value == 0 or value not in MARKS}
    others = {value: count for value, count in plain.items() if value != 0}
    suspects = [value for value in MARKS if values.get(value, 0) >= FEWEST]
    return [float(value) for value in suspects if _stands_apart(value, plain if value else others)]


def _stands_apart(value: float, others: Mapping[float, int]) -> bool:
    """Whether a value is beyond all others, farther than they are from each other, and far from their mean."""
    if len(others) < 2:
        return False
    ordered = np.array(sorted(others))
    every = np.repeat(ordered, [others[each] for each in ordered.tolist()])
    gap = max(ordered[0] - value, value - ordered[-1])
    far = FAR_FOR_A_USUAL_CODE if value else FAR
    return bool(gap > np.diff(ordered).max() and abs(value - every.mean()) >= far * every.std())


def describe_marks(counts: Mapping[float, int], least: int) -> list[str]:
    """The note about numbers that may stand for a missing value, which are in no range and no codes."""
    shown = [f"{mark:g}" for mark, count in counts.items() if count >= least]
    hidden = [f"A number of fewer than {least} patients, not shown,"] if len(shown) < len(counts) else []
    who = ([" or ".join(shown)] if shown else []) + hidden
    remedy = f"If it means that the value is not known: missing-marks = [{', '.join(shown) or 'the number'}]"
    return [f"{each} is far from all others, and is not drafted. {remedy}" for each in who]


def describe_rare(number: int, what: str, least: int) -> list[str]:
    """The note about codes or words that are not shown."""
    more = f"{number} more {what}s, each" if number > 1 else f"1 more {what}"
    return [f"Not shown: {more} of fewer than {least} patients. Add what is missing"] if number else []


def _draft_words(name: str, counts: Mapping[str, int], least: int, notes: tuple[str, ...]) -> ColumnDraft:
    """A column of texts: yes/no, a category, or free text that is left out."""
    grouped, spelling = Counter[str](), dict[str, str]()
    for text in sorted(counts, key=lambda text: (-counts[text], text)):
        grouped[plain_words(text)] += counts[text]
        spelling.setdefault(plain_words(text), text)
    yes_no, sexes = USUAL_WORDS
    if {yes_no.get(word) for word in grouped} == {"yes", "no"}:
        return ColumnDraft(name, "yes/no", notes=notes)
    if {sexes.get(word) for word in grouped} == {"female", "male"}:
        return ColumnDraft(name, "category", codes={0: "female", 1: "male"}, notes=notes)
    if len(grouped) > MOST_WORDS or max(map(len, grouped)) > LONGEST_WORD:
        return ColumnDraft(name, reason=f"free text, names or IDs (more than {MOST_WORDS} texts, or long ones)")
    words = [spelling[word] for word in sorted(grouped) if grouped[word] >= least and is_word(word)]
    if len(words) < 2:
        return ColumnDraft(name, reason=f"fewer than two texts that {least} patients have")
    rare = describe_rare(len(grouped) - len(words), "text", least)
    return ColumnDraft(name, "category", codes=dict(enumerate(words)), notes=(*notes, *rare))
