"""Which hospitals train in a round, and after which rounds they evaluate; the sample is the same in every engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedhealth.config.federation import share_of

STREAM = 0x5A3B1E
"""Makes the samples independent of every other use of the same seed."""


@dataclass(frozen=True)
class RoundSchedule:
    """The schedule of a run's rounds; by default all hospitals train and evaluate in every round."""

    rounds: int = 0
    evaluate_every: int = 1
    fraction: float = 1.0
    seed: int = 0

    def evaluates_after(self, round_num: int) -> bool:
        """Whether the hospitals evaluate after this round; after the last they always do."""
        return round_num == self.rounds or (self.evaluate_every > 0 and round_num % self.evaluate_every == 0)

    def count(self, members: int) -> int:
        """Number of members that train in a round."""
        return share_of(members, self.fraction)

    def draw(self, round_num: int, names: Sequence[str], members: int) -> set[str]:
        """A random sample of the names; the same seed, round and set of names give the same sample."""
        ordered = sorted(names)
        return {ordered[place] for place in self.draw_places(round_num, len(ordered), members)}

    def draw_places(self, round_num: int, active: int, members: int) -> NDArray[np.int64]:
        """As `draw`: places among the sorted names of `active` hospitals, of `members` in the run."""
        generator = np.random.default_rng([STREAM, self.seed, round_num])
        return generator.choice(active, size=min(self.count(members), active), replace=False)
