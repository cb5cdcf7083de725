"""A grid restricted to some nodes."""

from collections.abc import Collection, Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedhealth.common.errors import RunError

MOST_LOOKS = 4
"""How often a strategy may list the nodes to send one kind of message; they stay the same, so waiting does not help."""


class NodeSubsetGrid(Grid):
    """A `Grid` that lists only some nodes, so that a strategy that selects all nodes selects these."""

    def __init__(self, grid: Grid, nodes: Collection[int]) -> None:
        self._grid = grid
        self._nodes = nodes
        self._looks = 0

    def get_node_ids(self) -> list[int]:
        """The nodes.

        Raises
        ------
        RunError
            The strategy waits for more of them (Flower's `min_available_nodes`), and no more will come.
        """
        self._looks += 1
        if self._looks > MOST_LOOKS:
            raise RunError(
                f"the strategy waits for more than the {len(self._nodes)} hospitals that are here; give it a smaller "
                "min_available_nodes, min_train_nodes and min_evaluate_nodes"
            )
        return sorted(self._nodes)

    @property
    def run(self) -> Run:
        """As in the wrapped grid."""
        return self._grid.run

    def set_run(self, run: Run) -> None:
        """As in the wrapped grid."""
        self._grid.set_run(run)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As in the wrapped grid."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As in the wrapped grid."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As in the wrapped grid."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """As in the wrapped grid."""
        return self._grid.send_and_receive(messages, timeout=timeout)
