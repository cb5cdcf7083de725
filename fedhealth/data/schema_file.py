"""A schema file (TOML) -> `Schema`, or one line for each fault, with the file's line. docs/schemas.md describes the keys."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.cell_words import is_missing
from fedhealth.data.schema import YES_NO, Column, Kind, Schema, plain_name, plain_words
from fedhealth.data.toml_lines import Fault, convert_table, data_error

MOST_COLUMNS = 10_000
MOST_CHARACTERS = 100
"""Of a column's name."""
PAGE = "docs/schemas.md"
COLUMNS = ("column", "outcome")
"""The two kinds of tables in the file."""


class SchemaTable(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """The keys of the whole file."""

    title: str
    source: str
    column: list[dict[str, Any]]
    outcome: list[dict[str, Any]]
    hospital: str = "hospital"
    hospital_other_names: list[str] = []
    missing_marks: list[float] = []


class ColumnTable(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    """The keys of a column or an outcome."""

    name: str
    meaning: str
    kind: Kind = "category"
    unit: str = ""
    codes: dict[str, str] = {}
    range: tuple[float, float] | None = None
    missing_marks: list[float] | None = None
    can_be_missing: bool = True
    reference_mean: float | None = None
    reference_deviation: float | None = None
    other_names: list[str] = []
    words: dict[str, int] = {}
    other_units: dict[str, float] = {}
    subgroups: bool | list[float] = False
    positive: list[int] = []


def heart_disease() -> Schema:
    """The schema of the UCI Heart Disease data, which is the default."""
    place = files("fedhealth") / "schemas" / "heart-disease.toml"
    return parse_schema(place.read_text(encoding="utf-8"), "heart-disease.toml")


def load_schema(path: Path | None) -> Schema:
    """The schema in a file; without one the heart disease data's.

    Raises
    ------
    UsageError
        The file cannot be read.
    DataError
        It is no schema: one line for each fault.
    """
    if path is None:
        return heart_disease()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a schema file (TOML)") from None
    try:
        return parse_schema(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise DataError([f"{path}: is not UTF-8 text; give a schema file (TOML)"]) from None


def parse_schema(text: str, name: str) -> Schema:
    """The schema of a file's content; `name` begins the lines of a `DataError`."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(
            [f"{name}: is not TOML ({printable(str(error), 100)}); docs/schemas.md has an example"]
        ) from None
    faults: list[Fault] = []
    table = convert_table(content, SchemaTable, (), faults, PAGE)
    if table is None:
        raise data_error(name, text, faults)
    columns = {kind: _columns(content[kind], kind, table.missing_marks, faults) for kind in COLUMNS}
    if not faults:
        faults += find_clashes(table, columns)
    if faults:
        raise data_error(name, text, faults)
    return Schema(
        title=table.title.strip(),
        source=" ".join(table.source.split()),
        features=tuple(columns["column"]),
        outcomes=tuple(columns["outcome"]),
        hospital=table.hospital,
        hospital_other_names=tuple(map(plain_name, table.hospital_other_names)),
        text=text,
    )


def _columns(tables: list[dict[str, Any]], kind: str, marks: list[float], faults: list[Fault]) -> list[Column]:
    """The columns of one kind; the faults of each are appended."""
    columns = []
    for place, content in enumerate(tables):
        path = (kind, place)
        table = convert_table(content, ColumnTable, path, faults, PAGE)
        if table is not None:
            found = [((*path, key), f"{printable(table.name, 40)}: {line}") for key, line in find_faults(table, kind)]
            faults += found
            columns += [] if found else [_column(table, kind, marks)]
    return columns


def _column(table: ColumnTable, kind: str, marks: list[float]) -> Column:
    """The column of a checked table."""
    low, high = table.range or (float("-inf"), float("inf"))
    edges = table.subgroups if isinstance(table.subgroups, list) else []
    return Column(
        name=table.name,
        meaning=table.meaning,
        kind=table.kind,
        unit=table.unit,
        codes=_codes(table),
        minimum=low,
        maximum=high,
        missing_marks=tuple(float(mark) for mark in (marks if table.missing_marks is None else table.missing_marks)),
        can_be_missing=table.can_be_missing and kind == "column",
        reference_mean=table.reference_mean,
        reference_std=table.reference_deviation,
        other_names=tuple(map(plain_name, table.other_names)),
        words={plain_words(word): code for word, code in table.words.items()},
        other_units=table.other_units,
        subgroups=tuple(edges) if table.subgroups is not False else None,
        positive=tuple(table.positive),
    )


def _codes(table: ColumnTable) -> dict[int, str]:
    """Code -> word; yes/no needs no codes in the file."""
    codes = {int(code): word for code, word in table.codes.items()}
    return codes or dict(YES_NO) if table.kind == "yes/no" else codes


def find_faults(table: ColumnTable, kind: str) -> Iterator[tuple[str, str]]:
    """(key, line) of what is wrong with a column or an outcome by itself."""
    name = table.name
    if not (1 <= len(name) <= MOST_CHARACTERS and name.isprintable() and name == name.strip() and "=" not in name):
        yield "name", f"give 1 to {MOST_CHARACTERS} printable characters without = and without blanks at the ends"
    yield from _code_faults(table)
    if kind == "outcome":
        yield from _outcome_faults(table)
    elif table.positive:
        yield "positive", "only an [[outcome]] has positive codes; leave it out"
    elif table.kind == "number":
        yield from _number_faults(table)
    elif table.range or table.other_units or table.reference_mean is not None or table.reference_deviation is not None:
        key = next(key for key in ("range", "other-units", "reference-mean", "reference-deviation") if _has(table, key))
        yield key, 'only kind = "number" has it; leave it out'
    if table.subgroups is not False:
        yield from _subgroup_faults(table)


def _has(table: ColumnTable, key: str) -> bool:
    return getattr(table, key.replace("-", "_")) not in (None, {})


def _code_faults(table: ColumnTable) -> Iterator[tuple[str, str]]:
    """What is wrong with codes and their words."""
    bad = [code for code in table.codes if not code.removeprefix("-").isdecimal() or str(int(code)) != code]
    if bad:
        yield (
            "codes",
            f'the code "{printable(bad[0], 40)}" is no whole number; number the codes, with the texts as words',
        )
        return
    if empty := [code for code, word in table.codes.items() if not word.strip()]:
        yield "codes", f"the code {empty[0]} has no word; give one"
    if table.kind != "number" and len(_codes(table)) < 2:
        yield "codes", 'a category needs at least two codes with words, such as codes = { 0 = "female", 1 = "male" }'
    doubled = [word for word, count in Counter(map(plain_words, table.codes.values())).items() if count > 1]
    if doubled:
        yield "codes", f'two codes have the word "{printable(doubled[0], 40)}"; give each its own'
    words = [] if table.kind == "number" else [*table.codes.values(), *table.words]
    if marks := [word for word in words if is_missing(plain_words(word))]:
        yield (
            "codes",
            f'"{printable(marks[0], 40)}" stands for a missing value in files; give another word',
        )
    foreign = [word for word, code in table.words.items() if code not in _codes(table)]
    if foreign:
        yield "words", f'"{printable(foreign[0], 40)}" is {table.words[foreign[0]]}, which is none of the codes'
    meant = {plain_words(word): code for code, word in _codes(table).items()}
    for word, code in table.words.items():
        if meant.get(plain_words(word), code) != code:
            yield "words", f'"{printable(word, 40)}" is the word of the code {meant[plain_words(word)]}, not of {code}'


def _number_faults(table: ColumnTable) -> Iterator[tuple[str, str]]:
    """What is wrong with range, units and reference values of a numeric feature."""
    if table.range is None:
        yield "name", "a number needs its valid range, such as range = [18, 120]"
    elif not table.range[0] < table.range[1]:
        yield "range", f"the range {table.range[0]:g}..{table.range[1]:g} is empty; give the lower end first"
    for unit, factor in table.other_units.items():
        if not 0 < factor < float("inf"):
            yield "other-units", f'the factor of "{printable(unit, 40)}" is {factor:g}; give a number above 0'
    if (table.reference_mean is None) != (table.reference_deviation is None):
        yield "reference-mean" if table.reference_mean is not None else "reference-deviation", "give both or neither"
    if table.reference_deviation is not None and not table.reference_deviation > 0:
        yield "reference-deviation", f"is {table.reference_deviation:g}; give a number above 0"


def _outcome_faults(table: ColumnTable) -> Iterator[tuple[str, str]]:
    """What is wrong with an outcome."""
    if table.kind == "number":
        yield "kind", 'an outcome has codes; give kind = "category" or "yes/no"'
    codes = set(_codes(table))
    if not table.positive or not set(table.positive) < codes:
        yield (
            "positive" if table.positive else "name",
            "give some of its codes, and not all, such as positive = [1]",
        )
    if table.subgroups is not False:
        yield "subgroups", "only a [[column]] has subgroups; leave it out"


def _subgroup_faults(table: ColumnTable) -> Iterator[tuple[str, str]]:
    """What is wrong with a column whose subgroups are reported."""
    edges = table.subgroups if isinstance(table.subgroups, list) else None
    if table.can_be_missing:
        yield "subgroups", "patients without the value would be in no subgroup; needs can-be-missing = false"
    if table.kind == "number" and (not edges or sorted(set(edges)) != edges):
        yield "subgroups", "give the edges of the bands in ascending order, such as subgroups = [50, 60]"
    if table.kind != "number" and edges is not None:
        yield "subgroups", "give true: there is a subgroup for each code"


def find_clashes(table: SchemaTable, columns: Mapping[str, list[Column]]) -> Iterator[Fault]:
    """What is wrong between columns: one name for two, or none at all."""
    if not columns["column"]:
        yield (), "has no [[column]]; give one for each feature"
    if not columns["outcome"]:
        yield (), "has no [[outcome]]; give the column that is to be predicted"
    if len(columns["column"]) > MOST_COLUMNS:
        yield (), f"has {len(columns['column'])} columns; at most {MOST_COLUMNS} are possible"
    owner: dict[str, str] = {}
    hospital = (table.hospital, [plain_name(text) for text in table.hospital_other_names])
    named = [
        ((kind, place), (each.name, each.other_names)) for kind in COLUMNS for place, each in enumerate(columns[kind])
    ]
    for path, (name, others) in [*named, (("hospital",), hospital)]:
        for text in dict.fromkeys((plain_name(name), *others)):
            if text in owner:
                yield (
                    (*path, "name"),
                    f'"{printable(text, 40)}" is a name of {owner[text]} and of {name}; each needs its own',
                )
            owner.setdefault(text, name)
