"""The queries after the rounds: one message per connected hospital; absent hospitals and invalid replies are left out."""

from typing import Any

from flwr.app import Message, MetricRecord, RecordDict
from flwr.app.error import Error

from fedhealth.server.finalization import FinalQueries
from fedhealth.server.records import Member
from fedhealth.transport.messages import SERVER_NODE_ID, node_id_of, set_identity, set_message_id

NAMES = ("cleveland", "hungary", "va", "zurich")
MEMBERS = [Member(node_id_of(name), name, "own", 60, 40, 20) for name in NAMES]


class FourHospitals:
    """Cleveland replies, Hungary sends an invalid reply, VA an error, Zurich is away."""

    def get_node_ids(self) -> list[int]:
        return [member.node_id for member in MEMBERS[:3]]

    def send_and_receive(self, messages: list[Message], *, timeout: float) -> list[Message]:
        assert timeout == 7.0
        for place, message in enumerate(messages):
            set_message_id(message, str(place))
        by_node = {message.metadata.dst_node_id: message for message in messages}
        assert sorted(by_node) == sorted(self.get_node_ids())
        one, other, third = (by_node[node] for node in self.get_node_ids())
        return [
            Message(RecordDict({"metrics": MetricRecord({"drop": 0.5})}), reply_to=one),
            Message(RecordDict({"metrics": MetricRecord({"rows": 0.5})}), reply_to=other),
            Message(Error(code=0, reason="no\nsense"), reply_to=third),
        ]


def read_drop(content: RecordDict, member: Member) -> tuple[str, float]:
    metrics: Any = content["metrics"]
    if "drop" not in metrics:
        raise ValueError("no drop")
    return member.name, metrics["drop"]


def test_each_hospital_has_a_reply_or_a_reason() -> None:
    set_identity(SERVER_NODE_ID)
    grid: Any = FourHospitals()
    queries = FinalQueries(grid, MEMBERS, None, timeout=7.0)
    answers, silent = queries.query("query.importance", RecordDict(), read_drop)
    assert answers == {"cleveland": ("cleveland", 0.5)}
    assert silent == {"hungary": "no drop", "va": r"no\nsense", "zurich": "not connected"}
