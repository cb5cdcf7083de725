"""state.json in each run folder of a service: what monitoring reads of a run that waits, runs or has ended."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from fedhealth.common.errors import RunError, UsageError
from fedhealth.server.events import Event, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.server.run_files import read_json, write_json

STATE = "state.json"
State = Literal["waiting", "running", "interrupted", "finished", "failed"]
LEAST_SECONDS = 1.0
"""Between two writes that only report one more round."""


class RunState(msgspec.Struct, frozen=True):
    """state.json."""

    run: str
    state: State
    round: int = 0
    rounds: int = 0
    reason: str = ""
    """Why it failed."""
    updated: str = ""
    """ISO 8601, UTC."""


class StateFile:
    """Keeps state.json of one run up to date; `show` is a listener of the run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE
        self._state = RunState(folder.name, "waiting")
        self._written = 0.0

    def write(self, state: State, reason: str = "") -> None:
        """Write this state; a `RunError` if the disk takes nothing."""
        self._state = msgspec.structs.replace(self._state, state=state, reason=reason)
        self._write()

    def show(self, event: Event) -> None:
        """Take in an event of the run."""
        match event:
            case RunStarted():
                rounds = event.settings.rounds
                self._state = msgspec.structs.replace(self._state, state="running", round=event.done, rounds=rounds)
                self._write()
            case RoundRecord():
                self._state = msgspec.structs.replace(self._state, round=event.round_num)
                if time.monotonic() >= self._written + LEAST_SECONDS:
                    self._write()

    def _write(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            write_json(self._path, msgspec.structs.replace(self._state, updated=now))
        except UsageError as error:
            raise RunError(
                f"{self._path}: cannot be written ({error.__cause__}); the service needs room there"
            ) from None
        self._written = time.monotonic()


def read_state(folder: Path) -> RunState | None:
    """The state of a run folder; None if there is none."""
    try:
        return read_json(folder / STATE, RunState)
    except (OSError, ValueError):
        return None
