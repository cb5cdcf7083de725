"""The records of a study: single results, and the study as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.paired_bootstrap import Difference, Repetition


@dataclass(frozen=True)
class Result:
    """One metric of one method: mean and standard deviation over `n` repetitions."""

    protocol: str
    method: str
    hospital: str
    """A hospital, `mean` (unweighted, over hospitals) or `union` (pooled test patients)."""
    metric: str
    mean: float
    std: float
    n: int
    epsilon: float | None = None
    """Of the method's differential privacy guarantee; None without one."""
    hospitals: tuple[int, int] | None = None
    """Of a `mean`: the fewest and the most hospitals that it is over in a repetition."""


@dataclass(frozen=True)
class Study:
    """All results of a study."""

    data: str
    """Description of the data, in one line."""
    results: Sequence[Result]
    differences: Mapping[tuple[str, str, str], Sequence[Difference]]
    """(protocol, method, reference) -> differences."""
    tested: Mapping[tuple[str, str], Sequence[Repetition]]
    """(protocol, method) -> test patients with their risks, for figures; not written to a file."""
    choices: Mapping[str, Mapping[str, int]]
    """Protocol -> how often each candidate was selected on training rows; empty without --choose."""

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
