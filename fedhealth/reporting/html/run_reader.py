"""Read the files of a run folder into one record; a report needs nothing else."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from msgspec import structs

from fedhealth.common.errors import UsageError
from fedhealth.config.federation import usual_rate
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.metrics.histogram import ScoreHistogram
from fedhealth.metrics.many_histograms import in_columns
from fedhealth.metrics.many_rows import VERY_MANY
from fedhealth.server.events import RunFinished
from fedhealth.server.records import RoundRecord, RunDescription, RunSummary, name_each, pool
from fedhealth.server.run_files import EVALUATION, HISTORY, MODEL, SCHEMA, SETTINGS, SUMMARY, EvaluationFile, read_json


class _Summary(RunSummary, frozen=True, kw_only=True, omit_defaults=True):
    """summary.json without the rows of the hospitals, which no page has: those of a million take 2 GB of memory."""

    hospitals: msgspec.Raw  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The record of a run, finished or in progress."""

    name: str
    settings: RunDescription
    schema: Schema
    history: Sequence[RoundRecord]
    summary: RunSummary | RunFinished | None
    """Results of the final model; None before the run has ended."""
    histograms: Mapping[str, ScoreHistogram]
    """Hospital -> histogram of the final model's risks; empty if nobody evaluated it."""
    num_weights: int = 0

    @cached_property
    def pooled(self) -> ScoreHistogram | None:
        """The summed histogram of all hospitals; None without histograms."""
        return pool(self.histograms) if self.histograms else None

    @property
    def final(self) -> RoundRecord:
        """The evaluation of the final model: the last round's, unless another model was selected."""
        selection = self.summary.choices if self.summary else None
        return selection.evaluation if selection else self.history[-1]

    @property
    def are_sums(self) -> bool:
        """Whether only sums over all hospitals are known: a run with secure aggregation."""
        return bool(self.settings.roster)

    @cached_property
    def names(self) -> list[str]:
        """The hospitals, in the order of the run."""
        return list(self.settings.roster) or [member.name for member in self.settings.hospitals]

    @property
    def disclosed_names(self) -> list[str]:
        """The hospitals whose own figures are known."""
        return [] if self.are_sums else self.names

    @property
    def is_very_many(self) -> bool:
        """Whether a page has quantiles over the hospitals instead of a row and a line for each."""
        return len(self.disclosed_names) > VERY_MANY

    def left_out(self, entry: RoundRecord) -> dict[str, str]:
        """Hospital -> why a round was without its weights."""
        return name_each(entry.left_out, self.settings.roster)

    @property
    def settings_in_use(self) -> dict[str, bool | int | float | str]:
        """The run config, with the learning rate that the hospitals used instead of 0."""
        given = self.settings.settings
        return {**given, "learning-rate": given.get("learning-rate") or usual_rate(str(given.get("strategy")))}

    @property
    def synthetic(self) -> bool:
        """Whether any hospital's patients are synthetic."""
        return "synthetic" in self.settings.dataset


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises
    ------
    UsageError
        The folder holds no run, or its files are damaged.
    """
    if not (folder / SETTINGS).is_file() or not (folder / HISTORY).is_file():
        raise UsageError(f"{folder}: this folder has no run with at least one round; give a folder of runs/")
    try:
        settings, history = read_json(folder / SETTINGS, RunDescription), _read_history(folder / HISTORY)
        if not (settings.settings["rounds"] and settings.dataset and settings.hospitals and history):
            raise ValueError("an entry is missing")
        schema = load_schema(folder / SCHEMA if (folder / SCHEMA).is_file() else None)
        summary = read_json(folder / SUMMARY, _Summary) if (folder / SUMMARY).is_file() else None
        _check_importance(schema, summary)
        return RunRecord(
            name=folder.resolve().name,
            settings=settings,
            schema=schema,
            history=history,
            summary=summary,
            histograms=_read_histograms(folder / EVALUATION),
            num_weights=_count_weights(folder / MODEL),
        )
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UsageError(f"{folder}: the run's files are damaged ({problem}); give another run folder") from None


def _check_importance(schema: Schema, summary: RunSummary | None) -> None:
    """Raise a `ValueError` for the importance of an unknown feature."""
    importance = summary.importance if summary else None
    if importance and not {*importance.together}.union(*importance.hospitals.values()) <= {*schema.places}:
        raise ValueError("importance of something that is no feature")


def _read_history(path: Path) -> list[RoundRecord]:
    with path.open("rb") as lines:
        return [_read_round(line) for line in lines]


def _read_round(line: bytes) -> RoundRecord:
    """The record of a line; the metrics of very many hospitals take less memory in columns."""
    record = msgspec.json.decode(line, type=RoundRecord)
    if len(record.hospitals) <= VERY_MANY:
        return record
    return structs.replace(record, hospitals=in_columns(record.hospitals))


def _read_histograms(path: Path) -> Mapping[str, ScoreHistogram]:
    """Hospital -> histogram; empty if nobody evaluated the final model."""
    return read_json(path, EvaluationFile).histograms() if path.is_file() else {}


def _count_weights(path: Path) -> int:
    """Number of weights of the model; 0 without a file."""
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as file:
        return sum(file[name].size for name in file.files if name.startswith("weights/"))
