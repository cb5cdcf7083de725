"""A run's numbers for TensorBoard or MLflow, by the names of history.jsonl, through packages made for that.

It must never slow or stop the run: what happens is put into a bounded queue and forgotten; a thread of its own passes it on,
and the first thing that goes wrong ends the tracking with one warning. All is written under the run folder; no network.
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
from fedhealth.server.records import RoundRecord

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

PACKAGES = {"tensorboard": ("tensorboardX", "tensorboardX"), "mlflow": ("mlflow", "mlflow-skinny")}
"""Kind -> the module that is imported, and what pip calls it."""
VIEWERS = {"tensorboard": "tensorboard --logdir {}", "mlflow": "mlflow ui --backend-store-uri sqlite:///{}"}
"""How to look at what was written."""
MOST_WAITING = 1000
"""Events that wait to be passed on."""
CLOSING_SECONDS = 30.0
"""How long the end of a run may wait for the last numbers."""
MLFLOW_BATCH = 1000
"""Metrics that MLflow takes at once."""


class Sink(Protocol):
    """Where the numbers of one run go."""

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """The run begins, or goes on after round `done`."""
        ...

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        """The numbers of one round."""
        ...

    def close(self, finished: bool) -> None:
        """Nothing more comes."""
        ...


class TensorBoardSink:
    """An event file in `folder/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Settings as a table; rounds that a resumed run does again are taken out."""
        from tensorboardX import SummaryWriter

        purge = {"purge_step": done + 1} if done else {}
        self._writer = SummaryWriter(logdir=str(self._folder), flush_secs=5, **purge)
        table = "\n".join(["| setting | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in settings.items())])
        self._writer.add_text("settings", table, global_step=done)

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        """A scalar each."""
        for name, value in metrics.items():
            if self._writer:
                self._writer.add_scalar(name, value, global_step=round_num)

    def close(self, finished: bool) -> None:
        """Write what is left."""
        if self._writer:
            self._writer.close()


class MlflowSink:
    """A run in the SQLite database `folder/mlflow.db`; MLflow's store of plain files is being given up by its makers."""

    def __init__(self, folder: Path) -> None:
        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", GIT_PYTHON_REFRESH="quiet")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        import mlflow.tracking  # takes seconds: here, while the hospitals join

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._make_client = mlflow.tracking.MlflowClient
        self._folder = folder.resolve()
        self._run = ""

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """A new run, or the one that goes on."""
        self._client = self._make_client(tracking_uri=f"sqlite:///{self._folder / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name("fedhealth")
        number = experiment.experiment_id if experiment else None
        artifacts = (self._folder / "mlflow").as_uri()
        number = number or self._client.create_experiment("fedhealth", artifact_location=artifacts)
        runs = self._client.search_runs([number], max_results=1) if done else []
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(number, run_name=self._folder.name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)

    def log(self, metrics: Mapping[str, float], round_num: int) -> None:
        """In as few calls as MLflow allows."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        all_of_them = [Metric(name, value, now, round_num) for name, value in metrics.items()]
        for start in range(0, len(all_of_them), MLFLOW_BATCH):
            self._client.log_batch(self._run, metrics=all_of_them[start : start + MLFLOW_BATCH])

    def close(self, finished: bool) -> None:
        """Say how the run ended, if it had begun."""
        if self._run:
            self._client.set_terminated(self._run, status="FINISHED" if finished else "KILLED")


SINKS: Mapping[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoardSink, "mlflow": MlflowSink}


class Tracker:
    """A listener of a run; `warn` hears once if tracking fails, and the run does not."""

    def __init__(self, open_sink: Callable[[], Sink], warn: Callable[[str], None]) -> None:
        self._open_sink = open_sink
        self._warn = warn
        self._heard: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._complained = False
        self._thread = threading.Thread(target=self._pass_on, name="tracking", daemon=True)
        self._thread.start()

    def show(self, event: Event) -> None:
        """Hear an event of the run (on the run's thread: returns at once, raises nothing)."""
        if isinstance(event, RunStarted | RoundRecord | RunFinished) and self._thread.is_alive():
            try:
                self._heard.put_nowait(event)
            except queue.Full:
                self._complain("it cannot keep up, and some rounds are missing")

    def show_link(self, what: str, who: str) -> None:
        """Who joins and leaves is not tracked."""

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Let the last numbers be written, for so long at most."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._heard.put(None, timeout=seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._complain(f"the last numbers were not written in {seconds:.0f} s")

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            self._warn(f"--track: {reason}; the run goes on, and history.jsonl has all its numbers")

    def _pass_on(self) -> None:
        """The thread: everything in order, until the end or the first failure."""
        try:
            sink, names, finished = self._open_sink(), dict[str, str](), False
            for event in iter(self._heard.get, None):
                if isinstance(event, RunStarted):
                    names = short_names([member.name for member in event.members])
                    sink.begin({**event.settings.to_run_config(), "dataset": event.dataset}, event.done)
                elif isinstance(event, RoundRecord):
                    sink.log(round_metrics(event, names), event.round_num)
                finished |= isinstance(event, RunFinished)
            sink.close(finished)
        except Exception as error:  # noqa: BLE001  # whatever another project's package raises
            first_line = (str(error).splitlines() or [""])[0]
            self._complain(f"{type(error).__name__}: {first_line}")


def round_metrics(record: RoundRecord, names: Mapping[str, str]) -> dict[str, float]:
    """The numbers of a round's line in history.jsonl by their path there, such as `union/auroc`."""
    content = msgspec.to_builtins(record)
    content["hospitals"] = {names.get(name, name): metrics for name, metrics in content["hospitals"].items()}
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
    """Hospital -> a name of letters, digits and .-_ that both projects take as it is; different for different hospitals."""
    taken: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".") or "_"
        number = next(i for i in range(1, len(names) + 1) if _numbered(plain, i) not in taken.values())
        taken[name] = _numbered(plain, number)
    return taken


def _numbered(plain: str, number: int) -> str:
    return plain if number == 1 else f"{plain}-{number}"


def require_package(kind: str) -> None:
    """Say before the run what is not installed; a `UsageError`."""
    module, package = PACKAGES[kind]
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"--track {kind} needs {package}; install it: pip install -r requirements-track.txt")


def viewer_command(kind: str, folder: Path) -> str:
    """What to type to look at it."""
    return VIEWERS[kind].format(folder / ("tensorboard" if kind == "tensorboard" else "mlflow.db"))


@contextlib.contextmanager
def tracking(kind: str, folder: Path, warn: Callable[[str], None]) -> Iterator[Tracker]:
    """A tracker for the run of this folder, closed at the end of the block."""
    require_package(kind)
    with contextlib.closing(Tracker(lambda: SINKS[kind](folder), warn)) as tracker:
        yield tracker
