"""The coordinator's console: lines above a progress bar in a terminal, plain lines in a pipe."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedhealth.reporting.console.feasibility_text import feasibility_text
from fedhealth.reporting.console.final_text import comparison_lines, importance_lines
from fedhealth.reporting.console.run_text import (
    MOST_LISTED,
    SYNTHETIC,
    count,
    footnotes,
    header_lines,
    pace_line,
    paused_line,
    round_line,
    round_notes,
    table_text,
)
from fedhealth.reporting.odds_ratio_table import as_table
from fedhealth.server.events import Dropped, Event, Paused, RunFinished, RunStarted, Waiting
from fedhealth.server.feasibility_record import Feasibility
from fedhealth.server.records import TOGETHER, RoundRecord

if TYPE_CHECKING:
    from rich.progress import Progress

LINK_TEXTS = {"awaited": "still waiting for", "late": "late reply discarded"}
"""Text for the link changes whose own name is not clear."""


class ServerConsole:
    """Prints a run's events with `say`; with `pace`, the last line is the speed of the run.

    `bar` allows a progress bar and coloured tables, where the output is a terminal.
    """

    def __init__(self, say: Callable[[str], None], pace: bool = False, bar: bool = True) -> None:
        self._say = say
        self._pace = pace
        self._terminal = bar and sys.stdout.isatty()
        self._joined: list[str] = []
        self._left: list[str] = []
        self._hospitals = 0
        self._dropped = 0
        self._rounds = 0
        self._progress: Progress | None = None

    def show_link(self, what: str, who: str) -> None:
        """Print who joined, left or was refused (called on the link's thread)."""
        if what == "joined":
            self._joined.append(who)
            self._left = [name for name in self._left if name != who]
        elif what == "left":
            self._joined = [name for name in self._joined if name != who]
            self._left.append(who)
        self._print(f"{LINK_TEXTS.get(what, what)}: {who}")

    def show(self, event: Event) -> None:
        """Print an event of the run."""
        match event:
            case Waiting():
                self._print(self._waiting_line(event))
            case RunStarted():
                self._hospitals, self._rounds = len(event.names), event.settings.rounds
                self._print_all([*self._more_dropped(), "", *header_lines(event), ""])
                self._start_progress()
            case Paused():
                self._print(paused_line(event))
            case Dropped(name=who) if who == TOGETHER:
                pass  # the error that ends the run has the reason
            case Dropped():
                self._print_all(self._count_dropped(event))
            case RoundRecord():
                self._print_all([round_line(event, self._rounds, self._hospitals), *round_notes(event)])
                if self._progress:
                    self._progress.update(self._progress.task_ids[0], completed=event.round_num)
            case RunFinished():
                self.close()
                self._print_all(["", table_text(event, self._terminal), *footnotes(event)])
                self._print_all([*importance_lines(event.importance), *comparison_lines(event.comparisons)])
                if event.odds_ratios:
                    self._print_all(["", *as_table(event.odds_ratios, terminal=self._terminal).split("\n"), ""])
                total = sum(record.seconds for record in event.rounds)
                self._print(f"{count(len(event.rounds), 'round')}: {total:.2f} s; whole run: {event.seconds:.1f} s")
                if "synthetic" in event.dataset:
                    self._print(SYNTHETIC)
                if self._pace:
                    self._print(pace_line(event))
            case Feasibility():
                self._print_all(["", feasibility_text(event, self._terminal), ""])

    def close(self) -> None:
        """Remove the progress bar."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _waiting_line(self, waiting: Waiting) -> str:
        # Flower's own engines do not report joins, so there a hospital has no name before its first reply.
        deadline = f"timeout in {waiting.seconds_left:.0f} s"
        if waiting.here >= waiting.wanted:
            unnamed = count(waiting.here - len(waiting.answered), "hospital")
            silent = ", ".join(sorted(set(self._joined) - set(waiting.answered))) or unnamed
            return f"waiting for replies from {silent} ({deadline})"
        names = [", ".join(sorted(self._joined))] if self._joined else []
        names += [f"left: {', '.join(sorted(self._left))}"] if self._left else []
        return f"waiting: {waiting.here} of {waiting.wanted} hospitals have joined ({'; '.join([*names, deadline])})"

    def _count_dropped(self, dropped: Dropped) -> list[str]:
        """The line of a hospital that is out of the run; none after many."""
        self._dropped += 1
        return [f"out of the run: {dropped.name} ({dropped.reason})"] if self._dropped <= MOST_LISTED else []

    def _more_dropped(self) -> list[str]:
        more = self._dropped - MOST_LISTED
        return [f"out of the run: {more:,} more (reasons: settings.json)"] if more > 0 else []

    def _start_progress(self) -> None:
        if not self._terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("round"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, transient=True)
        self._progress.add_task("rounds", total=self._rounds)
        self._progress.start()

    def _print_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._print(line)

    def _print(self, line: str) -> None:
        if self._progress:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self._say(line)
