"""How the hospitals differ, in numbers: a text table for the console with one line per hospital file."""

from collections.abc import Sequence

import pandas as pd

from fedhealth.common.text_table import format_table
from fedhealth.data import schema
from fedhealth.data.dataset_writer import client_file

HEADINGS = ("file", "hospital", "patients", "ill %", "median age", "men %", "missing %")
MIXED = "mixed"
"""Stands for a hospital whose patients come from several."""


def hospital_table(hospitals: Sequence[pd.DataFrame], *, terminal: bool) -> str:
    """Table of the hospitals."""
    lines = [hospital_line(client_file(i), patients) for i, patients in enumerate(hospitals, start=1)]
    return format_table(HEADINGS, lines, text_columns=2, terminal=terminal)


def hospital_line(file: str, patients: pd.DataFrame) -> tuple[str, ...]:
    """One hospital's cells, in the order of `HEADINGS`."""
    return (
        file,
        hospital_name(patients),
        str(len(patients)),
        f"{100 * patients[schema.TARGET].mean():.1f}",
        f"{patients['age'].median():.0f}",
        f"{100 * patients['sex'].mean():.1f}",
        f"{100 * patients[list(schema.FEATURE_NAMES)].isna().to_numpy().mean():.1f}",
    )


def hospital_name(patients: pd.DataFrame) -> str:
    """The hospital that the patients come from, or `MIXED`."""
    names = patients[schema.HOSPITAL].unique()
    return str(names[0]) if len(names) == 1 else MIXED
