#!/usr/bin/env python
"""Coordinate a federation: wait for the hospitals, let them train one model together, report. No patient row comes here."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.scripts import ServerSettings
from utils import require_safe_address

if TYPE_CHECKING:
    from fedhealth.reporting.console.screen import ServerConsole
    from fedhealth.reporting.dashboard.app import Dashboard
    from fedhealth.reporting.tracking import Tracker
    from fedhealth.server.events import Event, ResumeState
    from fedhealth.transport.grpc.grid import GrpcGrid


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Open the door, run the federation, show it and keep it."""
    settings = parse_flags(ServerSettings, argv)
    quiet_libraries(settings.verbose)
    from fedhealth.server.app import make_server_app
    from fedhealth.server.run_directory import opened_run
    from fedhealth.server.run_writer import RunKeeper
    from fedhealth.transport.grpc.grid import GrpcGrid
    from fedhealth.transport.tls.identity import load_identity

    require_safe_address(settings.address, encrypted=settings.tls is not None, insecure=settings.insecure)
    tls = load_identity(settings.tls) if settings.tls else None
    with opened_run(settings, warn) as run, opened_screens(settings, run.folder) as screens:
        on_link = partial(show_link, screens)
        grid = GrpcGrid(run.settings.to_run_config(), run.settings.hospitals, on_link, tls, settings.allow)
        guard_again(grid, run.past)
        with grid.listening(settings.address) as address:
            say(f"listening on {address}{' with TLS' if tls else ''}")
            keeper = RunKeeper(run.folder, settings.keep, settings.max_wait, warn, link="TLS" if tls else "plain text")
            shown = (screen.show for screen in screens)
            app = make_server_app(
                partial(guard_door, grid), keeper.keep, *shown, max_wait=settings.max_wait, past=run.past
            )
            app(grid, grid.context)
    tell_end(run.folder)


@contextlib.contextmanager
def opened_screens(settings: ServerSettings, folder: Path) -> "Iterator[list[ServerConsole | Dashboard | Tracker]]":
    """The terminal; beside it the live page and the tracking, if they were asked for."""
    from fedhealth.reporting.console.screen import ServerConsole

    with contextlib.ExitStack() as stack:
        screens: list[ServerConsole | Dashboard | Tracker] = [
            stack.enter_context(contextlib.closing(ServerConsole(say)))
        ]
        if settings.track != "none":
            from fedhealth.reporting import tracking

            screens.append(stack.enter_context(tracking.tracking(settings.track, folder, warn)))
            say(f"tracking; to look at it: {tracking.viewer_command(settings.track, folder)}")
        if settings.dashboard is not None:
            from fedhealth.reporting.dashboard import app

            screens.append(page := app.Dashboard(settings.dashboard, folder.name))
            say(f"live page: {stack.enter_context(page.serving())}")
        yield screens


def show_link(screens: "Sequence[ServerConsole | Dashboard | Tracker]", what: str, who: str) -> None:
    """Who joined, left or was refused, on every screen."""
    for screen in screens:
        screen.show_link(what, who)


def tell_end(folder: Path) -> None:
    """Write the report beside the run's other files, and say where all is."""
    from fedhealth.reporting.html.pages import write_report

    write_report(folder)
    say(f"report: {folder / 'report.html'}")
    say(f"run folder: {folder}")


def guard_door(grid: "GrpcGrid", event: "Event") -> None:
    """Once the rounds begin, only their hospitals may come back; one that is dropped is shown out."""
    from fedhealth.server.events import Dropped, RunStarted

    if isinstance(event, RunStarted) and not event.done:
        grid.admit_only(member.name for member in event.members)
    if isinstance(event, Dropped):
        grid.expel(event.name, event.reason)


def guard_again(grid: "GrpcGrid", past: "ResumeState | None") -> None:
    """A run that goes on has begun already: only its hospitals come in, and none that was dropped."""
    if past:
        grid.admit_only(m.name for m in past.checkpoint.members if m.name not in past.checkpoint.dropped)


if __name__ == "__main__":
    sys.exit(main())
