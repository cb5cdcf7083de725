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
from fedhealth.events import Began, Finished, RoundRecord
from fedhealth.files import write_file
from fedhealth.metrics import NUM_BINS, Metrics, ScoreHistogram, histogram_to_record
from fedhealth.preprocessing import encoded_names
from fedhealth.schema import schema_fingerprint
from fedhealth.verdict import Verdict

SUMMARY_METRICS = ("auroc", "accuracy", "brier", "loss", "sensitivity", "specificity", "auroc_bound", "ece")


def settings_json(began: Began) -> dict[str, Any]:
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
    )


def summary_json(finished: Finished) -> dict[str, Any]:
    """The run in one page: the metrics of the last round, union and per hospital."""
    last = finished.rounds[-1]
    patients = {member.name: member.patients for member in finished.members}
    return {
        "dataset": finished.dataset,
        "rounds": len(finished.rounds),
        "seconds": finished.seconds,
        "metrics": _summary_metrics(last.union),
        "hospitals": {
            name: {**_summary_metrics(metrics), "patients": patients[name]} for name, metrics in last.hospitals.items()
        },
        "left_out": dict(last.left_out),
        **({"importance": asdict(finished.importance)} if finished.importance else {}),
        **({"verdicts": verdicts_json(finished.verdicts)} if finished.verdicts else {}),
        "round_seconds": [record.seconds for record in finished.rounds],
    }


def verdicts_json(verdicts: Mapping[str, Mapping[str, Verdict]]) -> dict[str, Any]:
    """By hospital and model."""
    return {
        name: {model: {**asdict(verdict), "words": verdict.words} for model, verdict in each.items()}
        for name, each in verdicts.items()
    }


def _summary_metrics(metrics: Metrics) -> dict[str, float | None]:
    return {key: getattr(metrics, key) for key in SUMMARY_METRICS}


def write_model(path: Path, finished: Finished) -> None:
    """The final weights with all that is needed to use them; read with `numpy.load(path)`, no pickle inside.

    Arrays: one per weight (`weights/<name>`), `means` and `stds` of the numbers (absent with local scaling), `inputs`
    (names of the encoded features), and `about` (JSON: settings, dataset, schema).
    """
    arrays = {f"weights/{name}": array.numpy() for name, array in finished.weights.items()}
    if finished.standardisation:
        arrays["means"] = np.asarray(finished.standardisation.means)
        arrays["stds"] = np.asarray(finished.standardisation.stds)
    arrays["inputs"] = np.asarray(encoded_names(finished.settings.missing_indicators))
    about = settings_json(Began(finished.settings, finished.members, finished.dataset))
    arrays["about"] = np.asarray(json.dumps(about))
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options
    write_file(path, content.getvalue())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Strict JSON (no NaN), readable."""
    write_file(path, (json.dumps(_finite(content), indent=2) + "\n").encode())


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
