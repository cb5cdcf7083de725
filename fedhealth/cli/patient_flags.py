"""The flags that describe one patient to `python -m fedhealth predict`: one for each feature of the model's schema."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fedhealth.common.errors import FedHealthError
from fedhealth.config.results import PredictSettings
from fedhealth.data.new_patients import flag_names
from fedhealth.data.schema import Column, Schema
from fedhealth.data.schema_file import heart_disease

MOST_WORDS = 6
"""Codes of a category whose words the help text lists."""


def predict_settings(schema: Schema) -> type[PredictSettings]:
    """`PredictSettings` with a flag for each feature."""
    import tyro

    fields: list[tuple[str, Any, Any]] = []
    for place, (name, flag) in enumerate(flag_names(schema).items()):
        shown = tyro.conf.arg(name=flag, help=describe(schema.columns[name]))
        fields.append((f"feature_{place}", Annotated[str | None, shown], dataclasses.field(default=None)))

    def patient(self: PredictSettings) -> dict[str, str]:
        given = {name: getattr(self, f"feature_{place}") for place, name in enumerate(schema.feature_names)}
        return {name: text for name, text in given.items() if text is not None}

    members = {"__doc__": PredictSettings.__doc__, "__module__": __name__, "patient": patient}
    return dataclasses.make_dataclass(
        "PredictSettings", fields, bases=(PredictSettings,), frozen=True, namespace=members
    )


def describe(column: Column) -> str:
    """The help text of a feature's flag."""
    if column.codes and len(column.codes) <= MOST_WORDS and not column.is_number:
        *others, last = (f'"{word}"' if " " in word else word for word in column.codes.values())
        return f"{column.meaning}: {', '.join(others)} or {last}."
    return f"{column.meaning}, {column.unit}." if column.unit else f"{column.meaning}."


def find_schema(argv: Sequence[str]) -> Schema:
    """The schema of the run that a command line names; heart disease if it names none (the run is checked later)."""
    from fedhealth.models.saved_model import find_model, read_schema

    for word in argv:
        if not word.startswith("-") and Path(word).exists():
            with contextlib.suppress(FedHealthError):  # another file, such as the value of --out
                return read_schema(find_model(Path(word)))
    return heart_disease()
