"""The files of a run folder: settings.json, history.jsonl (a line per round), model.npz, evaluation.json, summary.json.

Strict JSON: what is not a number (an undefined metric) is null.
"""

import io
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fedhealth import __version__
from fedhealth.common.atomic_files import write_file
from fedhealth.data.preprocessing import encoded_names
from fedhealth.data.schema import schema_fingerprint
from fedhealth.metrics.bootstrap import bootstrap_intervals
from fedhealth.metrics.clinical import compute_clinical_metrics, flat_metrics
from fedhealth.metrics.histogram import (
    NUM_BINS,
    Metrics,
    ScoreHistogram,
    add_histograms,
    compute_metrics,
    histogram_to_record,
)
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.subgroups import subgroups_to_json
from fedhealth.server.events import ModelSelection, RoundRecord, RunFinished, RunStarted

SUMMARY_METRICS = ("auroc", "accuracy", "brier", "loss", "sensitivity", "specificity", "auroc_bound", "ece")


def settings_json(began: RunStarted) -> dict[str, Any]:
    """The run's settings, its data and the version that ran it."""
    return {
        "version": __version__,
        "schema": schema_fingerprint(),
        "dataset": began.dataset,
        "hospitals": [asdict(member) for member in began.members],
        "settings": began.settings.to_run_config(),
    }


def environment_json() -> dict[str, str]:
    """When and with what the server ran; the hospitals' programs are their own affair."""
    versions = {name: metadata.version(name) for name in ("flwr", "grpcio", "numpy")}
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"began": time.strftime("%Y-%m-%d %H:%M:%S %z"), "python": python, "system": platform.system(), **versions}


def evaluation_json(histograms: Mapping[str, ScoreHistogram]) -> dict[str, Any]:
    """The final model's histogram of risks by hospital: what every curve of the report is drawn from."""
    return {
        "bins": NUM_BINS,
        "hospitals": {name: histogram_to_record(histogram) for name, histogram in histograms.items()},
    }


def history_json(record: RoundRecord) -> dict[str, Any]:
    """One round: the union's and every hospital's metrics."""
    return {
        "round": record.round_num,
        "seconds": record.seconds,
        "train_loss": record.train_loss,
        "union": asdict(record.union),
        "hospitals": {name: asdict(metrics) for name, metrics in record.hospitals.items()},
        "left_out": dict(record.left_out),
        "left_out_share": record.left_out_share,
        "clipped": dict(record.clipped),
        **({"asked": list(record.asked)} if record.asked else {}),
        **({"validation": asdict(record.validation)} if record.validation else {}),
    }


def round_from_json(content: dict[str, Any]) -> RoundRecord:
    """A round back from its line of the history."""
    loss = content["train_loss"]
    return RoundRecord(
        round_num=content["round"],
        seconds=content["seconds"],
        train_loss=math.nan if loss is None else loss,
        union=Metrics(**content["union"]),
        hospitals={name: Metrics(**metrics) for name, metrics in content["hospitals"].items()},
        left_out=content["left_out"],
        left_out_share=content["left_out_share"],
        clipped=content["clipped"],
        asked=content.get("asked", ()),
        validation=Metrics(**content["validation"]) if "validation" in content else None,
    )


def summary_json(finished: RunFinished) -> dict[str, Any]:
    """The run in one page: the metrics of the final model, union and per hospital, and what was chosen."""
    last = finished.final
    union = add_histograms(last.histograms.values())
    clinical = compute_clinical_metrics(union)
    patients = {member.name: member.patients for member in finished.members}
    return {
        "dataset": finished.dataset,
        "rounds": len(finished.rounds),
        "seconds": finished.seconds,
        "metrics": {**_summary_metrics(last.union), **flat_metrics(clinical)},
        "intervals": bootstrap_intervals(union),
        "decision_curve": [asdict(point) for point in clinical.decision_curve],
        "hospitals": {
            name: {**_summary_metrics(metrics), **_clinical(last, name), "patients": patients[name]}
            for name, metrics in last.hospitals.items()
        },
        "left_out": dict(last.left_out),
        **({"importance": asdict(finished.importance)} if finished.importance else {}),
        **({"verdicts": comparisons_json(finished.verdicts)} if finished.verdicts else {}),
        "round_seconds": [record.seconds for record in finished.rounds],
        **({"subgroups": subgroups_to_json(finished.subgroups)} if finished.subgroups else {}),
        **({"choices": choices_json(finished.choices)} if finished.choices else {}),
    }


