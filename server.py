"""Coordinate a federation: wait for the hospitals, let them train one model together, report. No patient row comes here."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fedhealth.settings import ServerSettings
from fedhealth.terminal import parse_flags, quiet_libraries, say, script
from utils import warn_if_open

if TYPE_CHECKING:
    from fedhealth.server_app import Event
    from fedhealth.wire.grid import GrpcGrid


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Open the door, run the federation, show it and keep it."""
    settings = parse_flags(ServerSettings, argv)
    quiet_libraries(settings.verbose)
    from fedhealth.console import ServerConsole
    from fedhealth.run_folder import keep_event, opened_run_folder
    from fedhealth.server_app import make_server_app
    from fedhealth.wire.grid import GrpcGrid

    warn_if_open(settings.address)
    console = ServerConsole(say)
    grid = GrpcGrid(settings.to_run_config(), settings.hospitals, console.show_link)
    with opened_run_folder(settings.out) as folder, grid.listening(settings.address) as address:
        say(f"listening on {address}")
        listeners = (partial(close_door, grid), partial(keep_event, folder), console.show)
        app = make_server_app(*listeners, max_wait=settings.max_wait)
        app(grid, grid.context)
    say(f"run folder: {folder}")


def close_door(grid: "GrpcGrid", event: "Event") -> None:
    """Once the rounds begin, only their hospitals may come back."""
    from fedhealth.server_app import Began

    if isinstance(event, Began):
        grid.admit_only(member.name for member in event.members)


if __name__ == "__main__":
    sys.exit(main())
