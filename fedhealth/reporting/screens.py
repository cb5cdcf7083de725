"""The displays of a run of `server.py`: the console and, on request, the live page and tracking."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fedhealth.config.scripts import ServerSettings
from fedhealth.reporting.console.screen import ServerConsole
from fedhealth.server.events import OnEvent

if TYPE_CHECKING:
    from fedhealth.reporting.dashboard.app import Dashboard
    from fedhealth.reporting.tracking import Tracker

    Screen: TypeAlias = ServerConsole | Dashboard | Tracker


@dataclass(frozen=True)
class Screens:
    """The displays of one run."""

    screens: "Sequence[Screen]"

    @property
    def listeners(self) -> list[OnEvent]:
        """Their event listeners, for `make_server_app`."""
        return [screen.show for screen in self.screens]

    def show_link(self, what: str, who: str) -> None:
        """Pass on to all of them who joined, left or was refused."""
        for screen in self.screens:
            screen.show_link(what, who)


@contextmanager
def opened_screens(
    settings: ServerSettings, folder: Path, say: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[Screens]:
    """The displays that the settings ask for, closed at the end of the block.

    Raises
    ------
    UsageError
        A package for tracking is missing, or the port of the live page is taken.
    """
    with ExitStack() as stack:
        screens: list[Screen] = [
            stack.enter_context(
                closing(ServerConsole(say, bar=settings.log_format == "text" and not settings.timestamps))
            )
        ]
        if settings.track != "none":
            from fedhealth.reporting import tracking

            screens.append(stack.enter_context(tracking.tracking(settings.track, folder, warn)))
            say(f"tracking; to view it: {tracking.viewer_command(settings.track, folder)}")
        if settings.dashboard is not None:
            from fedhealth.reporting.dashboard import app

            screens.append(page := app.Dashboard(settings.dashboard, folder.name))
            say(f"live page: {stack.enter_context(page.serving())}")
        yield Screens(screens)
