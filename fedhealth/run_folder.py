"""What a run leaves on disk: settings.json, history.jsonl (a line per round), model.npz, evaluation.json and summary.json.

Every file appears whole or not at all; the history grows by whole lines.
"""

import contextlib
import io
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fedhealth import __version__
from fedhealth.errors import RunError, UsageError
from fedhealth.files import write_file
from fedhealth.metrics import NUM_BINS, Metrics, ScoreHistogram, histogram_to_record
from fedhealth.preprocessing import encoded_names
from fedhealth.rounds import RoundRecord
from fedhealth.schema import schema_fingerprint
from fedhealth.server_app import Began, Event, Finished

SUMMARY_METRICS = ("auroc", "accuracy", "brier", "loss", "sensitivity", "specificity", "auroc_bound", "ece")


@contextlib.contextmanager
def opened_run_folder(out: Path | None) -> Iterator[Path]:
    """The run folder while the block runs; a run that wrote nothing leaves none behind."""
    folder = make_run_folder(out)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # not empty: that is the good case
            folder.rmdir()


def make_run_folder(out: Path | None) -> Path:
    """Create the run folder (default `runs/<time>`), empty and writable, or say why not before anybody waits."""
    folder = out or _unused(Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot write there ({error.strerror}); give another folder") from None
    if (folder / "summary.json").exists() or (folder / "history.jsonl").exists():
        raise UsageError(f"--out {folder}: already holds a run; give another folder")
    return folder


def _unused(folder: Path) -> Path:
    """The folder, with a number behind it if two runs start in one second."""
    names = (folder, *(folder.with_name(f"{folder.name}_{i}") for i in range(2, 1000)))
    return next(name for name in names if not name.exists())


def keep_event(folder: Path, event: Event) -> None:
    """Write what an event leaves behind."""
    match event:
        case Began():
            write_json(folder / "settings.json", {**settings_json(event), "environment": environment_json()})
        case RoundRecord():
            append_line(folder / "history.jsonl", history_json(event))
        case Finished():
            write_model(folder / "model.npz", event)
            if histograms := event.rounds[-1].histograms:
                write_json(folder / "evaluation.json", evaluation_json(histograms))
            write_json(folder / "summary.json", summary_json(event))
        case _:
            pass


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
    }


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
        "round_seconds": [record.seconds for record in finished.rounds],
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


def append_line(path: Path, content: dict[str, Any]) -> None:
    """One line of strict JSON at the end of the file."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(content)) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def _finite(value: Any) -> Any:
    """NaN and infinities as null: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
