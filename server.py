"""Coordinate a federation: wait for the hospitals, let them train one model together, report. No patient row comes here."""

import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fedhealth.settings import ServerSettings
from fedhealth.terminal import parse_flags, quiet_libraries, say, script, warn
from utils import require_safe_address

if TYPE_CHECKING:
    from fedhealth.events import Event, Past
    from fedhealth.run_folder import Run
    from fedhealth.wire.grid import GrpcGrid


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Open the door, run the federation, show it and keep it."""
    settings = parse_flags(ServerSettings, argv)
    quiet_libraries(settings.verbose)
    from fedhealth.console import ServerConsole
    from fedhealth.run_folder import RunKeeper, opened_run
    from fedhealth.server_app import make_server_app
    from fedhealth.wire.grid import GrpcGrid
    from fedhealth.wire.identity import load_identity

    require_safe_address(settings.address, encrypted=settings.tls is not None, insecure=settings.insecure)
    tls = load_identity(settings.tls) if settings.tls else None
    with opened_run(settings, warn) as run, contextlib.closing(ServerConsole(say)) as console:
        run_config, places = run.settings.to_run_config(), run.settings.hospitals
        grid = GrpcGrid(run_config, places, console.show_link, tls, settings.allow)
        admit_only_members(grid, run)
        if run.past:
            guard_again(grid, run.past)
        with grid.listening(settings.address) as address:
            say(f"listening on {address}{' with TLS' if tls else ''}")
            keeper = RunKeeper(run.folder, settings.keep, settings.max_wait, warn)
            listeners = (partial(guard_door, grid), keeper.keep, console.show)
            app = make_server_app(*listeners, max_wait=settings.max_wait, past=run.past)
            app(grid, grid.context)
    say(f"run folder: {run.folder}")


def admit_only_members(grid: "GrpcGrid", run: "Run") -> None:
    """A run that goes on knows its hospitals; nobody else takes a place, and no one who was dropped."""
    if run.past:
        checkpoint = run.past.checkpoint
        grid.admit_only(member.name for member in checkpoint.members if member.name not in checkpoint.dropped)


def guard_door(grid: "GrpcGrid", event: "Event") -> None:
    """Once the rounds begin, only their hospitals may come back; one that is dropped is shown out."""
    from fedhealth.events import Began, Dropped

    if isinstance(event, Began) and not event.done:
        grid.admit_only(member.name for member in event.members)
    if isinstance(event, Dropped):
        grid.expel(event.name, event.reason)


def guard_again(grid: "GrpcGrid", past: "Past") -> None:
    """A run that goes on has begun already: only its hospitals come in, and none that was dropped."""
    grid.admit_only(m.name for m in past.checkpoint.members if m.name not in past.checkpoint.dropped)


if __name__ == "__main__":
    sys.exit(main())
