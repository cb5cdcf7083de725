"""The names that other layouts give to the schema's columns, and what a header says about its file.

Names only: what the codes and the outcome mean is in `code_schemes.py` and `label_codes.py`.
"""

import re

from fedhealth.data.schema import Schema, plain_name

OMOP_EVENTS = frozenset(
    f"{event}conceptid" for event in ("measurement", "observation", "condition", "drug", "procedure", "device")
)
"""Plain names of columns of OMOP's tables of events (OMOP Common Data Model 5.4)."""
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)


def fewest_known(schema: Schema) -> int:
    """How many features a header must have; with fewer it belongs to another data set."""
    return len(schema.features) // 2 + 1


def own_column(schema: Schema, text: str) -> str:
    """The schema's column of this name, whatever its capital letters; empty if it is none."""
    return schema.own_names.get(text.lower(), "")


def any_column(schema: Schema, text: str) -> str:
    """The schema's column that has this name there or in another layout; empty if it has none."""
    return schema.column_of.get(plain_name(text), "")


def count_known(schema: Schema, header: list[str]) -> int:
    """How many fields of a header are columns of the schema under any name."""
    return sum(bool(any_column(schema, name)) for name in header)


def looks_like_values(fields: list[str]) -> bool:
    """Whether a row holds values rather than columns' names: at least half of its filled cells are numbers or `?`."""
    filled = [text.strip() for text in fields if text.strip()]
    return bool(filled) and 2 * sum(text == "?" or bool(NUMBER.fullmatch(text)) for text in filled) >= len(filled)


def find_columns(schema: Schema, header: list[str]) -> dict[str, int]:
    """Column -> its position in a header of any layout; where several names fit, the schema's own name wins."""
    found: dict[str, int] = {}
    for position, text in enumerate(header):
        name = any_column(schema, text)
        if name and (name not in found or own_column(schema, text)):
            found[name] = position
    return found


def name_outcome(schema: Schema) -> str:
    """The outcome's column, and the others that can hold it instead."""
    others = [name for name in schema.outcome_names if name != schema.outcome.name]
    return f"{schema.outcome.name} (or {' or '.join(others)})" if others else schema.outcome.name


def describe_missing(schema: Schema, missing: list[str]) -> str:
    """What to do about columns that are not there; a name alone would move the cells of the columns behind it."""
    known = [column.name for column in schema.features if not column.can_be_missing]
    needed = ", ".join([*known, "the diagnosis"])
    return f"missing columns: {', '.join(missing)}; add each with its values ({needed}: these must be known of every patient)"


def describe_missing_header(schema: Schema, fields: list[str], blanks: bool = False) -> str:
    """What to do about a file that starts with values; prints none of them."""
    names = ",".join([*schema.feature_names, schema.outcomes[0].name])
    is_known = len(fields) == len(schema.features) + 1
    separated = " and is separated by blanks; write commas instead of the blanks, and then" if blanks else ";"
    if is_known:
        return f"has no header line{separated} add this first line if the columns are in the schema's order: {names}"
    return f"has no header line{separated} add a first line with the names of its {len(fields)} columns"


def describe_long_form(header: list[str]) -> str:
    """What to do about a table of OMOP's, whose rows are events of a patient; empty for any other header."""
    names = {plain_name(text) for text in header}
    if "personid" not in names or names.isdisjoint(OMOP_EVENTS):
        return ""
    return (
        "is an OMOP table with a row for each event; give a table with a row for each patient and a column for each "
        "measurement, in one unit"
    )


def describe_foreign_header(schema: Schema, header: list[str]) -> str:
    """That a header is another data set's; names only columns of the schema."""
    if long_form := describe_long_form(header):
        return long_form
    ours = [name for name in schema.feature_names if name in find_columns(schema, header)]
    only = f"only {', '.join(ours)}" if ours else "none"
    return (
        f"of our {len(schema.features)} measurements it has {only}: another data set, or names that docs/own-files.md "
        "does not list; a table of other columns needs another --schema"
    )
