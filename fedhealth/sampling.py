"""Which hospitals train in a round, and after which rounds is evaluated: the same draw in whatever engine a run runs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedhealth.settings import share_of

STREAM = 0x5A3B1E
"""Keeps the draws apart from every other use of the same seed."""


@dataclass(frozen=True)
class Plan:
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


class PartOfGrid(Grid):
    """A `Grid` on which only some nodes are seen; a strategy that asks everybody asks these, now."""

    def __init__(self, grid: Grid, nodes: Collection[int]) -> None:
        self._grid = grid
        self._nodes = nodes

    def get_node_ids(self) -> list[int]:
        """The nodes."""
        return sorted(self._nodes)

    @property
    def run(self) -> Run:
        """The grid's own."""
        return self._grid.run

    def set_run(self, run: Run) -> None:
        """As the grid does."""
        self._grid.set_run(run)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As the grid does."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the grid does."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As the grid does."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """As the grid does."""
        return self._grid.send_and_receive(messages, timeout=timeout)
