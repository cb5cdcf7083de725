"""The keys of a schema file (TOML), as docs/schemas.md describes them; what their values may be is in `schema_checks.py`."""

from typing import Any

import msgspec

from fedhealth.data.schema import YES_NO, Conversion, Kind


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
    can_be_missing: bool | None = None
    reference_mean: float | None = None
    reference_deviation: float | None = None
    other_names: list[str] = []
    words: dict[str, int] = {}
    other_units: dict[str, float | tuple[float, float]] = {}
    subgroups: bool | list[float] = False
    positive: list[int] = []


def codes_of(table: ColumnTable) -> dict[int, str]:
    """Code -> word, in the order of the codes; yes/no needs no codes in the file."""
    codes = {int(code): word for code, word in sorted(table.codes.items(), key=lambda pair: int(pair[0]))}
    return codes or dict(YES_NO) if table.kind == "yes/no" else codes


def conversions_of(table: ColumnTable) -> dict[str, Conversion]:
    """Unit -> its conversion to the column's unit: a factor, or a factor and an offset."""
    pairs = {unit: each if isinstance(each, tuple) else (each, 0.0) for unit, each in table.other_units.items()}
    return {unit: Conversion(*pair) for unit, pair in pairs.items()}
