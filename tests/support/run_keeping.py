"""Writers of a run for tests: a run folder, or a list of checkpoints."""

from pathlib import Path
from typing import Any

import pytest

from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.events import RunFinished, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.server.run_writer import FolderWriter, RunWriter


def keep(writer: RunWriter, *happened: object) -> None:
    """Call a writer's method for each event that is written, and for no other."""
    for each in happened:
        match each:
            case RunStarted():
                writer.run_started(each)
            case RoundRecord():
                writer.round_finished(each)
            case Checkpoint():
                writer.keep_checkpoint(each)
            case RunFinished():
                writer.run_finished(each)


def keep_in(folder: Path, *happened: object) -> None:
    """Write the files of a run."""
    keep(FolderWriter(folder, checkpoints=3, max_wait=0.0, warn=pytest.fail), *happened)


class CheckpointList(RunWriter):
    """Keeps the checkpoints, in a list that may hold other things too."""

    def __init__(self, kept: list[Any]) -> None:
        self.kept = kept

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.kept.append(checkpoint)


class Killed(BaseException):
    """Ends the run as abruptly as SIGKILL would."""
