"""What a run gave: metrics, the model, and a run folder if one is wanted."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedhealth.api.hospitals import to_csv
from fedhealth.common.array_codec import read_array
from fedhealth.common.errors import UsageError
from fedhealth.data.preprocessing import encode, standardise
from fedhealth.models.saved_model import SavedModel, dense_layers, predict_risks
from fedhealth.reporting.console.run_text import round_line
from fedhealth.reporting.format import POOLED
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.server.records import TOGETHER, RoundRecord
from fedhealth.server.run_files import describe_settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fedhealth.client.trainers import Trainer
    from fedhealth.data.schema import Schema
    from fedhealth.metrics.histogram import Metrics

COLUMNS = ("loss", "accuracy", "auroc", "sensitivity", "specificity", "brier")
SIMULATED = "none: simulated in one process"
"""The link that a simulation's record names."""
ROOM_SECONDS = 60.0
"""How long to wait for room on a full disk."""


@dataclass(frozen=True)
class Round:
    """A round that has ended; its text is the console's line."""

    record: RoundRecord = field(repr=False)
    text: str

    def __str__(self) -> str:
        """The console's line."""
        return self.text


class RoundCollector:
    """Listens to a run: calls `on_round` after every round, and keeps how the run started and ended."""

    def __init__(self, on_round: Callable[[Round], object] | None) -> None:
        self._on_round = on_round
        self.started: RunStarted
        self.finished: RunFinished

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case RunStarted():
                self.started = event
            case RunFinished():
                self.finished = event
            case RoundRecord() if self._on_round:
                rounds, hospitals = self.started.settings.rounds, len(self.started.names)
                self._on_round(Round(event, round_line(event, rounds, hospitals)))


@dataclass(frozen=True, eq=False)
class RunModel:
    """The final model of a run."""

    weights: "Mapping[str, NDArray[np.float32]]" = field(repr=False)
    """By name, such as `log_odds/kernel`."""
    _schema: "Schema" = field(repr=False)
    _risks: "Callable[[NDArray[np.float64]], NDArray[np.float32]]" = field(repr=False)

    def predict(self, patients: "pd.DataFrame") -> "NDArray[np.float32]":
        """Risk (num_patients,) from 0 to 1, of patients in the columns of the run's schema.

        Raises
        ------
        DataError
            The table lacks a feature or has values that the schema refuses: one line for each.
        """
        from fedhealth.data.new_patients import read_new_patients

        checked = read_new_patients(to_csv(self._schema, patients, "patients"), Path("patients"), self._schema)
        for line in checked.warnings:
            warnings.warn(line, stacklevel=2)
        return self._risks(checked.features)


class Run:
    """A finished run.

    Attributes
    ----------
    rounds : the record of every round.
    folder : the run folder, if one was written.
    """

    def __init__(
        self,
        started: RunStarted,
        finished: RunFinished,
        *,
        trainer: "Trainer | None" = None,
        folder: Path | None = None,
    ) -> None:
        self._started = started
        self._finished = finished
        self._trainer = trainer
        self.folder = folder
        self.rounds = list(finished.rounds)

    @property
    def metrics(self) -> "pd.DataFrame":
        """Metrics of the final model on the test patients: one row per hospital, and all of them pooled in the last.

        Under secure aggregation only the last row is known.
        """
        import pandas as pd

        final = self._finished.final
        rows = {name: _metric_row(metrics) for name, metrics in final.hospitals.items() if name != TOGETHER}
        return pd.DataFrame.from_dict({**rows, POOLED: _metric_row(final.pooled)}, orient="index")

    @property
    def model(self) -> RunModel:
        """The final model.

        Raises
        ------
        UsageError
            Each hospital standardised with its own means (scaling="local"): no model is fit for other patients.
        """
        finished, schema = self._finished, self._finished.schema
        weights = {name: read_array(array) for name, array in finished.weights.items()}
        standardisation, indicators = finished.standardisation, finished.settings.missing_indicators
        if standardisation is None:
            raise UsageError('scaling="local": each hospital has its own means, so no model is fit for other patients')
        if "model" not in finished.objects:
            about = describe_settings(finished).settings
            saved = SavedModel(schema, dense_layers(weights), standardisation, indicators, about)
            return RunModel(weights, schema, lambda features: predict_risks(saved, features))
        trainer = self._trainer
        if trainer is None:
            raise UsageError("the program that built this model has it; here are only its weights")
        ordered = list(weights.values())
        return RunModel(
            weights,
            schema,
            lambda features: trainer.predict(
                ordered, standardise(encode(schema, features, indicators), standardisation)
            ),
        )

    def save(self, folder: str | Path) -> Path:
        """Write a run folder, as `server.py` does: report, model card, model, metrics of every round; returns its path.

        Raises
        ------
        UsageError
            The folder cannot be written to, or holds a run already.
        """
        from fedhealth.reporting.html.pages import write_report
        from fedhealth.server.run_directory import new_run_folder
        from fedhealth.server.run_writer import FolderWriter

        with new_run_folder(Path(folder)) as path:
            writer = FolderWriter(path, 0, ROOM_SECONDS, warnings.warn, SIMULATED)
            writer.run_started(self._started)
            for record in self.rounds:
                writer.round_finished(record)
            writer.run_finished(self._finished)
        write_report(path)
        return path

    def __repr__(self) -> str:
        """Rounds, hospitals and the pooled AUROC."""
        auroc = self._finished.final.pooled.auroc
        shown = "n/a" if auroc is None else f"{auroc:.3f}"
        return f"<Run: {len(self.rounds)} rounds, {len(self._started.names)} hospitals, AUROC {shown}>"


def _metric_row(metrics: "Metrics") -> dict[str, float | None]:
    return {"test patients": metrics.num_examples, **{name: getattr(metrics, name) for name in COLUMNS}}
