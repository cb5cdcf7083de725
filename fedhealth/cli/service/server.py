"""`server.py --service FILE`: one run after the other, from a queue folder, over one port.

What the service has done and has to do stands in files only: it may be killed at any moment, and goes on from them.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedhealth.cli.service.queue import FAILED, FINISHED, RunQueue, Taken
from fedhealth.cli.service.state import StateFile
from fedhealth.cli.terminal import say, warn
from fedhealth.common.addresses import is_loopback
from fedhealth.common.errors import FedHealthError, UsageError
from fedhealth.config.scripts import ServerSettings
from fedhealth.config.service import MOST_HOSPITALS, QueuedRun, ServiceSettings, read_queued_run, read_service
from fedhealth.reporting.html.pages import write_report
from fedhealth.reporting.screens import Screens, opened_screens
from fedhealth.server.app import make_server_app
from fedhealth.server.run_directory import opened_run
from fedhealth.server.run_files import FEASIBILITY, SETTINGS, SUMMARY
from fedhealth.server.run_writer import FolderWriter
from fedhealth.transport.grpc.service import ServiceGrid
from fedhealth.transport.tls.identity import load_identity

if TYPE_CHECKING:
    from fedhealth.reporting.dashboard.app import Dashboard

LOG_FLAGS = ("log_format", "timestamps")
"""Flags that may stand beside --service, with --verbose."""
NO_FLAGS: Mapping[str, Any] = {}
POLL_SECONDS = 1.0
"""How often an empty queue is looked at."""


def serve_file(settings: ServerSettings) -> None:
    """Run the service of the file behind --service; a `UsageError` if flags beside it belong into the file."""
    usual = ServerSettings()
    for name, value in vars(settings).items():
        if name not in ("service", "verbose", *LOG_FLAGS) and value != getattr(usual, name):
            flag = name.replace("_", "-")
            raise UsageError(
                f"--{flag} is given beside --service; put {flag} into {settings.service} or into a run file"
            )
    if settings.service:
        flags = {name: getattr(settings, name) for name in LOG_FLAGS}
        serve(read_service(settings.service), log_flags=flags)


def serve(
    service: ServiceSettings,
    sleep: Callable[[float], None] = time.sleep,
    log_flags: Mapping[str, Any] = NO_FLAGS,
) -> None:
    """Run the queue until the process is stopped; the run that is on then goes on at the next start.

    Raises
    ------
    UsageError
        A folder, a certificate or the port cannot be used.
    RunError
        The disk takes nothing more; nothing is lost, and the service can be started again.
    """
    tls = load_identity(service.tls) if service.tls else None
    for warning in tls.warnings if tls else ():
        warn(warning)
    if not (tls or is_loopback(service.address)):
        warn(
            f"{service.address} can be reached from other machines; without TLS anybody there can join and read everything"
        )
    queue = RunQueue(service.queue)
    grid = ServiceGrid(MOST_HOSPITALS, lambda what, who: say(f"{what}: {who}"), tls)
    with queue.opened(), opened_page(service) as page, grid.listening(service.address) as address:
        say(f"listening on {address}{' with TLS' if tls else ''}")
        idle = False
        while True:
            if taken := queue.take():
                Service(service, queue, grid, page, log_flags).run(taken)
            elif not idle:
                say(f"no run in {queue.folder}; waiting for the next one")
            idle = taken is None
            if idle:
                sleep(POLL_SECONDS)


@contextmanager
def opened_page(service: ServiceSettings) -> "Iterator[Dashboard | None]":
    """The live page of all runs, if the service has one."""
    if service.dashboard is None:
        yield None
        return
    from fedhealth.reporting.dashboard.app import Dashboard

    page = Dashboard(service.dashboard)
    with page.serving() as address:
        say(f"live page: {address}")
        yield page


def is_over(folder: Path) -> bool:
    """Whether a run folder has the last file of a run."""
    return any((folder / name).exists() for name in (SUMMARY, FEASIBILITY))


class Service:
    """The runs of a service: each gets its folder and its state, and its file an end in finished/ or failed/."""

    def __init__(
        self,
        settings: ServiceSettings,
        queue: RunQueue,
        grid: ServiceGrid,
        page: "Dashboard | None",
        log_flags: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self.queue = queue
        self.grid = grid
        self.page = page
        self.log_flags = log_flags

    def run(self, taken: Taken) -> None:
        """Run a taken file to its end. A run that fails does not stop the service."""
        folder = self.settings.runs / taken.path.stem
        if is_over(folder) and not taken.interrupted:
            warn(f"{taken.path.name}: {folder} holds a finished run; give the run file another name")
            return self.queue.put_away(taken.path, FAILED)
        state = StateFile(folder)
        try:
            if not is_over(folder):
                self._federate(read_queued_run(taken.path, self.settings), state)
        except KeyboardInterrupt as stop:
            state.write("interrupted")
            raise KeyboardInterrupt(f"{stop}; {taken.path.stem} goes on when the service starts again") from None
        except FedHealthError as error:
            return self._fail(taken, state, str(error))
        except Exception as error:
            logging.getLogger(__name__).exception("run %s", taken.path.stem)
            return self._fail(taken, state, f"the server failed ({type(error).__name__})")
        try:
            if (folder / SUMMARY).exists():  # with feasibility = true there is none
                write_report(folder)
        except FedHealthError as error:
            warn(f"no report of run {taken.path.stem}: {error}")
        state.write("finished")
        self.queue.put_away(taken.path, FINISHED)
        say(f"run {taken.path.stem} is finished; run folder: {folder}")
        return None

    def _fail(self, taken: Taken, state: StateFile, reason: str) -> None:
        state.write("failed", reason)
        self.queue.put_away(taken.path, FAILED)
        warn(f"run {taken.path.stem} failed: {reason}")

    def _federate(self, queued: QueuedRun, state: StateFile) -> None:
        """One run, from its beginning or from where it was interrupted."""
        state.write("waiting")
        settings = self._settings(queued)
        with opened_run(settings, warn) as run, opened_screens(settings, run.folder, say, warn) as opened:
            screens = self._with_page(opened, queued.name)
            say(f"run {queued.name}{' goes on' if run.past else ''}; run folder: {run.folder}")
            with self.grid.running(
                {**queued.run_config(), **run.settings.to_run_config()},
                run.settings.hospitals,
                screens.show_link,
                run.schema,
                allow=settings.allow,
                members=run.past.remaining
                if run.past
                else None,  # a run that goes on has begun: only its hospitals may join
            ):
                link = "TLS" if settings.tls else "plain text"
                writer = FolderWriter(run.folder, settings.keep, settings.max_wait, warn, link)
                app = make_server_app(
                    *screens.listeners,
                    state.show,
                    writer=writer,
                    admission=self.grid,
                    max_wait=settings.max_wait,
                    past=run.past,
                    schema=run.schema,
                )
                app(self.grid, self.grid.context)

    def _with_page(self, screens: Screens, run: str) -> Screens:
        if self.page is None:
            return screens
        self.page.begin(run)
        return Screens([*screens.screens, self.page])

    def _settings(self, queued: QueuedRun) -> ServerSettings:
        folder = self.settings.runs / queued.name
        begun = (folder / SETTINGS).exists()
        place = {"resume": folder} if begun else {"out": folder, "schema": queued.schema}
        return self.settings.for_run(queued.federation, queued.allow, **place, **self.log_flags)
