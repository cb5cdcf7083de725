"""Writes a run to disk.

Files are written atomically; the history grows by whole lines. A full disk does not stop a run: files that could not be
written are written when there is space again.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from fedhealth.common.atomic_files import append_line, write_file
from fedhealth.common.errors import FedHealthError, RunError
from fedhealth.server.checkpoints import CHECKPOINTS, Checkpoint, write_checkpoint
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.feasibility_record import Feasibility
from fedhealth.server.records import RoundRecord, Start
from fedhealth.server.run_files import (
    EVALUATION,
    FEASIBILITY,
    HISTORY,
    MODEL,
    SCHEMA,
    SETTINGS,
    SUMMARY,
    add_start,
    describe_run,
    summarize,
    to_json,
    write_evaluation,
    write_json,
    write_model,
)

TRY_AGAIN_SECONDS = 1.0


class RunWriter:
    """Base class that writes nothing. An exception of a writer ends the run."""

    def run_started(self, started: RunStarted) -> None:
        """Write the run's settings; if it is resumed, that it is."""

    def round_finished(self, record: RoundRecord) -> None:
        """Write a round's record."""

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the state after a round."""

    def run_finished(self, finished: RunFinished) -> None:
        """Write the final model and its evaluation."""

    def feasibility_known(self, found: Feasibility) -> None:
        """Write what the hospitals have, the only result of a run with --feasibility."""


class FolderWriter(RunWriter):
    """Writes the files of a run folder.

    Parameters
    ----------
    checkpoints : how many to keep; 0 for none.
    max_wait : seconds to wait for disk space at the end of the run.
    warn : called when writing fails, and when it succeeds again.
    link : the kind of connection to the hospitals at this start, for settings.json.
    """

    def __init__(
        self, folder: Path, checkpoints: int, max_wait: float, warn: Callable[[str], None], link: str = "plain text"
    ) -> None:
        self._folder = folder
        self._checkpoints = checkpoints
        self._max_wait = max_wait
        self._warn = warn
        self._link = link
        self._unwritten: list[Callable[[], None]] = []
        self._complained = False

    def run_started(self, started: RunStarted) -> None:
        """Write settings.json and schema.toml; if the run is resumed, add this start to it."""
        path = self._folder / SETTINGS
        if started.done and path.exists():
            self._write(lambda: add_start(path, Start(started.done, self._link)))
        else:
            description = describe_run(started, self._link)
            self._write(lambda: write_file(self._folder / SCHEMA, started.schema.text.encode()))
            self._write(lambda: write_json(path, description))

    def round_finished(self, record: RoundRecord) -> None:
        """Append a line to history.jsonl."""
        self._write(lambda: append_line(self._folder / HISTORY, to_json(record).decode()))

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, unless earlier files are still unwritten; a failed checkpoint is not written later."""
        if self._checkpoints and not self._unwritten:
            self._write(lambda: write_checkpoint(self._folder / CHECKPOINTS, checkpoint, self._checkpoints))
            self._unwritten.clear()

    def run_finished(self, finished: RunFinished) -> None:
        """Write model.npz, evaluation.json and summary.json, and remove the checkpoints.

        Raises
        ------
        RunError
            There was no space on the disk for `max_wait` seconds.
        """
        self._write(lambda: write_model(self._folder / MODEL, finished))
        if finished.histograms:
            self._write(lambda: write_evaluation(self._folder / EVALUATION, finished.histograms))
        self._write(lambda: write_json(self._folder / SUMMARY, summarize(finished)))
        self._wait_for_room()
        remove_checkpoints(self._folder / CHECKPOINTS)

    def feasibility_known(self, found: Feasibility) -> None:
        """Write feasibility.json; a `UsageError` if that fails, for the hospitals can be asked again."""
        write_json(self._folder / FEASIBILITY, found)

    def _write(self, step: Callable[[], None]) -> None:
        """Call the steps that failed before, in order, and then this one."""
        self._unwritten.append(step)
        try:
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.pop(0)
        except (FedHealthError, OSError) as error:
            if not self._complained:
                self._warn(f"{error}; the run continues, and missing files are written as soon as that is possible")
            self._complained = True
            return
        if self._complained:
            self._warn(f"{self._folder}: can be written again, and no file is missing")
        self._complained = False

    def _wait_for_room(self) -> None:
        deadline = time.monotonic() + self._max_wait
        while self._unwritten:
            if time.monotonic() >= deadline:
                raise RunError(f"{self._folder}: not all files could be written; the hospitals have the final model")
            time.sleep(TRY_AGAIN_SECONDS)
            self._write(lambda: None)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished run, as far as possible."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.ckpt"):
            path.unlink()
        folder.rmdir()
