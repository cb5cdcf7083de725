"""The state of a run in progress: built from events and link changes, read as the record that report pages are made from.

Used by one thread only, the live page's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import heart_disease
from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.server.events import Event, RunFinished, RunStarted, Waiting
from fedhealth.server.records import RoundRecord, RunDescription, name_each
from fedhealth.server.run_files import describe_settings

MOST_REFUSED = 5
NOT_STARTED = RunDescription(version="", schema="", dataset="", hospitals=(), settings={"rounds": 1})


@dataclass
class LiveRun:
    """The run so far; every update increases `version`."""

    name: str
    version: int = 0
    phase: str = "waiting"
    """waiting, running or finished."""
    wanted: int = 0
    joined: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    settings: RunDescription = NOT_STARTED
    schema: Schema = field(default_factory=heart_disease)
    history: list[RoundRecord] = field(default_factory=list)
    finished: RunFinished | None = None

    def on_event(self, event: Event) -> None:
        """Update from an event of the run."""
        self.version += 1
        match event:
            case Waiting():
                self.wanted = event.wanted
            case RunStarted():
                self.phase, self.settings, self.history = "running", describe_settings(event), list(event.rounds)
                self.schema = event.schema
            case RoundRecord():
                self.history.append(event)
            case RunFinished():
                self.phase, self.finished = "finished", event

    def on_link(self, what: str, who: str) -> None:
        """Update from a hospital that joined, left or was refused."""
        self.version += 1
        if what == "joined":
            self.joined.add(who)
            self.left.discard(who)
        elif what == "left":
            self.joined.discard(who)
            self.left.add(who)
        elif what == "refused":
            self.refused = [*self.refused, who][-MOST_REFUSED:]

    def record(self) -> RunRecord:
        """The run so far, as `read_run` would read its folder."""
        histograms = self.finished.histograms if self.finished else {}
        return RunRecord(self.name, self.settings, self.schema, self.history, self.finished, histograms)

    def states(self) -> list[tuple[str, str, str]]:
        """(hospital, state, reason); the state is joined, working, late, left, done, or refused before round 1."""
        names = list(self.settings.roster) or [member.name for member in self.settings.hospitals]
        names = names or sorted(self.joined | self.left)
        left_out = name_each(self.history[-1].left_out, self.settings.roster) if self.history else {}
        refused = [(name, "refused", reason) for name, reason in self.settings.left_out.items()]
        return [*((name, *self._state(name, left_out)) for name in names), *refused]

    def _state(self, name: str, left_out: Mapping[str, str]) -> tuple[str, str]:
        if self.phase == "finished":
            return ("late", left_out[name]) if name in left_out else ("done", "")
        if name in self.left:
            return "left", left_out.get(name, "")
        if self.phase == "waiting":
            return "joined", ""
        return ("late", left_out[name]) if name in left_out else ("working", "")
