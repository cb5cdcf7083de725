"""The same two apps in one process, without a network: for tests and studies."""

from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.wire.messages import RUN_ID, failure_reply, node_id_of, set_message_id
from fedhealth.wire.one_run import OneRunGrid


class InProcessGrid(OneRunGrid):
    """A `Grid` whose hospitals are function calls.

    Parameters
    ----------
    app : the hospitals' app.
    hospitals : hospital name -> node config (the app reads `data`, the CSV's path).
    run_config : the federation's settings.
    """

    def __init__(
        self, app: ClientApp, hospitals: Mapping[str, Mapping[str, Any]], run_config: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._app = app
        self._contexts = {
            node_id_of(name): Context(RUN_ID, node_id_of(name), dict(config), RecordDict(), dict(run_config))
            for name, config in hospitals.items()
        }
        self._replies: dict[str, Message] = {}
        self._sent = 0

    def get_node_ids(self) -> list[int]:
        """All hospitals, in the order of their ids."""
        return sorted(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let the hospitals answer at once; returns the messages' ids."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies, in the order of node ids; each is handed out once."""
        replies = [self._replies.pop(message_id) for message_id in message_ids]
        return sorted(replies, key=lambda reply: reply.metadata.src_node_id)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One reply per message, in the order of node ids; there is nothing to wait for."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        self._sent += 1
        message_id = str(self._sent)
        set_message_id(message, message_id)
        try:
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001  # as on the link: the server gets a word, whatever happens
            reply = failure_reply(message, error)
        self._replies[message_id] = reply
        return message_id
