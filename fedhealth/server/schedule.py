"""Which hospitals train in a round, and after which rounds is evaluated: the same draw in whatever engine a run runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedhealth.config.federation import share_of

STREAM = 0x5A3B1E
"""Keeps the draws apart from every other use of the same seed."""


@dataclass(frozen=True)
class RoundSchedule:
    """A run's rounds as far as they are known beforehand; by default all train and evaluate in every round."""

    rounds: int = 0
    evaluate_every: int = 1
    fraction: float = 1.0
    seed: int = 0

    def evaluates_after(self, round_num: int) -> bool:
        """Whether the hospitals evaluate after this round; after the last they always do."""
        return round_num == self.rounds or (self.evaluate_every > 0 and round_num % self.evaluate_every == 0)

    def count(self, members: int) -> int:
        """How many of a federation's members train in a round."""
        return share_of(members, self.fraction)

    def draw(self, round_num: int, names: Sequence[str], members: int) -> set[str]:
        """Some of the names, whatever their order: the same seed, round and names give the same draw."""
        generator = np.random.default_rng([STREAM, self.seed, round_num])
        size = min(self.count(members), len(names))
        ordered = sorted(names)
        return {ordered[place] for place in generator.choice(len(ordered), size=size, replace=False)}
