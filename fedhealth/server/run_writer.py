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
from fedhealth.server.checkpoints import CHECKPOINTS, write_checkpoint
from fedhealth.server.events import Checkpoint, Event, RoundRecord, RunFinished, RunStarted
from fedhealth.server.run_json import (
    environment_json,
    evaluation_json,
    history_json,
    settings_json,
    strict_json,
    summary_json,
    write_json,
    write_long_json,
    write_model,
)

TRY_AGAIN_SECONDS = 1.0


class RunKeeper:
    """Writes what an event leaves behind.

    Parameters
    ----------
    keep : how many checkpoints to keep.
    max_wait : seconds to wait for room on the disk at the end of the run, when there is nothing else left to do.
    warn : hears when the disk takes nothing more, and when it does again.
    link : how the hospitals reached the server, for the record.
    """

    def __init__(
        self, folder: Path, keep: int, max_wait: float, warn: Callable[[str], None], link: str = "plain text"
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._max_wait = max_wait
        self._warn = warn
        self._link = link
        self._unwritten: list[Callable[[], None]] = []
        self._complained = False

    def keep(self, event: Event) -> None:
        """Write it now, or as soon as the disk takes it."""
        match event:
            case RunStarted(done=0):
                begun = {**settings_json(event), "environment": {**environment_json(), "link": self._link}}
                self._write(lambda: write_json(self._folder / "settings.json", begun))
            case RoundRecord():
                self._write(lambda: append_line(self._folder / "history.jsonl", strict_json(history_json(event))))
            case Checkpoint():
                if not self._unwritten:
                    self._write(lambda: write_checkpoint(self._folder / CHECKPOINTS, event, self._keep), later=False)
            case RunFinished():
                self._write(lambda: write_model(self._folder / "model.npz", event))
                if histograms := event.final.histograms:
                    evaluation = evaluation_json(histograms)
                    self._write(lambda: write_long_json(self._folder / "evaluation.json", evaluation))
                self._write(lambda: write_json(self._folder / "summary.json", summary_json(event)))
                self._wait_for_room()
                remove_checkpoints(self._folder / CHECKPOINTS)
            case _:
                pass

    def _write(self, step: Callable[[], None], later: bool = True) -> None:
        """Everything that is still to be written, in order, and then this; a checkpoint is worth no second try."""
        self._unwritten.append(step)
        try:
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.pop(0)
        except (FedHealthError, OSError) as error:
            if not later:
                self._unwritten.pop()
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
