"""All hospitals as one member: one complete sum or one error, whatever single hospitals do."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedhealth.common.pairwise_masks import mask
from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import HEART
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.server.events import Waiting
from fedhealth.server.masked_grid import NO_PATIENCE, TOGETHER_NODE, MaskedGrid, Patience
from fedhealth.server.records import TOGETHER
from fedhealth.transport.base import BaseGrid
from fedhealth.transport.messages import (
    ABSENT,
    APP_FAILED,
    SERVER_NODE_ID,
    error_reply,
    node_id_of,
    set_identity,
    set_message_id,
)
from fedhealth.transport.protocol import setup
from fedhealth.transport.protocol.masked_vectors import context_of, encode_masked
from fedhealth.transport.protocol.roster import Entry, KeyRoster
from fedhealth.transport.protocol.setup import LabelCounts, Who
from fedhealth.transport.protocol.sum_messages import SumMessages
from tests.support.masked_roster import deterministic_secrets
from tests.support.toy_hospitals import stop_clocks

NAMES = ("cleveland", "hungary", "va")
ROSTER = KeyRoster(bytes(16), tuple(Entry(name, bytes([place]) * 32) for place, name in enumerate(NAMES)))
SETTINGS = FederationSettings(hospitals=3, secure_aggregation=True)
MESSAGES = SumMessages(SETTINGS, HEART, NUM_BINS, list_groups(HEART))
COUNTS = {"cleveland": (1, 10), "hungary": (2, 20), "va": (3, 30)}


@dataclass
class Hospitals(BaseGrid):
    """Three hospitals that mask their counts of labels; each can be away, fail, be late, or send something else."""

    away: set[str] = field(default_factory=set)
    errors: dict[str, tuple[str, int]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    said: dict[str, Callable[[Message], RecordDict]] = field(default_factory=dict)
    received: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        BaseGrid.__init__(self)
        self.names = {node_id_of(name): name for name in NAMES}
        self.replies: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        return [node for node, name in self.names.items() if name not in self.away]

    def name_of(self, node_id: int) -> str | None:
        return self.names.get(node_id)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self.received.append(message)
            ids.append(f"single {len(self.received)}")
            set_message_id(message, ids[-1])
            self.replies[ids[-1]] = self.reply(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ready = [each for each in message_ids if self.names[self.replies[each].metadata.src_node_id] not in self.late]
        return [self.replies.pop(each) for each in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        yield from reversed(self.send_and_receive(messages, timeout=timeout))

    def reply(self, message: Message) -> Message:
        name = self.names[message.metadata.dst_node_id]
        if name in self.away:
            return error_reply(message, "not connected")
        if name in self.errors:
            return error_reply(message, *self.errors[name])
        return Message(self.said.get(name, lambda asked: masked(name, asked))(message), reply_to=message)


def masked(name: str, message: Message, counts: Mapping[str, tuple[int, int]] = COUNTS) -> RecordDict:
    """An honest hospital's masked counts of labels."""
    request, kind = message.content, message.metadata.message_type
    layout = MESSAGES.layout(kind, request)
    context = context_of(ROSTER.digest, SETTINGS.to_run_config(), kind, request, layout)
    words = layout.join({"labels": np.array(counts[name])}, context)
    return encode_masked(mask(words, name, deterministic_secrets(name, NAMES), context))


@pytest.fixture
def hospitals() -> Hospitals:
    return Hospitals()


@pytest.fixture
def grid(hospitals: Hospitals) -> MaskedGrid:
    return make_grid(hospitals)


def make_grid(hospitals: Hospitals, patience: Patience = NO_PATIENCE) -> MaskedGrid:
    nodes = {name: node for node, name in hospitals.names.items()}
    who = Who(TOGETHER, "own", HEART.fingerprint)
    return MaskedGrid(hospitals, ROSTER, nodes, MESSAGES, who, patience=patience)


def ask(grid: Grid, kind: str = setup.LABEL_COUNTS) -> Message:
    message = Message(setup.encode_empty_request(), dst_node_id=TOGETHER_NODE, message_type=kind)
    (reply,) = grid.send_and_receive([message])
    return reply


def test_a_message_goes_to_each_hospital_of_the_roster_and_the_reply_is_the_sum(
    grid: MaskedGrid, hospitals: Hospitals
) -> None:
    reply = ask(grid)
    assert setup.decode_label_counts(reply.content) == LabelCounts(6, 60)
    assert reply.metadata.src_node_id == TOGETHER_NODE
    assert sorted(each.metadata.dst_node_id for each in hospitals.received) == sorted(hospitals.names)
    assert {each.metadata.group_id for each in hospitals.received} == {ROSTER.run_id.hex()} == {grid.group}


def test_there_is_one_node_for_all_hospitals(grid: MaskedGrid) -> None:
    assert grid.get_node_ids() == [TOGETHER_NODE]
    assert grid.name_of(TOGETHER_NODE) == TOGETHER
    assert grid.name_of(node_id_of("va")) is None


def test_the_identity_that_flower_has_given_to_the_process_is_kept(hospitals: Hospitals) -> None:
    TaskIdentity.run_id = 4749
    try:
        make_grid(hospitals)
        assert TaskIdentity.run_id == 4749
    finally:
        set_identity(SERVER_NODE_ID)


