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

from fedhealth.common.errors import UsageError
from fedhealth.common.risk import log_odds
from fedhealth.data.new_patients import NewPatients
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import FEATURE_NAMES, NUMBERS
from fedhealth.models.recalibration import fit_prevalence
from fedhealth.models.saved_model import SavedModel, predict_risks

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


@dataclass(frozen=True)
class Prevalence:
    """How many of the patients are ill: of those the model learnt from, and here (estimated)."""

    trained: float
    here: float


def predict(model: SavedModel, patients: NewPatients, prevalence: Prevalence | None = None) -> list[Prediction]:
    """One `Prediction` per patient, in their order; for another `prevalence` than the model's, if one is given."""
    known = predict_risks(model, patients.features)
    risks = (known if prevalence is None else move_risks(known, prevalence)).tolist()
    missing = _names_where(np.isnan(patients.features), FEATURE_NAMES)
    numbers = [column.name for column in NUMBERS]
    unusual = _names_where(find_unusual(patients.features, model.standardisation), numbers)
    return [Prediction(*each) for each in zip(patients.rows, risks, missing, unusual, strict=True)]


def find_prevalence(model: SavedModel, patients: NewPatients) -> Prevalence:
    """How many of these patients are ill, estimated from their features alone (`recalibration.fit_prevalence`).

    Raises
    ------
    UsageError
        It is not known how many ill patients the model learnt from.
    """
    trained = model.about.get("prevalence")
    if not isinstance(trained, float) or not 0 < trained < 1:
        raise UsageError("--adapt-prevalence: the model does not say how many of its patients were ill; leave it out")
    here, _ = fit_prevalence(log_odds(predict_risks(model, patients.features)), trained)
    return Prevalence(trained, here)


def move_risks(risks: NDArray[np.float32], prevalence: Prevalence) -> NDArray[np.float64]:
    """Risks of a model that learnt at one prevalence, for patients with another (Elkan 2001, theorem 2)."""
    here, trained = prevalence.here, prevalence.trained
    odds = log_odds(risks) + np.log(here / (1 - here)) - np.log(trained / (1 - trained))
    moved: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return moved


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


def prevalence_note(prevalence: Prevalence, patients: int) -> str:
    """What was done to the risks, and when that is right."""
    return (
        f"risks are those for a hospital where {prevalence.here:.0%} are ill, as is estimated of these {patients} patients "
        f"from their features alone (the model learnt where {prevalence.trained:.0%} were); right if illness looks the same "
        "here"
    )


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
