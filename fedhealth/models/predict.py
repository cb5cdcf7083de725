"""Risks of new patients as a table: predicted risk, whether that is positive, missing features, unusual values.

The risks are computed by `saved_model.py`.
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
from fedhealth.data.schema import Schema
from fedhealth.models.recalibration import fit_prevalence
from fedhealth.models.saved_model import SavedModel, predict_risks

FAR_STDS = 4.0
"""Values further from the training mean than this many standard deviations are reported as unusual."""
HEADINGS = ("row", "risk", "predicted_positive", "missing", "unusual")
NOT_A_DEVICE = "research software, not a medical device: no diagnosis or treatment may rest on these risks"


@dataclass(frozen=True)
class Prediction:
    """One patient's risk, and which of their values are missing or unusual."""

    row: int
    """The spreadsheet's row; 1 for a patient given by flags."""
    risk: float
    positive: bool
    """Whether the risk is at least the model's threshold."""
    missing: tuple[str, ...]
    """Features without a value: a number is replaced by the training mean, a category gets no indicator."""
    unusual: tuple[str, ...]
    """Numbers further than `FAR_STDS` standard deviations from the training mean."""
    patient_id: str | None = None
    """The cell of the ID column, if there is one."""


@dataclass(frozen=True)
class Prevalence:
    """Share of ill patients: in the data that the model was trained on, and here (estimated)."""

    trained: float
    here: float


def predict(model: SavedModel, patients: NewPatients, prevalence: Prevalence | None = None) -> list[Prediction]:
    """One `Prediction` per patient, in order; risks are adapted to `prevalence` if it is given."""
    known = predict_risks(model, patients.features)
    risks = known if prevalence is None else move_risks(known, prevalence)
    positive = risks >= model.threshold
    missing = _names_where(np.isnan(patients.features), model.schema.feature_names)
    numbers = [column.name for column in model.schema.numbers]
    unusual = _names_where(find_unusual(model.schema, patients.features, model.standardisation), numbers)
    ids = patients.ids or [None] * len(patients.rows)
    columns = (patients.rows, risks.tolist(), positive.tolist(), missing, unusual, ids)
    return [Prediction(*each) for each in zip(*columns, strict=True)]


def find_prevalence(model: SavedModel, patients: NewPatients) -> Prevalence:
    """The prevalence among these patients, estimated without labels (`recalibration.fit_prevalence`).

    Raises
    ------
    UsageError
        The model file does not contain the training prevalence.
    """
    trained = model.about.get("prevalence")
    if not isinstance(trained, float) or not 0 < trained < 1:
        raise UsageError("--adapt-prevalence: the model file has no training prevalence; leave the flag out")
    here, _ = fit_prevalence(log_odds(predict_risks(model, patients.features)), trained)
    return Prevalence(trained, here)


def move_risks(risks: NDArray[np.float32], prevalence: Prevalence) -> NDArray[np.float64]:
    """Risks of a model trained at one prevalence, adapted to another (Elkan 2001, theorem 2)."""
    here, trained = prevalence.here, prevalence.trained
    odds = log_odds(risks) + np.log(here / (1 - here)) - np.log(trained / (1 - trained))
    moved: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return moved


def find_unusual(schema: Schema, features: NDArray[np.float64], training: Standardisation) -> NDArray[np.bool_]:
    """Whether each number (num_patients, num_numbers) is further than `FAR_STDS` standard deviations from the mean.

    False if it is missing.

    Only means and standard deviations are available: minima and maxima would be single patients' values, which
    hospitals do not send.
    """
    values = features[:, schema.number_places]
    distances = np.abs(values - np.asarray(training.means))
    unusual: NDArray[np.bool_] = distances > FAR_STDS * np.asarray(training.stds)
    return unusual


