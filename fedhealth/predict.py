"""Risks of new patients as a table: what was predicted, what was missing, what the model has hardly seen.

Knows neither files nor flags; the numbers come from `model_file.py`.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedhealth.data import NewPatients
from fedhealth.model_file import SavedModel, predict_risks
from fedhealth.preprocessing import Standardisation
from fedhealth.schema import FEATURE_NAMES, NUMBERS

FAR_STDS = 4.0
"""So many deviations from the training mean, and a value is worth a warning."""
HEADINGS = ("row", "risk", "missing", "unusual")
NOT_A_DEVICE = "research software, not a medical device: no diagnosis or treatment may rest on these risks"


@dataclass(frozen=True)
class Prediction:
    """One patient's risk and what it rests on."""

    row: int
    """The spreadsheet's row; 1 for a patient by flags."""
    risk: float
    missing: tuple[str, ...]
    """Features without a value; the model goes on with the federation's mean or without the category."""
    unusual: tuple[str, ...]
    """Numbers further than `FAR_STDS` deviations from the mean: outside what the model was trained on."""


def predict(model: SavedModel, patients: NewPatients) -> list[Prediction]:
    """One `Prediction` per patient, in their order."""
    risks = predict_risks(model, patients.features).tolist()
    missing = _names_where(np.isnan(patients.features), FEATURE_NAMES)
    numbers = [column.name for column in NUMBERS]
    unusual = _names_where(find_unusual(patients.features, model.standardisation), numbers)
    return [Prediction(*each) for each in zip(patients.rows, risks, missing, unusual, strict=True)]


def find_unusual(features: NDArray[np.float64], training: Standardisation) -> NDArray[np.bool_]:
    """Which numbers (num_patients, 6) lie further than `FAR_STDS` deviations from the mean; a missing one does not.

    Means and deviations are all that the federation knows of its patients: smallest and largest values would be single
    patients' values, and never leave a hospital.
    """
    values = features[:, [FEATURE_NAMES.index(column.name) for column in NUMBERS]]
    distances = np.abs(values - np.asarray(training.means))
    unusual: NDArray[np.bool_] = distances > FAR_STDS * np.asarray(training.stds)
    return unusual


def _names_where(mask: NDArray[np.bool_], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Per row, the names of the true columns; each pattern is spelt out once, for there are few."""
    patterns, which = np.unique(mask, axis=0, return_inverse=True)
    told = [tuple(name for name, true in zip(names, pattern, strict=True) if true) for pattern in patterns]
    return [told[place] for place in which.ravel()]


def describe_training(model: SavedModel) -> str:
    """Whose means the warning about unusual values is measured by."""
    if model.about["settings"]["scaling"] == "reference":
        return "fixed clinical constants (--scaling reference), not this federation's patients"
    return "the federation's training patients"


def find_notes(model: SavedModel, predictions: Sequence[Prediction]) -> list[str]:
    """What the reader of these risks should know, a line each."""
    notes = []
    total = len(predictions)
    if "synthetic" in str(model.about["dataset"]):
        notes.append("the model was trained on SYNTHETIC patients: its risks say nothing about real people")
    if incomplete := [each.missing for each in predictions if each.missing]:
        notes.append(f"values are missing{_of_whom(incomplete, total, 'missing')}")
    if strange := [each.unusual for each in predictions if each.unusual]:
        notes.append(
            f"numbers lie more than {FAR_STDS:g} standard deviations from the mean of {describe_training(model)}"
            f"{_of_whom(strange, total, 'unusual')}: the model guesses there"
        )
    return notes


def _of_whom(found: Sequence[tuple[str, ...]], total: int, column: str) -> str:
    """Which values, of one patient; else how many patients, and where to look."""
    return f": {', '.join(found[0])}" if total == 1 else f" in {len(found)} of {total} patients (column {column})"


def as_csv(predictions: Sequence[Prediction]) -> str:
    """A line per patient; names within a cell are separated by blanks."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(HEADINGS)
    writer.writerows(
        (each.row, f"{each.risk:.6f}", " ".join(each.missing), " ".join(each.unusual)) for each in predictions
    )
    return content.getvalue()


def as_json(model: SavedModel, predictions: Sequence[Prediction]) -> str:
    """The same, with what the model is."""
    about: dict[str, Any] = {
        "dataset": model.about["dataset"],
        "version": model.about["version"],
        "model": model.about["settings"]["model"],
        "unusual": f"more than {FAR_STDS:g} standard deviations from the mean of {describe_training(model)}",
        "use": NOT_A_DEVICE,
    }
    patients = [
        {"row": each.row, "risk": round(each.risk, 6), "missing": each.missing, "unusual": each.unusual}
        for each in predictions
    ]
    return json.dumps({"model": about, "patients": patients}, indent=2) + "\n"