def test_a_missing_hospital_is_waited_for_and_then_all_are_asked_the_same_again(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, events = stop_clocks(monkeypatch), list[object]()
    grid = make_grid(hospitals, Patience(60.0, events.append))
    hospitals.away.add("va")
    clock.later(20.0, hospitals.away.clear)
    assert setup.decode_label_counts(ask(grid).content) == LabelCounts(6, 60)
    assert len(hospitals.received) == 2 * len(NAMES)
    assert all(isinstance(event, Waiting) and event.answered == ["cleveland", "hungary"] for event in events)
    assert events


def test_the_waiting_ends_with_the_name_of_who_is_still_missing(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = stop_clocks(monkeypatch)
    grid = make_grid(hospitals, Patience(60.0, lambda event: None))
    hospitals.away.add("va")
    begun, reply = clock.now, ask(grid)
    assert (reply.error.code, reply.error.reason) == (ABSENT, "va: not connected")
    assert 60.0 <= clock.now - begun < 61.0


def test_a_message_that_was_pushed_has_a_reply_when_the_last_hospital_has_replied(
    grid: MaskedGrid, hospitals: Hospitals
) -> None:
    hospitals.late = {"hungary", "va"}
    message = Message(setup.encode_empty_request(), dst_node_id=TOGETHER_NODE, message_type=setup.LABEL_COUNTS)
    ids = grid.push_messages([message])
    assert grid.pull_messages(ids) == []
    hospitals.late = {"va"}
    assert grid.pull_messages(ids) == []
    hospitals.late = set()
    (reply,) = grid.pull_messages(ids)
    assert setup.decode_label_counts(reply.content) == LabelCounts(6, 60)
    assert reply.metadata.reply_to_message_id == ids[0]


def test_a_hospital_that_is_away_is_named_and_all_together_are_absent(grid: MaskedGrid, hospitals: Hospitals) -> None:
    hospitals.away.add("va")
    reply = ask(grid)
    assert (reply.error.code, reply.error.reason) == (ABSENT, "va: not connected")
    hospitals.away.clear()
    assert setup.decode_label_counts(ask(grid).content) == LabelCounts(6, 60)


def test_a_hospital_that_never_replies_is_named(grid: MaskedGrid, hospitals: Hospitals) -> None:
    hospitals.late.add("hungary")
    reply = ask(grid)
    assert (reply.error.code, reply.error.reason) == (ABSENT, "hungary: did not reply")


def test_hospitals_that_failed_are_all_named_in_order_and_do_not_come_back(
    grid: MaskedGrid, hospitals: Hospitals
) -> None:
    hospitals.errors = {"va": ("its weights are not finite", APP_FAILED), "cleveland": ("not connected", ABSENT)}
    reply = ask(grid)
    assert reply.error.code == APP_FAILED
    assert reply.error.reason == "cleveland: not connected; va: its weights are not finite"


def test_a_reply_of_another_form_names_its_hospital(grid: MaskedGrid, hospitals: Hospitals) -> None:
    hospitals.said["va"] = lambda message: setup.encode_label_counts(LabelCounts(3, 30))
    reply = ask(grid)
    assert reply.error.code == APP_FAILED
    assert reply.error.reason == "va: it sent labels instead of masked"


def test_a_hospital_that_masks_something_else_is_recognised_in_the_sum(grid: MaskedGrid, hospitals: Hospitals) -> None:
    def lie(message: Message) -> RecordDict:
        words = masked("va", message)["masked"]["words"].numpy()  # type: ignore[index, union-attr]
        return encode_masked(words + np.uint64(1))

    hospitals.said["va"] = lie
    reply = ask(grid)
    assert reply.error.code == APP_FAILED
    assert reply.error.reason == (
        "the masks do not cancel: a hospital was asked something else, or sent something else"
    )


def test_what_the_numbers_say_is_checked_as_in_any_hospitals_reply(grid: MaskedGrid, hospitals: Hospitals) -> None:
    hospitals.said["va"] = lambda message: masked("va", message, {**COUNTS, "va": (-100, 0)})
    reply = ask(grid)
    assert setup.decode_label_counts(reply.content) == LabelCounts(-97, 30)


def test_initial_weights_come_from_one_hospital_in_the_clear(grid: MaskedGrid, hospitals: Hospitals) -> None:
    weights = setup.encode_initial_weights({"w": np.zeros(2, np.float32)})
    for name in NAMES:
        hospitals.said[name] = lambda message: weights
    assert ask(grid, setup.INITIAL_WEIGHTS).content == weights
    assert len(hospitals.received) == 1


def test_the_description_of_all_is_asked_for_as_counts(grid: MaskedGrid, hospitals: Hospitals) -> None:
    for name in NAMES:
        hospitals.errors[name] = ("stop", APP_FAILED)
    ask(grid, setup.DESCRIBE)
    assert {each.metadata.message_type for each in hospitals.received} == {setup.COUNTS_SUM}


def test_what_cannot_be_summed_is_sent_to_nobody(grid: MaskedGrid, hospitals: Hospitals) -> None:
    with pytest.raises(ValueError, match=r"^replies to query\.finish are not summed$"):
        ask(grid, "query.finish")
    assert hospitals.received == []


def test_a_second_reply_of_a_hospital_changes_nothing(grid: MaskedGrid, hospitals: Hospitals) -> None:
    class Talkative(Hospitals):
        def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
            replies = list(super().receive_each(messages, timeout=timeout))
            yield from (*replies[:2], *replies)

    nodes = {name: node for node, name in hospitals.names.items()}
    talkative = MaskedGrid(Talkative(), ROSTER, nodes, MESSAGES, Who(TOGETHER, "own", HEART.fingerprint))
    assert setup.decode_label_counts(ask(talkative).content) == LabelCounts(6, 60)
