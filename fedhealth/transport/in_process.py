"""A Flower `Grid` whose hospitals run in this process, without a network."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.transport.base import BaseGrid, by_node
from fedhealth.transport.messages import (
    RUN_ID,
    SERVER_NODE_ID,
    checked_messages,
    failure_reply,
    node_id_of,
    set_message_id,
)

HospitalApps = Mapping[str, ClientApp]
"""Hospital name -> its app; for very many hospitals, a mapping that creates apps on demand saves memory."""


class InProcessGrid(BaseGrid):
    """A `Grid` whose hospitals are function calls.

    Parameters
    ----------
    hospitals : hospital name -> its app.
    run_config : the federation's settings.

    Attributes
    ----------
    context : the Flower `Context` for a `ServerApp` that runs on this grid.
    """

    def __init__(self, hospitals: HospitalApps, run_config: Mapping[str, Any]) -> None:
        super().__init__()
        self.context = server_context(run_config)
        self._hospitals = Hospitals(hospitals, hospitals, run_config)
        self._replies: dict[str, Message] = {}
        self._sent = 0

    def get_node_ids(self) -> list[int]:
        """The node ids of all hospitals, in order."""
        return self._hospitals.node_ids

    def name_of(self, node_id: int) -> str | None:
        """The name of a hospital of this grid."""
        return self._hospitals.names.get(node_id)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let the hospitals process the messages at once; returns the messages' ids."""
        return [self._deliver(message) for message in checked_messages(messages)]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies, in the order of node ids; each is returned once."""
        replies = [self._replies.pop(message_id) for message_id in message_ids]
        return by_node(replies)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply per message, in the order of node ids."""
        return self.pull_messages(self.push_messages(messages))

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """One reply per message, in the order of the messages; a hospital is called when its reply is needed."""
        for message in checked_messages(messages):
            yield self._replies.pop(self._deliver(message))

    def _deliver(self, message: Message) -> str:
        self._sent += 1
        message_id = str(self._sent)
        set_message_id(message, message_id)
        self._replies[message_id] = self._hospitals.reply(message)
        return message_id


class Hospitals:
    """Hospitals in this process: those of `apps` with these `names`. State that an app stores in its context is kept."""

    def __init__(self, apps: HospitalApps, names: Iterable[str], run_config: Mapping[str, Any]) -> None:
        self._apps = apps
        self.names = {node_id_of(name): name for name in names}
        self._run_config = dict(run_config)
        self._contexts: dict[int, Context] = {}
        self.node_ids = sorted(self.names)

    def reply(self, message: Message) -> Message:
        """The reply of the hospital that the message is addressed to."""
        node = message.metadata.dst_node_id
        context = self._contexts.get(node) or Context(RUN_ID, node, {}, RecordDict(), self._run_config)
        try:
            reply = self._apps[self.names[node]](message, context)
        except Exception as error:  # noqa: BLE001  # as over gRPC: the server gets a reply whatever fails
            return failure_reply(message, error)
        if len(context.state):
            self._contexts[node] = context
        return reply


def server_context(run_config: Mapping[str, Any]) -> Context:
    """The Flower `Context` for a `ServerApp`."""
    return Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), dict(run_config))
