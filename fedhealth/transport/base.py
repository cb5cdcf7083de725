"""The part of Flower's `Grid` interface that all our grids share."""

from collections.abc import Iterable, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedhealth.transport.incoming import Incoming
from fedhealth.transport.messages import RUN_ID, SERVER_NODE_ID, set_identity


class BaseGrid(Grid):
    """Base class of grids in a process that is the server of one run.

    Parameters
    ----------
    run : the run of a grid that is wrapped; None for a new one.
    """

    def __init__(self, run: Run | None = None) -> None:
        if run is None:  # else Flower has set the process's identity
            set_identity(SERVER_NODE_ID)
        self._run = run or Run.create_empty(run_id=RUN_ID)

    def set_run(self, run: Run) -> None:
        """Keep the run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def name_of(self, node_id: int) -> str | None:
        """The name under which this hospital joined; None if no hospital with that node id has joined."""
        raise NotImplementedError

    def declined(self) -> Mapping[str, str]:
        """Hospital -> why it does not take part, of those that have declined and have not joined since."""
        return {}

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """As `send_and_receive`; a grid that can yields each reply as it comes, and keeps none."""
        return self.send_and_receive(messages, timeout=timeout)

    def receive_groups(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[list[Incoming]]:
        """As `receive_each`, but replies that are here at the same time are yielded together."""
        for reply in self.receive_each(messages, timeout=timeout):
            yield [Incoming.of(reply)]

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Build a message (Flower keeps this for old apps)."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)


def by_node(replies: Iterable[Message]) -> list[Message]:
    """The replies in the order of node ids."""
    return sorted(replies, key=lambda reply: reply.metadata.src_node_id)
