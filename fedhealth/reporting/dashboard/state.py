"""What is known of a run that is on: events and news of the link in, the record of the report's pages out.

Belongs to one thread, the live page's. What it shows is made by `html/`; who may ask for it is decided in `app.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.server.events import Event, RunFinished, RunStarted, Waiting
from fedhealth.server.records import RoundRecord, RunDescription
from fedhealth.server.run_files import describe_settings

MOST_REFUSED = 5
NOTHING_YET = RunDescription(version="", schema="", dataset="", hospitals=(), settings={"rounds": 1})


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
    settings: RunDescription = NOTHING_YET
    history: list[RoundRecord] = field(default_factory=list)
    finished: RunFinished | None = None

    def hear(self, event: Event) -> None:
        """Take in an event of the run."""
        self.version += 1
        match event:
            case Waiting():
                self.wanted = event.wanted
            case RunStarted():
                self.phase, self.settings = "running", describe_settings(event)
            case RoundRecord():
                self.history.append(event)
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

    def record(self) -> RunRecord:
        """As if the run's folder had been read."""
        histograms = self.finished.histograms if self.finished else {}
        return RunRecord(self.name, self.settings, self.history, self.finished, histograms)

    def states(self) -> list[tuple[str, str, str]]:
        """(hospital, state, why): here, working, late, gone or done."""
        names = [member.name for member in self.settings.hospitals] or sorted(self.here | self.gone)
        left_out = self.history[-1].left_out if self.history else {}
        return [(name, *self._state(name, left_out)) for name in names]

    def _state(self, name: str, left_out: Mapping[str, str]) -> tuple[str, str]:
        if self.phase == "finished":
            return ("late", left_out[name]) if name in left_out else ("done", "")
        if name in self.gone:
            return "gone", left_out.get(name, "")
        if self.phase == "waiting":
            return "here", ""
        return ("late", left_out[name]) if name in left_out else ("working", "")
