"""What is known of a run that is on: events and words of the link in, the record of the report's pages out.

Belongs to one thread, the live page's. What it shows is made by `report/`; who may ask for it is `dashboard.py`'s affair.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedhealth.reporting.html.run_reader import RunFiles
from fedhealth.server.events import Event, RoundRecord, RunFinished, RunStarted, Waiting
from fedhealth.server.run_json import history_json, settings_json

MOST_REFUSED = 5
NOTHING_YET: Mapping[str, Any] = {"dataset": "", "hospitals": (), "settings": {"rounds": 1}, "version": ""}


@dataclass
class LiveRun:
    """The run so far; `version` grows with everything that is heard."""

    name: str
    version: int = 0
    phase: str = "waiting"
    """waiting, running or finished."""
    wanted: int = 0
    here: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=lambda: NOTHING_YET)
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: RunFinished | None = None

    def hear(self, event: Event) -> None:
        """Take in an event of the run."""
        self.version += 1
        match event:
            case Waiting():
                self.wanted = event.wanted
            case RunStarted():
                self.phase, self.settings = "running", settings_json(event)
            case RoundRecord():
                self.history.append(history_json(event))
            case RunFinished():
                self.phase, self.finished = "finished", event

    def hear_link(self, what: str, who: str) -> None:
        """Take in who joined, left or was refused."""
        self.version += 1
        if what == "joined":
            self.here.add(who)
            self.gone.discard(who)
        elif what == "left":
            self.here.discard(who)
            self.gone.add(who)
        elif what == "refused":
            self.refused = [*self.refused, who][-MOST_REFUSED:]

    def files(self) -> RunFiles:
        """As if the run's folder had been read."""
        last = self.finished.final if self.finished else None
        return RunFiles(
            name=self.name,
            settings=self.settings,
            history=self.history,
            summary={"seconds": self.finished.seconds} if self.finished else {},
            histograms=last.histograms if last else {},
            subgroups=self.finished.subgroups if self.finished else None,
        )

    def states(self) -> list[tuple[str, str, str]]:
        """(hospital, state, why): here, working, late, gone or done."""
        members = [member["name"] for member in self.settings["hospitals"]]
        names = members or sorted(self.here | self.gone)
        left_out = self.history[-1]["left_out"] if self.history else {}
        return [(name, *self._state(name, left_out)) for name in names]

    def _state(self, name: str, left_out: Mapping[str, str]) -> tuple[str, str]:
        if self.phase == "finished":
            return ("late", left_out[name]) if name in left_out else ("done", "")
        if name in self.gone:
            return "gone", left_out.get(name, "")
        if self.phase == "waiting":
            return "here", ""
        return ("late", left_out[name]) if name in left_out else ("working", "")
