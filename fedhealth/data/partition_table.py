"""How the hospitals differ, in numbers: a text table for the console with one line per hospital file."""

from collections.abc import Sequence

import pandas as pd

from fedhealth.common.text_table import format_table
from fedhealth.data.dataset_writer import client_file
from fedhealth.data.schema import Schema
from fedhealth.data.validation import labels_of

MIXED = "mixed"
"""Stands for a hospital whose patients come from several."""


def hospital_table(schema: Schema, hospitals: Sequence[pd.DataFrame], *, terminal: bool) -> str:
    """Table of the hospitals."""
    lines = [hospital_line(schema, client_file(i), patients) for i, patients in enumerate(hospitals, start=1)]
    return format_table(list(lines[0]), [tuple(line.values()) for line in lines], text_columns=2, terminal=terminal)


def hospital_line(schema: Schema, file: str, patients: pd.DataFrame) -> dict[str, str]:
    """Heading -> one hospital's cell; age and sex if the schema has them."""
    line = {
        "file": file,
        "hospital": hospital_name(schema, patients),
        "patients": str(len(patients)),
        "ill %": f"{100 * labels_of(schema, patients).mean():.1f}",
    }
    if "age" in schema.places:
        line["median age"] = f"{patients['age'].median():.0f}"
    if "sex" in schema.places and (men := schema.columns["sex"].code_of_word.get("male")) is not None:
        line["men %"] = f"{100 * (patients['sex'] == men).mean():.1f}"
    line["missing %"] = f"{100 * patients[list(schema.feature_names)].isna().to_numpy().mean():.1f}"
    return line


def hospital_name(schema: Schema, patients: pd.DataFrame) -> str:
    """The hospital that the patients come from, or `MIXED`."""
    names = patients[schema.hospital].unique()
    return str(names[0]) if len(names) == 1 else MIXED
