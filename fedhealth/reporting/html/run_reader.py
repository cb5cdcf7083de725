"""The files of a run folder -> one record, checked as far as the page needs them.

Only what `run_folder.py` wrote is read: a report can be made anew years later, without the hospitals.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedhealth.common.errors import UsageError
from fedhealth.data.schema import FEATURE_NAMES
from fedhealth.metrics.histogram import NUM_BINS, ScoreHistogram, add_histograms, histogram_from_record
from fedhealth.metrics.subgroups import Subgroups, subgroups_from_json

ROUND_KEYS = {"round", "seconds", "union", "hospitals", "left_out"}


@dataclass(frozen=True, eq=False)
class RunFiles:
    """What a run left, or what is known of one that still runs."""

    name: str
    settings: Mapping[str, Any]
    """settings.json: version, dataset, hospitals, settings, environment."""
    history: Sequence[Mapping[str, Any]]
    """history.jsonl: one entry per round."""
    summary: Mapping[str, Any]
    """summary.json; empty while the run is on."""
    histograms: Mapping[str, ScoreHistogram]
    """evaluation.json by hospital; empty if there is none."""
    num_weights: int = 0
    subgroups: Subgroups | None = None
    """By sex and age band, if it was asked for."""

    @property
    def union(self) -> ScoreHistogram | None:
        """All tested patients together."""
        return add_histograms(self.histograms.values()) if self.histograms else None

    @property
    def final(self) -> Mapping[str, Any]:
        """The evaluation of the final model: the last round's entry, unless another model was chosen."""
        chosen: Mapping[str, Any] = self.summary.get("choices") or {"evaluation": self.history[-1]}
        found: Mapping[str, Any] = chosen["evaluation"]
        return found

    @property
    def synthetic(self) -> bool:
        """Whether any patient is invented."""
        return "synthetic" in str(self.settings["dataset"])


def read_run(folder: Path) -> RunFiles:
    """Read a run folder; one that is none, or is damaged, is a `UsageError`."""
    if not (folder / "settings.json").is_file() or not (folder / "history.jsonl").is_file():
        raise UsageError(f"{folder}: holds no run with at least one round; give a folder of runs/")
    try:
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        settings, history = _read_json(folder / "settings.json"), [json.loads(line) for line in lines]
        check = (settings["settings"]["rounds"], settings["dataset"], settings["hospitals"][0]["name"])
        if not all(check) or not history or not all(set(entry) >= ROUND_KEYS for entry in history):
            raise ValueError("an entry is missing")
        summary = _read_json(folder / "summary.json") if (folder / "summary.json").is_file() else {}
        _check_importance(summary)
        _check_comparisons(summary)
        return RunFiles(
            name=folder.resolve().name,
            settings=settings,
            history=history,
            summary=summary,
            histograms=_read_histograms(folder / "evaluation.json"),
            num_weights=_count_weights(folder / "model.npz"),
            subgroups=subgroups_from_json(summary["subgroups"]) if "subgroups" in summary else None,
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        EOFError,
        OSError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UsageError(f"{folder}: the run's files make no sense ({problem}); give another run folder") from None


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} is no JSON object")
    return content


def _check_importance(summary: Mapping[str, Any]) -> None:
    """Drops are numbers by feature, if they are there at all."""
    told = summary.get("importance")
    for drops in () if told is None else (told["together"], *told["hospitals"].values()):
        if not set(drops) <= set(FEATURE_NAMES) or not all(type(drop) is float for drop in drops.values()):
            raise ValueError("importance is no number by feature")


def _check_comparisons(summary: Mapping[str, Any]) -> None:
    """A verdict has a model, a metric and five numbers."""
    for each in summary.get("verdicts", {}).values():
        for model, told in each.items():
            known = model in ("global", "personal") and told["metric"] in ("auroc", "brier")
            if not known or not all(
                type(told[key]) is float for key in ("value", "alone", "difference", "low", "high")
            ):
                raise ValueError("a verdict makes no sense")
            str(told["words"])


def _read_histograms(path: Path) -> dict[str, ScoreHistogram]:
    """By hospital; none where an older version wrote no such file, or bins of another width."""
    if not path.is_file():
        return {}
    content = _read_json(path)
    if content["bins"] != NUM_BINS:
        return {}
    return {name: histogram_from_record(record) for name, record in content["hospitals"].items()}


def _count_weights(path: Path) -> int:
    """How many numbers the model has."""
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as file:
        return sum(file[name].size for name in file.files if name.startswith("weights/"))
