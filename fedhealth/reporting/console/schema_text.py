"""What a schema and a hospital's table hold, as lines; counts of few patients are not shown."""

import numpy as np

from fedhealth.common.text_table import format_table
from fedhealth.data.hospital import Hospital
from fedhealth.data.schema import Column, Schema


def schema_line(schema: Schema) -> str:
    """The outcome, the number of columns, and the fingerprint that all hospitals must have."""
    outcome = schema.outcome
    positive = " or ".join(f"{code} ({outcome.codes[code]})" for code in outcome.positive)
    return (
        f"{schema.title}: {len(schema.features)} columns; {outcome.name} = {positive}; fingerprint {schema.fingerprint}"
    )


def hospital_line(hospital: Hospital, least: int) -> str:
    """The number of patients, and of those who have the outcome."""
    total, ill = len(hospital.patients), int(hospital.patients.labels.sum())
    return f"{hospital.name}: {total} patients, with the outcome {count_text(ill, total, least)}"


def count_text(count: int, total: int, least: int) -> str:
    """A count of some of the patients; not exact if fewer than `least` are counted, or are not."""
    if 0 < count < least:
        return f"fewer than {least}"
    return f"more than {total - least}" if 0 < total - count < least else str(count)


def column_table(hospital: Hospital, least: int, terminal: bool) -> str:
    """A line for each feature: its values, and how many patients lack it."""
    missing = np.isnan(hospital.patients.features).sum(axis=0).tolist()
    total = len(hospital.patients)
    lines = [
        (column.name, describe_values(column), count_text(count, total, least))
        for column, count in zip(hospital.schema.features, missing, strict=True)
    ]
    return format_table(("column", "values", "missing"), lines, text_columns=2, terminal=terminal)


def describe_values(column: Column) -> str:
    """Its range or its codes."""
    if column.codes:
        return ", ".join(f"{code} {word}" for code, word in column.codes.items())
    return f"{column.minimum:g} to {column.maximum:g} {column.unit}".rstrip()
