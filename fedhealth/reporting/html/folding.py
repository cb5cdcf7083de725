"""Very many hospitals on a page: the extreme ones are shown, and all of them are folded away below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedhealth.reporting.format import POOLED
from fedhealth.reporting.html.run_reader import RunRecord

UNFOLDED, EXTREMES = 30, 10
"""With more rows than the first, only so many from the top and from the bottom are shown at once."""
Row = tuple[str, ...]


@dataclass(frozen=True)
class FoldedRows:
    """The rows of a table: `shown` at once, `all` of them (empty if all are shown), `column` by which they are sorted."""

    shown: Sequence[Row]
    all: Sequence[Row] = ()
    column: str = ""


def fold_rows(headings: Sequence[str], rows: Sequence[Row], column: str) -> FoldedRows:
    """Of very many rows, those with the ten highest and the ten lowest numbers in a column, and the row of the pool."""
    hospitals = [row for row in rows if row[0] != POOLED]
    if len(hospitals) <= UNFOLDED:
        return FoldedRows(rows)
    place = headings.index(column)
    numbered = [(float(row[place]), row) for row in hospitals if _is_number(row[place])]
    ranked = [row for _, row in sorted(numbered, key=lambda each: -each[0])]
    extremes = ranked if len(ranked) <= 2 * EXTREMES else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    return FoldedRows([*extremes, *(row for row in rows if row[0] == POOLED)], rows, column)


def fold_participation(rows: Sequence[tuple[str, list[str]]]) -> Sequence[tuple[str, list[str]]]:
    """Of very many hospitals, the twenty that missed or were left out of the most rounds; else all."""
    if len(rows) <= UNFOLDED:
        return rows
    return sorted(rows, key=lambda row: sum(cell == "trained" for cell in row[1]))[: 2 * EXTREMES]


def full_participation(run: RunRecord) -> str:
    """The sentence about a run in which no hospital was left out."""
    drawn = next((len(entry.asked) for entry in run.history if entry.asked), None)
    if drawn is None:
        return "Every hospital took part in every round."
    return (
        f"{drawn:,} of {len(run.names):,} hospitals were drawn to train in a round (--fraction), and all of them did."
    )


def fold_states(states: Sequence[tuple[str, str, str]]) -> Sequence[tuple[str, str, str]]:
    """Of very many hospitals, the first twenty, those that are late or left before all others; else all."""
    if len(states) <= UNFOLDED:
        return states
    return sorted(states, key=lambda state: state[1] not in ("late", "left"))[: 2 * EXTREMES]


def count_states(states: Sequence[tuple[str, str, str]]) -> Mapping[str, int]:
    """State -> number of hospitals in it."""
    found = [state for _, state, _ in states]
    return {state: found.count(state) for state in dict.fromkeys(found)}


def short_list(names: Sequence[str]) -> str:
    """The names, or only their number if they are very many."""
    return ", ".join(names) if len(names) <= 2 * EXTREMES else f"{len(names)} hospitals"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
