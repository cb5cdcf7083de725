#!/usr/bin/env python
"""Coordinate a federation: wait for the hospitals, let them train one model together, report. No patient row comes here."""

import sys
from collections.abc import Sequence

from fedhealth.cli.terminal import parse_flags, say, script, warn
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.scripts import ServerSettings
from utils import warn_if_readable


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Listen for the hospitals, run the federation, show it, keep it and report it; with --service, one after the other."""
    settings = parse_flags(ServerSettings, argv)
    quiet_libraries(settings.verbose)
    if settings.service:
        from fedhealth.cli.service.server import serve_file

        serve_file(settings)
        return
    from fedhealth.reporting.html.pages import write_report
    from fedhealth.reporting.screens import opened_screens
    from fedhealth.server.app import make_server_app
    from fedhealth.server.run_directory import opened_run
    from fedhealth.server.run_writer import FolderWriter
    from fedhealth.transport.grpc.grid import GrpcGrid
    from fedhealth.transport.tls.identity import load_identity

    warn_if_readable(settings.address, encrypted=settings.tls is not None)
    tls = load_identity(settings.tls) if settings.tls else None
    for warning in tls.warnings if tls else ():
        warn(warning)
    with opened_run(settings, warn) as run, opened_screens(settings, run.folder, say, warn) as screens:
        config, number = run.settings.to_run_config(), run.settings.hospitals
        grid = GrpcGrid(config, number, screens.show_link, tls, settings.allow, schema=run.schema)
        if run.past:  # a run that goes on has begun already: only its hospitals may join
            grid.admit_only(run.past.remaining)
        with grid.listening(settings.address) as run.address:
            say(f"listening on {run.address}{' with TLS' if tls else ''}")
            link = "TLS" if tls else "plain text"
            writer = FolderWriter(run.folder, settings.keep, settings.max_wait, warn, link)
            app = make_server_app(
                *screens.listeners,
                writer=writer,
                admission=grid,
                max_wait=settings.max_wait,
                past=run.past,
                schema=run.schema,
            )
            app(grid, grid.context)
    if not run.settings.feasibility:  # else there is no model, and feasibility.json says all
        write_report(run.folder)
        say(f"report: {run.folder / 'report.html'}")
    say(f"run folder: {run.folder}")


if __name__ == "__main__":
    sys.exit(main())
