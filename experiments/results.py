"""The results of a study: one record per number, and everything that came out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.paired_bootstrap import Difference, Repetition


@dataclass(frozen=True)
class Result:
    """One number of the study; `n` repetitions stand behind its mean and standard deviation."""

    protocol: str
    method: str
    hospital: str
    """A hospital, `mean` (unweighted, over hospitals) or `union` (all test patients together)."""
    metric: str
    mean: float
    std: float
    n: int
    epsilon: float | None = None
    """What the method promised each patient (differential privacy); None for the others."""


@dataclass(frozen=True)
class Study:
    """Everything that came out."""

    data: str
    """Whose patients, in one line."""
    results: Sequence[Result]
    differences: Mapping[tuple[str, str, str], Sequence[Difference]]
    """(protocol, method, reference) -> differences."""
    tested: Mapping[tuple[str, str], Sequence[Repetition]]
    """(protocol, method) -> test patients with their risks, for figures; never written to a file."""
    choices: Mapping[str, Mapping[str, int]]
    """Protocol -> how often each candidate was chosen on training rows; empty unless that was asked for."""

    def to_json(self) -> list[dict[str, Any]]:
        """The results as plain records."""
        records = [asdict(result) for result in self.results]
        return [{key: value for key, value in record.items() if value is not None} for record in records]

    def differences_json(self) -> list[dict[str, Any]]:
        """The differences as plain records."""
        return [
            {"protocol": protocol, "method": method, "reference": reference, **asdict(each)}
            for (protocol, method, reference), found in self.differences.items()
            for each in found
        ]