def choices_json(choices: ModelSelection) -> dict[str, Any]:
    """How the final model was chosen and corrected, and all of its evaluation."""
    return {
        "best_round": choices.best_round,
        "stopped": choices.stopped,
        "class_weights": choices.class_weights,
        "temperature": choices.temperature,
        "uncalibrated": choices.uncalibrated and _two_metrics(choices.uncalibrated),
        "threshold": choices.threshold,
        "at_threshold": None if choices.threshold is None else _at_threshold(choices.evaluation, choices.threshold),
        "evaluation": history_json(choices.evaluation),
    }


def _at_threshold(record: RoundRecord, threshold: float) -> dict[str, Any]:
    """Of the tested patients, all together and by hospital."""

    def rates(histogram: ScoreHistogram) -> dict[str, float | None]:
        metrics = compute_metrics(histogram, threshold)
        return {key: getattr(metrics, key) for key in ("accuracy", "sensitivity", "specificity")}

    tested = record.histograms
    return {
        "union": rates(add_histograms(tested.values())),
        "hospitals": {name: rates(tested[name]) for name in tested},
    }


def _two_metrics(record: RoundRecord) -> dict[str, Any]:
    """Of the tested patients and of those held out for choices, all together."""
    return {"union": asdict(record.union), "validation": record.validation and asdict(record.validation)}


def comparisons_json(verdicts: Mapping[str, Mapping[str, PairedComparison]]) -> dict[str, Any]:
    """By hospital and model."""
    return {
        name: {model: {**asdict(verdict), "words": verdict.words} for model, verdict in each.items()}
        for name, each in verdicts.items()
    }


def _summary_metrics(metrics: Metrics) -> dict[str, float | None]:
    return {key: getattr(metrics, key) for key in SUMMARY_METRICS}


def _clinical(last: RoundRecord, name: str) -> dict[str, float | None]:
    return flat_metrics(compute_clinical_metrics(last.histograms.get(name, add_histograms([]))))


def write_model(path: Path, finished: RunFinished) -> None:
    """The final weights with all that is needed to use them; read with `numpy.load(path)`, no pickle inside.

    Arrays: one per weight (`weights/<name>`), `means` and `stds` of the numbers (absent with local scaling), `inputs`
    (names of the encoded features), and `about` (JSON: settings, dataset, schema, share of ill patients, and the threshold if
    one was chosen).
    """
    arrays = {f"weights/{name}": array.numpy() for name, array in finished.weights.items()}
    if finished.standardisation:
        arrays["means"] = np.asarray(finished.standardisation.means)
        arrays["stds"] = np.asarray(finished.standardisation.stds)
    arrays["inputs"] = np.asarray(encoded_names(finished.settings.missing_indicators))
    about = settings_json(RunStarted(finished.settings, finished.members, finished.dataset))
    tested = finished.final.union
    about["prevalence"] = tested.num_ill / tested.num_examples if tested.num_examples else None
    if finished.choices and finished.choices.threshold is not None:
        about["threshold"] = finished.choices.threshold
    arrays["about"] = np.asarray(json.dumps(about))
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options
    write_file(path, content.getvalue())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Strict JSON (no NaN), readable."""
    write_file(path, (json.dumps(_finite(content), indent=2) + "\n").encode())


def write_long_json(path: Path, content: dict[str, Any]) -> None:
    """Strict JSON on one line: of 100,000 hospitals, an indented line for every bin took 3.5 GB of memory to write."""
    write_file(path, (strict_json(content) + "\n").encode())


def strict_json(content: dict[str, Any]) -> str:
    """Strict JSON on one line."""
    return json.dumps(_finite(content))


def _finite(value: Any) -> Any:
    """NaN and infinities as null: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
