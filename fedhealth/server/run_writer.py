"""What a run leaves on disk.

Every file appears whole or not at all; the history grows by whole lines. A full disk stops no run: what could not be
written is written when there is room again.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from fedhealth.common.atomic_files import append_line
from fedhealth.common.errors import FedHealthError, RunError
from fedhealth.server.checkpoints import CHECKPOINTS, Checkpoint, write_checkpoint
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.server.run_files import (
    EVALUATION,
    HISTORY,
    MODEL,
    SETTINGS,
    SUMMARY,
    EvaluationFile,
    describe_run,
    summarize,
    to_json,
    write_json,
    write_long_json,
    write_model,
)

TRY_AGAIN_SECONDS = 1.0


class RunWriter:
    """What a run hands over to be kept; this one keeps nothing. What a writer raises ends the run."""

    def run_started(self, started: RunStarted) -> None:
        """Keep what is run, unless it goes on after an interruption."""

    def round_finished(self, record: RoundRecord) -> None:
        """Keep a round."""

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep what is needed to go on after that round."""

    def run_finished(self, finished: RunFinished) -> None:
        """Keep the final model and what was found out about it."""


class FolderWriter(RunWriter):
    """Writes the files of a run folder.

    Parameters
    ----------
    checkpoints : how many to keep; 0 for a run that is started again rather than resumed.
    max_wait : seconds to wait for room on the disk at the end of the run, when there is nothing else left to do.
    warn : called when the disk takes nothing more, and when it does again.
    link : how the hospitals reached the server, for the record.
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
        """Write settings.json."""
        if not started.done:
            description = describe_run(started, self._link)
            self._write(lambda: write_json(self._folder / SETTINGS, description))

    def round_finished(self, record: RoundRecord) -> None:
        """Append a line to history.jsonl."""
        self._write(lambda: append_line(self._folder / HISTORY, to_json(record).decode()))

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint now, or not at all: not before the history up to it, and never a second time."""
        if self._checkpoints and not self._unwritten:
            self._write(lambda: write_checkpoint(self._folder / CHECKPOINTS, checkpoint, self._checkpoints))
            self._unwritten.clear()

    def run_finished(self, finished: RunFinished) -> None:
        """Write model.npz, evaluation.json and summary.json, and remove the checkpoints.

        Raises
        ------
        RunError
            There was no room on the disk for `max_wait` seconds.
        """
        self._write(lambda: write_model(self._folder / MODEL, finished))
        if finished.histograms:
            self._write(lambda: write_long_json(self._folder / EVALUATION, EvaluationFile.of(finished.histograms)))
        self._write(lambda: write_json(self._folder / SUMMARY, summarize(finished)))
        self._wait_for_room()
        remove_checkpoints(self._folder / CHECKPOINTS)

    def _write(self, step: Callable[[], None]) -> None:
        """Everything that is still to be written, in order, and then this."""
        self._unwritten.append(step)
        try:
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.pop(0)
        except (FedHealthError, OSError) as error:
            if not self._complained:
                self._warn(f"{error}; the run goes on, and what is missing is written as soon as that is possible")
            self._complained = True
            return
        if self._complained:
            self._warn(f"{self._folder}: can be written again, nothing is missing")
        self._complained = False

    def _wait_for_room(self) -> None:
        deadline = time.monotonic() + self._max_wait
        while self._unwritten:
            if time.monotonic() >= deadline:
                raise RunError(f"{self._folder}: could not be written to the end; the hospitals have the final model")
            time.sleep(TRY_AGAIN_SECONDS)
            self._write(lambda: None)


def remove_checkpoints(folder: Path) -> None:
    """A finished run needs none; what cannot be removed does no harm."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.ckpt"):
            path.unlink()
        folder.rmdir()