def _names_where(mask: NDArray[np.bool_], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Per row, the names of the true columns; names are joined once per distinct pattern, of which there are few."""
    patterns, which = np.unique(mask, axis=0, return_inverse=True)
    named = [tuple(name for name, true in zip(names, pattern, strict=True) if true) for pattern in patterns]
    return [named[index] for index in which.ravel()]


def describe_training(model: SavedModel) -> str:
    """Whose mean and standard deviation the warning about unusual values uses."""
    if model.about["settings"]["scaling"] == "reference":
        return "fixed clinical constants (--scaling reference), not this federation's patients"
    return "the federation's training patients"


def is_synthetic(model: SavedModel) -> bool:
    """Whether any of the patients that the model was trained on was invented."""
    return "synthetic" in str(model.about["dataset"])


def find_notes(model: SavedModel, predictions: Sequence[Prediction]) -> list[str]:
    """Warnings about these risks, one line each."""
    notes = []
    total = len(predictions)
    if is_synthetic(model):
        notes.append("the model was trained on SYNTHETIC patients: its risks say nothing about real people")
    if incomplete := [each.missing for each in predictions if each.missing]:
        notes.append(f"values are missing{_of_whom(incomplete, total, 'missing')}")
    if strange := [each.unusual for each in predictions if each.unusual]:
        notes.append(
            f"numbers lie more than {FAR_STDS:g} standard deviations from the mean of {describe_training(model)}"
            f"{_of_whom(strange, total, 'unusual')}: predictions there are extrapolation"
        )
    return notes


def _of_whom(found: Sequence[tuple[str, ...]], total: int, column: str) -> str:
    """The affected values of a single patient; for several patients, how many and in which column."""
    return f": {', '.join(found[0])}" if total == 1 else f" in {len(found)} of {total} patients (column {column})"


def prevalence_note(prevalence: Prevalence, patients: int) -> str:
    """How the risks were adapted, and under which assumption that is valid."""
    return (
        f"risks are adapted to a prevalence of {prevalence.here:.0%}, estimated from the features of these {patients} "
        f"patients (training prevalence {prevalence.trained:.0%}); valid only if ill patients are alike in both places, "
        "and healthy ones too"
    )


def threshold_note(model: SavedModel, adapted: bool) -> str:
    """The columns that were read, and the threshold of `predicted_positive`."""
    before = ", before risks were adapted" if adapted and "threshold" in model.about else ""
    return (
        f"read the columns {', '.join(model.schema.feature_names)}; predicted positive from a risk of {model.threshold:g} on "
        f"({model.threshold_source}{before})"
    )


def as_csv(predictions: Sequence[Prediction], id_column: str | None = None) -> str:
    """CSV with one line per patient, the ID column first; names within a cell are separated by semicolons."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    named = id_column is not None
    writer.writerow([id_column] * named + list(HEADINGS))
    writer.writerows([each.patient_id] * named + _csv_cells(each) for each in predictions)
    return content.getvalue()


def _csv_cells(each: Prediction) -> list[Any]:
    return [each.row, f"{each.risk:.6f}", int(each.positive), ";".join(each.missing), ";".join(each.unusual)]


def as_json(model: SavedModel, predictions: Sequence[Prediction], id_column: str | None = None) -> str:
    """JSON with the model's description and one entry per patient, which begins with the ID column."""
    about: dict[str, Any] = {
        "dataset": model.about["dataset"],
        "version": model.about["version"],
        "model": model.about["settings"]["model"],
        "columns": model.schema.feature_names,
        "threshold": model.threshold,
        "threshold_source": model.threshold_source,
        "unusual": f"more than {FAR_STDS:g} standard deviations from the mean of {describe_training(model)}",
        "use": NOT_A_DEVICE,
    }
    patients = [
        {
            **({} if id_column is None else {id_column: each.patient_id}),
            "row": each.row,
            "risk": round(each.risk, 6),
            "predicted_positive": each.positive,
            "missing": each.missing,
            "unusual": each.unusual,
        }
        for each in predictions
    ]
    return json.dumps({"model": about, "patients": patients}, indent=2) + "\n"
