"""A schema file (TOML) -> `Schema`, or one line for each fault, with the file's line. docs/schemas.md describes the keys."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fedhealth.common.errors import DataError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.data.schema import Column, Schema, plain_name, plain_words
from fedhealth.data.schema_checks import COLUMNS, find_clashes, find_faults, find_file_faults
from fedhealth.data.schema_keys import ColumnTable, SchemaTable, codes_of, conversions_of
from fedhealth.data.toml_lines import Fault, convert_table, data_error, parse_toml

PAGE = "docs/schemas.md"


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
    content, faults = parse_toml(text, name, PAGE), list[Fault]()
    table = convert_table(content, SchemaTable, (), faults, PAGE)
    if table is None:
        raise data_error(name, text, faults)
    faults += [((key,), f"{key}: {line}") for key, line in find_file_faults(table)]
    columns = {kind: _columns(content[kind], kind, table.missing_marks, faults) for kind in COLUMNS}
    if not faults:
        faults += find_clashes(table, columns)
    if faults:
        raise data_error(name, text, faults)
    return Schema(
        title=" ".join(table.title.split()),
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
            name = printable(table.name, 40) or kind
            found = [
                ((*path, key), f"{name}{key and ', '}{key}: {line}") for key, line in find_faults(table, kind, marks)
            ]
            faults += found
            columns += [] if found else [_column(table, kind, marks)]
    return columns


def _column(table: ColumnTable, kind: str, marks: list[float]) -> Column:
    """The column of a checked table; the order of its codes and marks does not depend on the file's."""
    low, high = table.range or (float("-inf"), float("inf"))
    edges = table.subgroups if isinstance(table.subgroups, list) else []
    return Column(
        name=table.name,
        meaning=" ".join(table.meaning.split()),
        kind=table.kind,
        unit=table.unit,
        codes=codes_of(table),
        minimum=low,
        maximum=high,
        missing_marks=tuple(
            sorted({float(each) for each in (marks if table.missing_marks is None else table.missing_marks)})
        ),
        can_be_missing=kind == "column" and table.can_be_missing is not False,
        reference_mean=table.reference_mean,
        reference_std=table.reference_deviation,
        other_names=tuple(map(plain_name, table.other_names)),
        words={plain_words(word): code for word, code in table.words.items()},
        other_units=conversions_of(table),
        subgroups=tuple(edges) if table.subgroups is not False else None,
        positive=tuple(sorted(set(table.positive))),
    )
