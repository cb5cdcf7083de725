"""Write a run's numbers for TensorBoard or MLflow, under their names in history.jsonl.

Tracking must never slow or stop the run: events go into a bounded queue, a separate thread writes them, and the first error
ends the tracking with one warning. Everything is written under the run folder; nothing uses the network.
"""

import contextlib
import importlib.util
import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fedhealth.common.errors import UsageError
from fedhealth.server.events import Event, RunFinished, RunStarted
from fedhealth.server.records import TOGETHER, RoundRecord

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

PACKAGES = {"tensorboard": ("tensorboardX", "tensorboardX"), "mlflow": ("mlflow", "mlflow-skinny")}
"""Kind -> the module to import and the package to install."""
VIEWERS = {"tensorboard": "tensorboard --logdir {}", "mlflow": "mlflow ui --backend-store-uri sqlite:///{}"}
"""Kind -> the command that shows what was written."""
MAX_QUEUED = 1000
"""Events that can wait to be written."""
CLOSING_SECONDS = 30.0
"""How long the end of a run may wait for the last numbers to be written."""
MLFLOW_BATCH = 1000
"""The most metrics that MLflow takes in one call."""


class Sink(Protocol):
    """A writer of the numbers of one run."""

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Start a run, or resume it after round `done`."""
        ...

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        """Write the numbers of one round."""
        ...

    def close(self, finished: bool) -> None:
        """End the run; `finished` is false if it was stopped or failed."""
        ...


class TensorBoardSink:
    """Writes an event file in `folder/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Write the settings as a table; purge the rounds that a resumed run repeats."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(logdir=str(self._folder), flush_secs=5, purge_step=done + 1)
        table = "\n".join(["| setting | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in settings.items())])
        self._writer.add_text("settings", table, global_step=done)

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        """Write one scalar per metric."""
        for name, value in metrics.items():
            if self._writer:
                self._writer.add_scalar(name, value, global_step=round_num)

    def close(self, finished: bool) -> None:
        """Flush and close the file."""
        if self._writer:
            self._writer.close()


class MlflowSink:
    """Writes a run to the SQLite database `folder/mlflow.db` (MLflow deprecates its store of plain files)."""

    def __init__(self, folder: Path) -> None:
        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", GIT_PYTHON_REFRESH="quiet")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        import mlflow.tracking  # takes seconds; done here, while the hospitals join

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._make_client = mlflow.tracking.MlflowClient
        self._folder = folder.resolve()
        self._run = ""

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Create a run, or reopen the one that is resumed after round `done`.

        MLflow cannot remove metrics from a run. If rounds after `done` were written before the interruption, a new run takes
        the metrics up to `done`, and the old run is deleted.
        """
        self._client = self._make_client(tracking_uri=f"sqlite:///{self._folder / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name("fedhealth")
        number = experiment.experiment_id if experiment else None
        artifacts = (self._folder / "mlflow").as_uri()
        number = number or self._client.create_experiment("fedhealth", artifact_location=artifacts)
        (before,) = self._client.search_runs([number], max_results=1) or (None,)
        written = self._read_metrics(before) if before else []
        kept = [metric for metric in written if metric.step <= done]
        if before and kept == written:
            self._run = before.info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(number, run_name=self._folder.name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)
        self._write_metrics(kept)
        if before:
            self._client.delete_run(before.info.run_id)

    def _read_metrics(self, run: Any) -> list[Any]:
        """The metrics of a run, of all rounds."""
        return [each for name in run.data.metrics for each in self._client.get_metric_history(run.info.run_id, name)]

    def _write_metrics(self, metrics: Sequence[Any]) -> None:
        """Write metrics in as few calls as MLflow allows."""
        for start in range(0, len(metrics), MLFLOW_BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + MLFLOW_BATCH])

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        """Write the metrics of one round."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._write_metrics([Metric(name, value, now, round_num) for name, value in metrics.items()])

    def close(self, finished: bool) -> None:
        """Set the run's final status, if it was started."""
        if self._run:
            self._client.set_terminated(self._run, status="FINISHED" if finished else "KILLED")


SINKS: Mapping[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoardSink, "mlflow": MlflowSink}


class Tracker:
    """An event listener that writes to a sink on its own thread; calls `warn` once if tracking fails."""

    def __init__(self, open_sink: Callable[[], Sink], warn: Callable[[str], None]) -> None:
        self._open_sink = open_sink
        self._warn = warn
        self._events: queue.Queue[Event | None] = queue.Queue(MAX_QUEUED)
        self._warned = False
        self._thread = threading.Thread(target=self._write_events, name="tracking", daemon=True)
        self._thread.start()

    def show(self, event: Event) -> None:
        """Queue an event of the run (called on the run's thread; returns at once, raises nothing)."""
        if isinstance(event, RunStarted | RoundRecord | RunFinished) and self._thread.is_alive():
            try:
                self._events.put_nowait(event)
            except queue.Full:
                self._warn_once("it cannot keep up, and some rounds are missing")

    def show_link(self, what: str, who: str) -> None:
        """Do nothing: joining and leaving are not tracked."""

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Wait until the last numbers are written, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._warn_once(f"the last numbers were not written in {seconds:.0f} s")

    def _warn_once(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"--track: {reason}; the run continues, and history.jsonl has all its numbers")

    def _write_events(self) -> None:
        """The thread: write the events in order, until the end or the first error."""
        try:
            sink, names, finished = self._open_sink(), dict[str, str](), False
            for event in iter(self._events.get, None):
                if isinstance(event, RunStarted):
                    names = short_names([member.name for member in event.members])
                    sink.begin({**event.settings.to_run_config(), "dataset": event.dataset}, event.done)
                elif isinstance(event, RoundRecord):
                    sink.log(round_metrics(event, names), event.round_num)
                finished |= isinstance(event, RunFinished)
            sink.close(finished)
        except Exception as error:  # noqa: BLE001  # any error of the tracking package
            first_line = (str(error).splitlines() or [""])[0]
            self._warn_once(f"{type(error).__name__}: {first_line}")


def round_metrics(record: RoundRecord, names: Mapping[str, str]) -> dict[str, float]:
    """Path in history.jsonl, such as `union/auroc` -> number, for one round."""
    content = msgspec.to_builtins(record, enc_hook=dict)  # of a mapping that makes its values on demand
    known = {name: metrics for name, metrics in content["hospitals"].items() if name != TOGETHER}
    content["hospitals"] = {names.get(name, name): metrics for name, metrics in known.items()}
    numbers = {key: content[key] for key in ("seconds", "train_loss", "left_out_share")}
    numbers |= dict(_flatten("union", content["union"]))
    numbers |= dict(_flatten("hospitals", content["hospitals"]))
    return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


def _flatten(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(f"{path}/{key}", inner)
    else:
        yield path, value


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Hospital -> a unique name of letters, digits and .-_, which TensorBoard and MLflow accept unchanged."""
    taken: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".") or "_"
        number = next(i for i in range(1, len(names) + 1) if _numbered(plain, i) not in taken.values())
        taken[name] = _numbered(plain, number)
    return taken


def _numbered(plain: str, number: int) -> str:
    return plain if number == 1 else f"{plain}-{number}"


def require_package(kind: str) -> None:
    """Raise a `UsageError` if the package for this kind of tracking is not installed."""
    module, package = PACKAGES[kind]
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"--track {kind} needs {package}; install it: pip install -r requirements-track.txt")


def viewer_command(kind: str, folder: Path) -> str:
    """The command that shows what was tracked."""
    return VIEWERS[kind].format(folder / ("tensorboard" if kind == "tensorboard" else "mlflow.db"))


@contextlib.contextmanager
def tracking(kind: str, folder: Path, warn: Callable[[str], None]) -> Iterator[Tracker]:
    """A tracker that writes under this run folder, closed at the end of the block."""
    require_package(kind)
    with contextlib.closing(Tracker(lambda: SINKS[kind](folder), warn)) as tracker:
        yield tracker
