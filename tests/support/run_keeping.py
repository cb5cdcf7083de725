"""Run folders for tests, written as a keeper does it whose disk takes everything."""

from pathlib import Path

import pytest

from fedhealth.server.events import Event
from fedhealth.server.run_writer import RunKeeper


def keep_event(folder: Path, event: Event) -> None:
    """Write what an event leaves behind."""
    RunKeeper(folder, keep=3, max_wait=0.0, warn=pytest.fail).keep(event)


class Killed(BaseException):
    """As sudden as SIGKILL for everything that stands below."""
