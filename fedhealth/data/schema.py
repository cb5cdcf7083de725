"""The columns of a federation's tables: meaning, unit, codes, valid ranges, and the outcome to predict.

A `Schema` is loaded from a TOML file (`schema_file.py`) and handed to whoever needs it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

Kind = Literal["number", "category", "yes/no"]
FINGERPRINT_BYTES = 4
AGREED = (
    *("name", "kind", "unit", "codes", "minimum", "maximum", "missing_marks", "can_be_missing"),
    *("reference_mean", "reference_std", "subgroups", "positive"),
)
"""What two programs must have in common of a column. Meanings, other names, words and units only help to read a file."""

LARGEST_NUMBER = 1e6
"""Largest valid mean or standard deviation of a numeric feature, in any unit, and the farthest end of a range."""
YES_NO = {0: "no", 1: "yes"}
"""The codes of the kind yes/no."""
USUAL_WORDS: tuple[dict[str, str], ...] = (
    {"yes": "yes", "y": "yes", "true": "yes", "no": "no", "n": "no", "false": "no"},
    {"female": "female", "f": "female", "male": "male", "m": "male"},
)
"""Pairs of words that need no mention in a schema: another word -> the word of the code that it stands for."""


class Conversion(NamedTuple):
    """From one unit to another: times `factor`, plus `offset`."""

    factor: float
    offset: float = 0.0

    def convert(self, value: float) -> float:
        """The value in the other unit."""
        return value * self.factor + self.offset

    def undo(self, value: float) -> float:
        """The value that `convert` makes this one."""
        return (value - self.offset) / self.factor


@dataclass(frozen=True)
class Column:
    """One column of a hospital's table.

    `minimum` and `maximum` are the valid range, not the range seen in the data; a value in another unit should be outside.
    `reference_mean` and `reference_std` are fixed constants for `--scaling reference`, known without any hospital's rows.
    """

    name: str
    meaning: str
    kind: Kind
    unit: str = ""
    codes: Mapping[int, str] = field(default_factory=dict)
    """Code -> its word; of a number, the words of its only values."""
    minimum: float = float("-inf")
    maximum: float = float("inf")
    missing_marks: tuple[float, ...] = ()
    """Numbers that stand for a missing value."""
    can_be_missing: bool = True
    reference_mean: float | None = None
    reference_std: float | None = None
    other_names: tuple[str, ...] = ()
    """Its names in other files, plain (`plain_name`)."""
    words: Mapping[str, int] = field(default_factory=dict)
    """More words for its codes, plain (`plain_words`)."""
    other_units: Mapping[str, Conversion] = field(default_factory=dict)
    """Another unit -> what gives `unit`."""
    subgroups: tuple[float, ...] | None = None
    """Results are also reported by subgroups of this column: of a number, by bands with these edges; None: they are not."""
    positive: tuple[int, ...] = ()
    """Of an outcome, the codes of the patients who have what is predicted."""

    @cached_property
    def code_of_word(self) -> dict[str, int]:
        """Plain word -> code: the words of the codes and those that people use for them."""
        meant = {plain_words(word): code for code, word in self.codes.items()}
        usual = next((words for words in USUAL_WORDS if {*words} >= {*meant} and len(meant) == 2), {})
        others = {word: meant[same] for word, same in usual.items()}
        return others | meant | dict(self.words)

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers to calculate with; else they are codes."""
        return self.kind == "number"

    @cached_property
    def fingerprint(self) -> bytes:
        """Hash of what two programs must have in common of this column (`FINGERPRINT_BYTES`)."""
        facts = {key: value for key, value in asdict(self).items() if key in AGREED}
        facts["codes"] = sorted(self.codes.items())
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()[:FINGERPRINT_BYTES]


@dataclass(frozen=True)
class Schema:
    """The features, in the order of the model's inputs, and the outcome."""

    title: str
    """What is predicted, such as "heart disease"."""
    source: str
    """Who defined the columns."""
    features: tuple[Column, ...]
    outcomes: tuple[Column, ...]
    """The columns that can hold the outcome; a table has at least one of them, and where it has several, they agree."""
    hospital: str
    """The column that names the patient's hospital; a file need not have it."""
    hospital_other_names: tuple[str, ...] = ()
    text: str = field(default="", repr=False, compare=False)
    """The file's content, which run folders and models carry."""

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(column.name for column in self.features)

    @cached_property
    def outcome_names(self) -> tuple[str, ...]:
        """Names of the columns that can hold the outcome."""
        return tuple(column.name for column in self.outcomes)

    @property
    def outcome(self) -> Column:
        """The outcome with two codes, or the first if none has two."""
        return next((column for column in self.outcomes if len(column.codes) == 2), self.outcomes[0])

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Name -> feature or outcome, features first."""
        return {column.name: column for column in (*self.features, *self.outcomes)}

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Every column that a file can have, the hospital last."""
        return (*self.columns, self.hospital)

    @cached_property
    def numbers(self) -> tuple[Column, ...]:
        """The numeric features."""
        return tuple(column for column in self.features if column.is_number)

    @cached_property
    def categories(self) -> tuple[Column, ...]:
        """The features with codes, yes/no among them."""
        return tuple(column for column in self.features if not column.is_number)

    @cached_property
    def places(self) -> dict[str, int]:
        """Feature -> its position in the array of features."""
        return {name: place for place, name in enumerate(self.feature_names)}

    @cached_property
    def number_places(self) -> list[int]:
        """Positions of the numeric features."""
        return [self.places[column.name] for column in self.numbers]

    @cached_property
    def missable_places(self) -> list[int]:
        """Positions of the features that can be missing."""
        return [place for place, column in enumerate(self.features) if column.can_be_missing]

    @cached_property
    def column_of(self) -> dict[str, str]:
        """Name in any file, plain -> our column."""
        named = [(column.name, column.other_names) for column in self.columns.values()]
        named.append((self.hospital, self.hospital_other_names))
        return {plain_name(text): name for name, others in named for text in (name, *others)}

    @cached_property
    def own_names(self) -> dict[str, str]:
        """Column name in small letters -> the column."""
        return {name.lower(): name for name in self.column_names}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything about the columns on which two programs must agree (12 hex digits)."""
        return hashlib.sha256(b"".join(self.fingerprints.values())).hexdigest()[:12]

    @cached_property
    def fingerprints(self) -> dict[str, bytes]:
        """Column -> its fingerprint, in the order of the columns, which is part of what must agree."""
        return {name: column.fingerprint for name, column in self.columns.items()}

    def differing_columns(self, theirs: Sequence[bytes]) -> tuple[list[str], int]:
        """Our columns that are not among another schema's fingerprints, and how many of theirs are not among ours."""
        ours = self.fingerprints
        different = [name for name, fingerprint in ours.items() if fingerprint not in theirs]
        return different, len(set(theirs) - set(ours.values()))


def plain_words(text: str) -> str:
    """In small letters, with single blanks for blanks, hyphens and underscores."""
    return " ".join(text.lower().replace("-", " ").replace("_", " ").split())


def plain_name(text: str) -> str:
    """`ST_Slope` -> `stslope`."""
    return re.sub(r"[\s_-]", "", text).lower()
