"""FedAvg by hand, and how rounds handle replies, errors, missing replies and strikes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedhealth.common.array_codec import read_array
from fedhealth.common.errors import PROTOCOL_VIOLATION, RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.models.update_clipping import clip_update
from fedhealth.server.admission import OpenAdmission
from fedhealth.server.app import federate
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.events import Dropped, Event, Paused, RunFinished
from fedhealth.server.participation import Roster, RoundPolicy
from fedhealth.server.records import Member, RoundRecord
from fedhealth.server.rounds import GuardedStrategy
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.strategies.registry import make_strategy
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import SERVER_NODE_ID, error_reply, node_id_of, set_identity, set_message_id
from fedhealth.transport.protocol.evaluation import EvaluateReply, encode_evaluate_reply
from fedhealth.transport.protocol.fields import decode_weights
from tests.support.run_keeping import CheckpointList
from tests.support.toy_hospitals import (
    Clock,
    Tamper,
    Toy,
    ToyHospital,
    as_sent,
    make_toy,
    stop_clocks,
    three_hospitals,
)


def arrays_of(elements: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return st.lists(elements, min_size=4, max_size=4).map(lambda values: np.array(values, np.float32))


CLEVELAND, HUNGARY, VA = (node_id_of(name) for name in ("cleveland", "hungary", "va"))
NAMES = {CLEVELAND: "cleveland", HUNGARY: "hungary", VA: "va"}
TRAIN_PATIENTS = {CLEVELAND: 10, HUNGARY: 30, VA: 60}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stop_clocks(monkeypatch)


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    set_identity(SERVER_NODE_ID)


def ask(node_id: int, message_type: str = "train") -> Message:
    """A message to one hospital, numbered as in the gRPC link."""
    message = Message(RecordDict(), dst_node_id=node_id, message_type=message_type)
    set_message_id(message, str(node_id))
    return message


def trained(
    node_id: int, num_examples: int, weights: Mapping[str, Sequence[float]], train_loss: float = 0.5
) -> Message:
    """A reply to a train message."""
    arrays = ArrayRecord({name: Array(np.array(values, np.float32)) for name, values in weights.items()})
    metrics = MetricRecord({"num-examples": num_examples, "train-loss": train_loss})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=ask(node_id))


def mislabelled(node_id: int, values: np.ndarray | None, shape: tuple[int, ...]) -> Message:
    """Weights whose bytes do not match their description."""
    data = b"" if values is None else Array(values).data
    array = Array(dtype="float32", shape=shape, stype="numpy.ndarray", data=data)
    metrics = MetricRecord({"num-examples": 60, "train-loss": 0.5})
    return Message(RecordDict({"arrays": ArrayRecord({"w": array}), "metrics": metrics}), reply_to=ask(node_id))


def evaluated(node_id: int, risks: Sequence[float], labels: Sequence[int]) -> Message:
    """A reply to an evaluate message."""
    return Message(encode_evaluate_reply(EvaluateReply(as_sent(risks, labels))), reply_to=ask(node_id, "evaluate"))


def failed(node_id: int, reason: str, code: int = ErrorCode.NODE_UNAVAILABLE) -> Message:
    return error_reply(ask(node_id), reason, code)


ONE_ILL = dict.fromkeys(NAMES.values(), (1, 1))


class Recorder(GuardedStrategy):
    """FedAvg in a `GuardedStrategy`; `events` has its events and, at the end of each round, the record."""

    def __init__(self, start: Checkpoint, policy: RoundPolicy, events: list[Any]) -> None:
        self.roster = Roster(
            start.members,
            policy,
            RoundSchedule(),
            events.append,
            strikes=start.strikes,
            dropped=start.dropped,
            admission=OpenAdmission(),
        )
        super().__init__(start, self.roster)
        self.events = events

    def evaluate(self, round_num: int, replies: list[Message]) -> None:
        """The second half of a round."""
        self.events.append(self.aggregate_evaluate(round_num, replies).record)


def make_recorder(
    events: list[Any] | None = None, tested: Mapping[str, tuple[int, int]] | None = None, **rules: Any
) -> Recorder:
    """`tested` has the declared test patients and ill test patients of each hospital (default: 1 and 1)."""
    members = [
        Member(node, name, "own", TRAIN_PATIENTS[node], *(tested or ONE_ILL)[name]) for node, name in NAMES.items()
    ]
    start = Checkpoint(0, ArrayRecord(), None, make_strategy(FederationSettings(strategy="fedavg")), members, {}, {})
    quick = RoundPolicy(**{"min_hospitals": 1, "max_wait": 0.05, **rules})
    return Recorder(start, quick, [] if events is None else events)


def make_grid(*hospitals: str) -> InProcessGrid:
    return InProcessGrid({name: ClientApp() for name in hospitals}, {})


def run_train(
    recorder: Recorder, replies: list[Message], model: Mapping[str, Sequence[float]], round_num: int = 1
) -> ArrayRecord:
    """The first half of a round; `model` is what went out."""
    sent = ArrayRecord({name: Array(np.array(values, np.float32)) for name, values in model.items()})
    recorder.configure_train(round_num, sent, ConfigRecord(), make_grid("va"))
    arrays, _ = recorder.aggregate_train(round_num, replies)
    assert arrays is not None
    return arrays


def run_round(recorder: Recorder, train: list[Message], evaluate: list[Message]) -> None:
    """Both halves of round 1."""
    run_train(recorder, train, {"w": [9]})
    recorder.evaluate(1, evaluate)


# --- FedAvg -----------------------------------------------------------------------------------------------------------


def test_fedavg_weights_by_the_number_of_training_patients() -> None:
    replies = [
        trained(CLEVELAND, 10, {"w": [1, 10], "b": [0]}),
        trained(HUNGARY, 30, {"w": [2, 20], "b": [4]}),
        trained(VA, 60, {"w": [3, 30], "b": [-2]}),
    ]
    arrays = run_train(make_recorder(), replies, {"w": [9, 9], "b": [9]})
    # (10 * 1 + 30 * 2 + 60 * 3) / 100 = 2.5; (30 * 4 - 60 * 2) / 100 = 0
    np.testing.assert_allclose(arrays["w"].numpy(), [2.5, 25], rtol=1e-6)
    np.testing.assert_allclose(arrays["b"].numpy(), [0], atol=1e-6)
    assert arrays["w"].numpy().dtype == np.float32


def test_the_train_loss_is_weighted_the_same_way() -> None:
    records: list[RoundRecord] = []
    train = [trained(CLEVELAND, 10, {"w": [0]}, train_loss=1.0), trained(HUNGARY, 30, {"w": [0]}, train_loss=0.2)]
    run_round(make_recorder(records), train, [])
    assert records[0].train_loss == pytest.approx((10 * 1.0 + 30 * 0.2) / 40)


def test_weights_do_not_count_in_the_average_when_their_hospital_failed() -> None:
    replies = [trained(CLEVELAND, 10, {"w": [1]}), failed(HUNGARY, "left the federation"), trained(VA, 60, {"w": [8]})]
    arrays = run_train(make_recorder(), replies, {"w": [9]})
    np.testing.assert_allclose(arrays["w"].numpy(), [7])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: trained(VA, 60, {"w": [1, 2]}), "other names, shapes or types"),
        (lambda: trained(VA, 60, {"v": [1]}), "other names, shapes or types"),
        (lambda: trained(VA, 60, {"w": [np.nan]}), "not all are finite"),
        (lambda: trained(VA, 60, {"w": [np.inf]}), "not all are finite"),
        (lambda: trained(VA, 6000, {"w": [1]}), "trained on 6000 patients but declared 60"),
        (lambda: trained(VA, 0, {"w": [1]}), "trained on 0 patients but declared 60"),
        (lambda: trained(VA, 60, {"w": [1]}, train_loss=np.nan), "its training loss is not finite"),
        (lambda: evaluated(VA, [0.5], [1]), "arrays"),
        (lambda: mislabelled(VA, np.ones(3, np.float32), shape=(1,)), "they cannot be read"),
        (lambda: mislabelled(VA, np.ones(1, np.float64), shape=(1,)), "they cannot be read"),
        (lambda: mislabelled(VA, None, shape=(1,)), ""),
        (lambda: failed(VA, "\x1b[31mred\nfake line"), r"\x1b[31mred\nfake line"),
    ],
)
def test_invalid_weights_are_left_out_with_the_reason_and_the_others_continue(
    bad: Callable[[], Message], reason: str
) -> None:
    records: list[RoundRecord] = []
    recorder = make_recorder(records)
    arrays = run_train(
        recorder, [trained(CLEVELAND, 10, {"w": [1]}), bad(), trained(HUNGARY, 30, {"w": [5]})], {"w": [9]}
    )
    np.testing.assert_allclose(arrays["w"].numpy(), [4])
    recorder.evaluate(1, [evaluated(node, [0.9], [1]) for node in NAMES])
    assert list(records[0].left_out) == ["va"]
    assert reason in records[0].left_out["va"]


def test_a_broken_histogram_is_left_out_with_the_reason_and_the_others_count() -> None:
    records: list[RoundRecord] = []
    recorder = make_recorder(records)
    broken = evaluated(VA, [0.9], [1])
    broken.content.metric_records["tested"]["num-examples"] = 999
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    run_round(recorder, train, [evaluated(CLEVELAND, [0.9], [1]), broken, trained(HUNGARY, 30, {"w": [1]})])
    assert set(records[0].hospitals) == {"cleveland"}
    assert records[0].left_out["va"] == "the bins do not add up to num-examples; strike 1 of 3"
    assert records[0].left_out["hungary"].startswith("it sent arrays, metrics instead of tested and bins")


def test_an_unknown_node_gets_no_message_and_its_reply_is_ignored() -> None:
    recorder = make_recorder()
    grid = make_grid("va", "stranger")
    sent = ArrayRecord({"w": Array(np.array([9], np.float32))})
    (message,) = recorder.configure_train(1, sent, ConfigRecord(), grid)
    assert message.metadata.dst_node_id == VA
    forged = trained(node_id_of("stranger"), 90, {"w": [100]})
    arrays, _ = recorder.aggregate_train(1, [forged, trained(VA, 60, {"w": [1]})])
    assert arrays is not None
    np.testing.assert_allclose(arrays["w"].numpy(), [1])


def test_every_connected_hospital_gets_the_weights_and_the_round() -> None:
    grid = make_grid("cleveland", "hungary", "va")
    arrays = ArrayRecord({"w": Array(np.array([1, 2], np.float32))})
    recorder = make_recorder()
    for configure, kind in ((recorder.configure_train, "train"), (recorder.configure_evaluate, "evaluate")):
        messages = list(configure(7, arrays, ConfigRecord({"means": [1.0]}), grid))
        assert sorted(message.metadata.dst_node_id for message in messages) == grid.get_node_ids()
        for message in messages:
            assert message.metadata.message_type == kind
            assert dict(message.content.config_records["config"]) == {"means": [1.0], "server-round": 7}
            np.testing.assert_array_equal(message.content.array_records["arrays"]["w"].numpy(), [1, 2])


def test_one_hospital_alone_can_train() -> None:
    assert len(list(make_recorder().configure_train(1, ArrayRecord(), ConfigRecord(), make_grid("va")))) == 1


# --- the record of a round --------------------------------------------------------------------------------------------


def test_a_complete_round_is_recorded_pooled_and_by_hospital() -> None:
    records: list[RoundRecord] = []
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    evaluate = [
        evaluated(VA, [0.9, 0.8], [1, 1]),
        evaluated(CLEVELAND, [0.9, 0.1], [1, 0]),
        evaluated(HUNGARY, [0.7, 0.2, 0.6], [0, 0, 1]),
    ]
    run_round(make_recorder(records, {"cleveland": (2, 1), "hungary": (3, 1), "va": (2, 2)}), train, evaluate)
    (record,) = records
    assert record.round_num == 1
    assert list(record.hospitals) == ["cleveland", "hungary", "va"]
    assert [metrics.num_examples for metrics in record.hospitals.values()] == [2, 3, 2]
    assert [metrics.auroc for metrics in record.hospitals.values()] == [1.0, 0.5, None]
    assert record.pooled.num_examples == 7
    # Ill 0.9 0.8 0.9 0.6 against healthy 0.1 0.7 0.2: only 0.6 < 0.7 is wrong, 11 of 12; one of 7 is misclassified.
    assert record.pooled.auroc == pytest.approx(11 / 12)
    assert record.pooled.accuracy == pytest.approx(6 / 7)
    assert (record.left_out, record.left_out_share) == ({}, 0.0)
    assert record.seconds > 0


def test_a_hospital_that_could_not_train_is_recorded_with_reason_and_share_of_patients() -> None:
    records: list[RoundRecord] = []
    train = [trained(CLEVELAND, 10, {"w": [0]}), failed(HUNGARY, "no reply within 5 s")]
    evaluate = [evaluated(CLEVELAND, [0.9], [1]), evaluated(HUNGARY, [0.2], [1])]
    run_round(make_recorder(records), train, evaluate)
    assert records[0].left_out == {"hungary": "no reply within 5 s", "va": "not connected"}
    assert records[0].left_out_share == pytest.approx((30 + 60) / 100)
    assert set(records[0].hospitals) == {"cleveland", "hungary"}
    assert records[0].pooled.accuracy == 0.5


def test_a_hospital_that_could_not_evaluate_is_left_out_of_the_metrics_but_not_of_the_weights() -> None:
    records: list[RoundRecord] = []
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    evaluate = [evaluated(CLEVELAND, [0.9], [1]), evaluated(HUNGARY, [0.9], [1]), failed(VA, "left the federation")]
    run_round(make_recorder(records), train, evaluate)
    assert records[0].left_out == {"va": "left the federation"}
    assert records[0].left_out_share == 0.0
    assert records[0].pooled.num_examples == 2


def test_a_hospital_that_is_back_in_the_next_round_is_no_longer_left_out() -> None:
    records: list[RoundRecord] = []
    recorder = make_recorder(records)
    everyone = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    evaluate = [evaluated(node, [0.9], [1]) for node in NAMES]
    run_round(recorder, [*everyone[:2], failed(VA, "left the federation")], evaluate)
    run_round(recorder, everyone, evaluate)
    assert [record.left_out for record in records] == [{"va": "left the federation"}, {}]
    assert [record.left_out_share for record in records] == [pytest.approx(0.6), 0.0]


def test_a_round_that_nobody_evaluated_has_undefined_metrics_and_says_who_was_missing() -> None:
    records: list[RoundRecord] = []
    train = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    run_round(make_recorder(records), train, [failed(node, "no reply within 5 s") for node in NAMES])
    assert records[0].pooled.num_examples == 0
    assert (records[0].pooled.loss, records[0].pooled.auroc) == (None, None)
    assert set(records[0].left_out) == set(NAMES.values())


# --- when too few are left --------------------------------------------------------------------------------------------


def test_a_round_in_which_nobody_could_train_ends_the_run_and_names_every_reason() -> None:
    app = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    replies = [failed(CLEVELAND, "MemoryError", app), failed(HUNGARY, "KeyError", app), failed(VA, "diverged", app)]
    recorder = make_recorder()
    with pytest.raises(RunError) as caught:
        run_train(recorder, replies, {"w": [9]})
    assert str(caught.value) == (
        "round 1: 0 of the 1 hospitals that it needs (--min-hospitals) trained "
        "(cleveland: MemoryError; hungary: KeyError; va: diverged)"
    )


@pytest.mark.usefixtures("clock")
def test_a_federation_that_all_hospitals_left_is_given_up_after_max_wait() -> None:
    events: list[Event] = []
    recorder = make_recorder(events, max_wait=25.0)
    with pytest.raises(RunError, match=r"not enough came back within 25 s \(--max-wait\)"):
        recorder.configure_train(1, ArrayRecord(), ConfigRecord(), make_grid())
    assert [round(event.seconds_left) for event in events if isinstance(event, Paused)] == [25, 15]


def test_without_connected_hospitals_no_evaluate_message_is_sent() -> None:
    assert list(make_recorder().configure_evaluate(1, ArrayRecord(), ConfigRecord(), make_grid())) == []


class Returning(InProcessGrid):
    """A grid on which va is away until the grid has been looked at `looks` times; its app trains by adding 1."""

    def __init__(self, looks: int) -> None:
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            self.asked.append(context.node_id)
            weight = message.content.array_records["arrays"]["w"].numpy()
            arrays = ArrayRecord({"w": Array(np.asarray(weight + np.float32(1)))})
            metrics = MetricRecord({"num-examples": TRAIN_PATIENTS[context.node_id], "train-loss": 0.5})
            return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

        super().__init__(dict.fromkeys(NAMES.values(), app), {})
        self.asked: list[int] = []
        self.looks = looks

    def get_node_ids(self) -> list[int]:
        self.looks -= 1
        return [node for node in super().get_node_ids() if node != VA or self.looks < 0]


@pytest.mark.usefixtures("clock")
def test_a_round_that_needs_all_waits_for_the_one_that_left_and_asks_nobody_twice() -> None:
    events: list[Event] = []
    grid, recorder = Returning(looks=6), make_recorder(events, min_hospitals=3, max_wait=60.0)
    sent = ArrayRecord({"w": Array(np.array([1], np.float32))})
    messages = recorder.configure_train(1, sent, ConfigRecord(), grid)
    arrays, _ = recorder.aggregate_train(1, grid.send_and_receive(messages))
    assert arrays is not None
    np.testing.assert_array_equal(arrays["w"].numpy(), [2])
    assert sorted(grid.asked) == sorted(NAMES)
    paused = next(event for event in events if isinstance(event, Paused))
    assert (paused.round_num, paused.trained, paused.needed) == (1, 0, 3)


def test_weights_that_came_late_count_as_if_they_had_come_in_time() -> None:
    finals = []
    for first in ([VA, HUNGARY, CLEVELAND], [HUNGARY, CLEVELAND]):
        grid, recorder = Returning(looks=0), make_recorder(min_hospitals=3, max_wait=60.0)
        sent = ArrayRecord({"w": Array(np.array([0.1], np.float32))})
        asked = list(recorder.configure_train(1, sent, ConfigRecord(), grid))
        at_once = [message for message in asked if message.metadata.dst_node_id in first]
        arrays, _ = recorder.aggregate_train(1, grid.send_and_receive(at_once))
        assert arrays is not None
        finals.append(arrays["w"].numpy())
    np.testing.assert_array_equal(*finals)


def test_a_hospital_that_cannot_train_is_not_asked_again_and_again() -> None:
    app = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    recorder, grid = make_recorder(min_hospitals=3), Returning(looks=0)
    recorder.configure_train(1, ArrayRecord({"w": Array(np.array([9], np.float32))}), ConfigRecord(), grid)
    with pytest.raises(RunError, match=r"round 1: 2 of the 3 hospitals that it needs .*va: diverged"):
        recorder.aggregate_train(1, [*two_valid(), failed(VA, "diverged", app)])
    assert grid.asked == []


# --- strikes ----------------------------------------------------------------------------------------------------------


def two_valid() -> list[Message]:
    return [trained(CLEVELAND, 10, {"w": [1]}), trained(HUNGARY, 30, {"w": [1]})]


def test_after_three_invalid_replies_a_hospital_is_dropped_and_gets_no_message() -> None:
    events: list[Event] = []
    recorder = make_recorder(events)
    for round_num in (1, 2, 3):
        run_round(recorder, [*two_valid(), trained(VA, 60, {"w": [np.nan]})], [evaluated(n, [0.9], [1]) for n in NAMES])
        reason = [event for event in events if isinstance(event, RoundRecord)][-1].left_out["va"]
        assert reason.startswith(
            "dropped at strike 3 of 3" if round_num == 3 else "its weights are invalid: not all are finite; strike"
        )
    (dropped,) = (event for event in events if isinstance(event, Dropped))
    assert dropped == Dropped("va", "dropped at strike 3 of 3: its weights are invalid: not all are finite")
    grid = make_grid("cleveland", "hungary", "va")
    sent = ArrayRecord({"w": Array(np.array([9], np.float32))})
    asked = recorder.configure_train(4, sent, ConfigRecord(), grid)
    assert VA not in {message.metadata.dst_node_id for message in asked}
    arrays, _ = recorder.aggregate_train(4, [*two_valid(), trained(VA, 60, {"w": [100]})])
    assert arrays is not None
    np.testing.assert_array_equal(arrays["w"].numpy(), [1])
    recorder.evaluate(4, [evaluated(CLEVELAND, [0.9], [1])])
    record = events[-1]
    assert isinstance(record, RoundRecord)
    assert record.left_out["va"].startswith("dropped at strike 3 of 3")
    assert record.left_out_share == pytest.approx(0.6)


def test_silence_and_failure_are_no_strike_but_a_protocol_violation_is() -> None:
    recorder = make_recorder()
    for code in (ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_RAISED_EXCEPTION):
        run_train(recorder, [*two_valid(), failed(VA, "why", code)], {"w": [9]})
    assert recorder.roster.strikes["va"] == 0
    run_train(recorder, [*two_valid(), failed(VA, "broke the rules", PROTOCOL_VIOLATION)], {"w": [9]})
    assert recorder.roster.strikes["va"] == 1


def test_strikes_before_an_interruption_are_kept() -> None:
    members = [Member(node, name, "own", TRAIN_PATIENTS[node], 1, 1) for node, name in NAMES.items()]
    start = Checkpoint(
        7,
        ArrayRecord(),
        None,
        make_strategy(FederationSettings(strategy="fedavg")),
        members,
        {"va": 2},
        {"hungary": "dropped"},
    )
    events: list[Event] = []
    recorder = Recorder(start, RoundPolicy(), events)
    replies = [trained(CLEVELAND, 10, {"w": [1]}), trained(VA, 60, {"w": [np.inf]})]
    run_train(recorder, replies, {"w": [9]}, round_num=8)
    assert [event.name for event in events if isinstance(event, Dropped)] == ["va"]
    recorder.evaluate(8, [evaluated(CLEVELAND, [0.9], [1])])
    record = events[-1]
    assert isinstance(record, RoundRecord)
    assert (record.round_num, set(record.left_out)) == (8, {"hungary", "va"})


def test_evaluating_other_patients_than_declared_is_a_strike() -> None:
    events: list[Event] = []
    recorder = make_recorder(events)
    everybody = [trained(node, patients, {"w": [0]}) for node, patients in TRAIN_PATIENTS.items()]
    run_round(recorder, everybody, [evaluated(CLEVELAND, [0.9], [1]), evaluated(VA, [0.9], [0])])
    record = events[-1]
    assert isinstance(record, RoundRecord)
    assert "it evaluated 1 patients (0 ill) but declared 1 (1 ill)" in record.left_out["va"]
    assert recorder.roster.strikes["va"] == 1


# --- long updates -----------------------------------------------------------------------------------------------------


def test_an_update_that_is_too_long_is_clipped_and_reported() -> None:
    events: list[Event] = []
    recorder = make_recorder(events, max_update_norm=5.0)
    # From (0, 0): va's update (30, 40) has norm 50 and is clipped to (3, 4); cleveland's (1, 0) is not changed.
    replies = [trained(CLEVELAND, 10, {"w": [1, 0]}), trained(VA, 60, {"w": [30, 40]})]
    arrays = run_train(recorder, replies, {"w": [0, 0]})
    np.testing.assert_allclose(arrays["w"].numpy(), [(10 * 1 + 60 * 3) / 70, 60 * 4 / 70], rtol=1e-6)
    recorder.evaluate(1, [evaluated(node, [0.9], [1]) for node in NAMES])
    record = events[-1]
    assert isinstance(record, RoundRecord)
    assert record.clipped == {"va": pytest.approx(50.0)}


@given(
    before=arrays_of(st.floats(-10, 10, width=32)),
    step=arrays_of(st.floats(-1000, 1000, width=32)),
    longest=st.floats(0.125, 100, width=32),
)
def test_no_update_is_longer_than_the_limit_and_a_short_one_is_not_changed(
    before: np.ndarray, step: np.ndarray, longest: float
) -> None:
    came = {"w": before + step}
    cut, norm = clip_update(came, {"w": before}, longest)
    taken = cut["w"].astype(np.float64) - before
    true_norm = float(np.linalg.norm((before + step).astype(np.float64) - before))
    if norm is None:
        assert cut is came
        assert true_norm <= longest
    else:
        assert norm == pytest.approx(true_norm)
        assert np.linalg.norm(taken) <= longest * (1 + 1e-4) + 1e-4


# --- a whole run in which hospitals come and go -----------------------------------------------------------------------


def federate_toys(toy: Toy, max_wait: float = 60.0, **settings: Any) -> list[Any]:
    """All events of a run of three hospitals that must all train, up to its end or its error."""
    events: list[Any] = []
    asked = {"hospitals": 3, "rounds": 3, "min_hospitals": 3, **settings}
    try:
        federate(toy.grid, FederationSettings(**asked), events.append, writer=CheckpointList(events), max_wait=max_wait)
    except RunError as error:
        assert "\n" not in str(error)
        events.append(error)
    return events


def those(events: list[Any], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def outcome(events: list[Any]) -> tuple[bytes, list[RoundRecord]]:
    """(final weights, rounds without seconds)."""
    (finished,) = those(events, RunFinished)
    return finished.weights["w"].data, [structs.replace(each, seconds=0.0) for each in finished.rounds]


def cut_off(toy: Toy, name: str, round_num: int, kind: str = "train") -> None:
    """The hospital leaves while it trains in that round, so that its reply is lost."""

    def leave(what: str, names: list[str]) -> None:
        if what == kind and name in names and toy.kinds().count(kind) == 3 * (round_num - 1):
            toy.grid.away.add(name)
            toy.grid.lost[name, kind] = "left the federation"

    toy.grid.on_send = leave


def come_back(toy: Toy) -> None:
    toy.grid.away.clear()
    toy.grid.lost.clear()


def test_each_hospital_gets_one_message_a_round_and_the_last_round_is_evaluated_alone() -> None:
    toy = three_hospitals()
    federate_toys(toy, rounds=3)
    assert [kind for kind, _ in toy.grid.sent if kind in ("train", "evaluate")] == ["train"] * 3 + ["evaluate"]
    assert [toy.asked("evaluate", number) for number in (1, 2, 3)] == [["cleveland", "hungary", "va"]] * 3


def test_the_weights_are_evaluated_that_the_round_before_has_made() -> None:
    toy = three_hospitals()
    events = federate_toys(toy, rounds=3)
    sent = [decode_weights(heard.content)["w"] for heard in toy.heard if heard.kind == "evaluate"]
    made = [read_array(checkpoint.weights["w"]) for checkpoint in those(events, Checkpoint)]
    assert [values.tobytes() for values in sent] == [values.tobytes() for values in made for _ in range(3)]


def test_the_evaluation_in_a_train_reply_is_that_of_an_evaluate_reply() -> None:
    together, apart = three_hospitals(), three_hospitals()
    for hospital in apart.hospitals.values():
        hospital.evaluates_alone = True
    assert outcome(federate_toys(together, rounds=3)) == outcome(federate_toys(apart, rounds=3))
    kinds = [kind for kind, _ in apart.grid.sent if kind in ("train", "evaluate")]
    assert kinds == ["train", "train", "evaluate", "train", "evaluate", "evaluate"]


def test_a_hospital_that_was_not_drawn_evaluates_in_the_same_exchange() -> None:
    toy = three_hospitals()
    federate_toys(toy, rounds=3, fraction=0.34, min_hospitals=1)
    exchanges = [names for kind, names in toy.grid.sent if kind in ("train", "evaluate")]
    assert [len(names) for names in exchanges] == [1, 3, 3, 3]
    assert [len(toy.asked("train", number)) for number in (1, 2, 3)] == [1, 1, 1]
    assert [toy.asked("evaluate", number) for number in (1, 2, 3)] == [["cleveland", "hungary", "va"]] * 3


def test_a_hospital_that_cannot_train_is_asked_to_evaluate_alone() -> None:
    toy = three_hospitals()
    toy.hospitals["va"].faults["train"] = MemoryError()
    records = those(federate_toys(toy, rounds=3, min_hospitals=2), RoundRecord)
    assert [record.left_out for record in records] == [{"va": "MemoryError"}] * 3
    assert [set(record.hospitals) for record in records] == [set(toy.hospitals)] * 3


def test_a_hospital_that_cannot_evaluate_still_trains_and_the_reason_is_kept() -> None:
    toy = three_hospitals()
    toy.hospitals["va"].faults["evaluate"] = RunError("the risks are not numbers")
    events = federate_toys(toy, rounds=3)
    expected, _ = outcome(federate_toys(three_hospitals(), rounds=3))
    weights, records = outcome(events)
    assert weights == expected
    assert [record.left_out for record in records] == [{"va": "the risks are not numbers"}] * 3


def test_a_round_that_may_be_the_last_is_evaluated_alone_so_that_no_training_is_thrown_away() -> None:
    toy = make_toy(*(ToyHospital(name, [50], step=0.1, validation=(1, 1)) for name in ("cleveland", "va")))
    events = federate_toys(toy, hospitals=2, min_hospitals=2, rounds=9, patience=2)
    (finished,) = those(events, RunFinished)
    assert finished.choices is not None
    assert finished.choices.stopped
    trained = {heard.round_num for heard in toy.heard if heard.kind == "train"}
    assert trained == set(range(1, len(finished.rounds) + 1))


@pytest.mark.parametrize("name", ["cleveland", "hungary", "va"])
def test_a_round_is_finished_when_the_missing_hospital_is_back_and_is_bit_for_bit_the_same(
    name: str, clock: Clock
) -> None:
    undisturbed, _ = outcome(federate_toys(three_hospitals()))
    toy = three_hospitals()
    cut_off(toy, name, round_num=2)
    clock.later(25, lambda: come_back(toy))
    events = federate_toys(toy)
    weights, rounds = outcome(events)
    assert weights == undisturbed
    assert [record.left_out for record in rounds] == [{name: "not connected"}, {}, {}]  # its evaluation was lost too
    assert [sorted(names) for kind, names in toy.grid.sent if kind == "train"] == [
        ["cleveland", "hungary", "va"],
        ["cleveland", "hungary", "va"],
        [name],
        ["cleveland", "hungary", "va"],
    ]
    pauses = those(events, Paused)
    assert [(pause.round_num, pause.trained, pause.needed) for pause in pauses] == [(2, 2, 3)] * 2
    assert [dict(pause.missing) for pause in pauses] == [{name: "left the federation"}] * 2
    assert [round(pause.seconds_left) for pause in pauses] == [60, 50]


def test_a_round_waits_before_it_begins_and_names_only_those_who_are_away(clock: Clock) -> None:
    undisturbed, _ = outcome(federate_toys(three_hospitals()))
    toy = three_hospitals()

    def leave(kind: str, names: list[str]) -> None:
        if kind == "train" and toy.kinds().count("train") == 0:
            toy.grid.away.update(("hungary", "va"))

    toy.grid.on_send = leave
    clock.later(12, lambda: toy.grid.away.remove("va"))
    clock.later(24, lambda: toy.grid.away.remove("hungary"))
    events = federate_toys(toy)
    weights, rounds = outcome(events)
    assert weights == undisturbed
    assert [set(record.hospitals) for record in rounds] == [{"cleveland"}, set(toy.hospitals), set(toy.hospitals)]
    assert [(p.round_num, p.trained, dict(p.missing)) for p in those(events, Paused)] == [
        (2, 0, {"hungary": "not connected", "va": "not connected"}),
        (2, 0, {"hungary": "not connected", "va": "not connected"}),
        (2, 0, {"hungary": "not connected"}),
    ]
    assert toy.asked("train", 2) == ["cleveland", "hungary", "va"]


@pytest.mark.usefixtures("clock")
def test_a_round_whose_hospital_does_not_come_back_ends_the_run_with_one_line() -> None:
    toy = three_hospitals()
    cut_off(toy, "va", round_num=2)
    events = federate_toys(toy, max_wait=25.0)
    assert [round(pause.seconds_left) for pause in those(events, Paused)] == [25, 15]
    assert str(events[-1]) == (
        "round 2: 2 of the 3 hospitals that it needs (--min-hospitals) trained (va: left the federation), "
        "and not enough came back within 25 s (--max-wait)"
    )
    assert len(those(events, RoundRecord)) == 1


def test_a_connected_hospital_that_never_replies_is_not_messaged_in_a_busy_loop_nor_for_ever(
    clock: Clock,
) -> None:
    toy = three_hospitals()
    toy.grid.lost["va", "train"] = "no reply within 5 s"
    events = federate_toys(toy, max_wait=25.0)
    assert isinstance(events[-1], RunError)
    assert len([names for kind, names in toy.grid.sent if kind == "train"]) <= clock.naps + 1
    assert clock.now == pytest.approx(1025, abs=1)
    assert toy.asked("train", 1).count("cleveland") == 1
    assert str(events[-1]).startswith("round 1: 2 of the 3 hospitals")


def test_the_time_to_come_back_begins_anew_with_each_cut(clock: Clock) -> None:
    toy = three_hospitals()
    cuts = [0]

    def train_for_an_hour(kind: str, names: list[str]) -> None:
        if kind != "train" or "va" not in names or cuts[0] == 3:
            return
        cuts[0] += 1
        clock.now += 3600
        toy.grid.away.add("va")
        toy.grid.lost["va", "train"] = "left the federation"
        clock.later(20, lambda: come_back(toy))

    toy.grid.on_send = train_for_an_hour
    events = federate_toys(toy, max_wait=25.0, rounds=1)
    assert len(those(events, RunFinished)) == 1
    assert cuts == [3]


def test_a_hospital_that_fails_by_itself_is_named_beside_the_one_that_left(clock: Clock) -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].faults["train"] = MemoryError()
    cut_off(toy, "va", round_num=1)
    clock.later(5, lambda: come_back(toy))
    events = federate_toys(toy, min_hospitals=3)
    assert str(events[-1]) == (
        "round 1: 1 of the 3 hospitals that it needs (--min-hospitals) trained "
        "(hungary: MemoryError; va: left the federation)"
    )
    assert toy.asked("train", 1) == ["cleveland", "hungary", "va"]


def test_one_that_fails_by_itself_does_not_keep_the_round_from_waiting_for_one_that_left(clock: Clock) -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].faults["train"] = MemoryError()
    cut_off(toy, "va", round_num=1)
    clock.later(5, lambda: come_back(toy))
    events = federate_toys(toy, min_hospitals=2, rounds=1)
    assert [pause.missing for pause in those(events, Paused)] == [{"va": "left the federation"}]
    (record,) = those(events, RoundRecord)
    assert record.left_out == {"hungary": "MemoryError"}
    assert toy.asked("train", 1) == ["cleveland", "hungary", "va", "va"]


def test_enough_hospitals_do_not_wait_for_the_rest(clock: Clock) -> None:
    toy = three_hospitals()
    cut_off(toy, "va", round_num=2)
    events = federate_toys(toy, max_wait=0.01, min_hospitals=2)
    assert those(events, Paused) == []
    assert clock.naps == 1  # after the rounds, for the final model
    assert [record.left_out for record in those(events, RoundRecord)] == [
        {"va": "not connected"},
        {"va": "left the federation"},
        {"va": "not connected"},
    ]


@pytest.mark.parametrize(
    ("strategy", "flags"),
    [
        ({"strategy": "krum"}, "--strategy krum with --malicious 0"),
        ({"strategy": "multikrum"}, "--strategy multikrum with --malicious 0"),
        ({"strategy": "fedtrimmedavg", "trim_share": 0.34}, "--strategy fedtrimmedavg with --trim-share 0.34"),
    ],
)
def test_a_round_waits_for_as_many_hospitals_as_its_strategy_needs_and_names_the_flags(
    strategy: dict[str, Any], flags: str, clock: Clock
) -> None:
    undisturbed, _ = outcome(federate_toys(three_hospitals(), min_hospitals=1, **strategy))
    toy = three_hospitals()
    cut_off(toy, "va", round_num=2)
    clock.later(5, lambda: come_back(toy))
    events = federate_toys(toy, min_hospitals=1, **strategy)
    weights, _ = outcome(events)
    assert weights == undisturbed
    (pause,) = those(events, Paused)
    assert (pause.round_num, pause.trained, pause.needed, pause.needed_for) == (2, 2, 3, flags)
    toy = three_hospitals()
    cut_off(toy, "va", round_num=1)
    assert str(federate_toys(toy, min_hospitals=1, **strategy)[-1]) == (
        f"round 1: 2 of the 3 hospitals that it needs ({flags}) trained (va: left the federation), "
        "and not enough came back within 60 s (--max-wait)"
    )


# --- strikes in a whole run -------------------------------------------------------------------------------------------


def spoil(values: list[float], name: str = "w") -> Tamper:
    def tamper(answer: RecordDict) -> RecordDict:
        return RecordDict({**answer, "arrays": ArrayRecord({name: Array(np.array(values, np.float32))})})

    return tamper


def claim(**metrics: Any) -> Tamper:
    def tamper(answer: RecordDict) -> RecordDict:
        part = "tested" if "tested" in answer else "metrics"
        record: dict[str, Any] = dict(answer[part])
        record.update({key.replace("_", "-"): value for key, value in metrics.items()})
        return RecordDict({**answer, part: MetricRecord(record)})

    return tamper


def add_record(answer: RecordDict) -> RecordDict:
    return RecordDict({**answer, "more": ConfigRecord({"chol": 233})})


def add_arrays(answer: RecordDict) -> RecordDict:
    return RecordDict({**answer, "more": ArrayRecord()})


UNSOUND = [
    ("train", spoil([np.nan])),
    ("train", spoil([np.inf])),
    ("train", spoil([0.5, 0.5])),
    ("train", spoil([0.5], name="v")),
    ("train", claim(num_examples=1000)),
    ("train", claim(num_examples=0)),
    ("train", claim(train_loss=math.nan)),
    ("train", claim(age=61)),
    ("train", add_arrays),
    ("train", add_record),
    ("train", lambda answer: None),
    ("evaluate", claim(num_examples=1000)),
    ("evaluate", claim(positives=[0] * NUM_BINS, num_examples=3)),
    ("evaluate", claim(log_loss=math.nan)),
    ("evaluate", lambda answer: None),
]


@pytest.mark.parametrize(("kind", "lie"), UNSOUND)
def test_every_invalid_reply_is_a_strike_and_does_not_affect_the_others(kind: str, lie: Tamper) -> None:
    toy = three_hospitals()
    toy.hospitals["va"].lies[kind] = lie
    events = federate_toys(toy, min_hospitals=2, rounds=4, strikes=3)
    checkpoints = those(events, Checkpoint)
    # The evaluation after a round comes with the replies of the next.
    late = kind == "evaluate"
    assert [checkpoint.strikes.get("va", 0) for checkpoint in checkpoints] == ([0, 1, 2, 3] if late else [1, 2, 3, 3])
    reasons = [record.left_out["va"] for record in those(events, RoundRecord)]
    assert [set(record.left_out) for record in those(events, RoundRecord)] == [{"va"}] * 4
    assert [reason.endswith(f"; strike {number} of 3") for number, reason in enumerate(reasons[:2], 1)] == [True] * 2
    assert reasons[2] == reasons[3]
    assert reasons[2].startswith("dropped at strike 3 of 3: ")
    assert those(events, Dropped) == [Dropped("va", reasons[2])]
    assert len(those(events, RunFinished)) == 1
    assert [len(toy.asked("train", number)) for number in (1, 2, 3, 4)] == [3, 3, 3, 3 if late else 2]
    assert [len({*toy.asked("evaluate", number)}) for number in (3, 4)] == [2 if kind == "train" else 3, 2]


def test_absence_failures_and_silence_are_no_strikes() -> None:
    toy = three_hospitals()
    toy.grid.lost["va", "train"] = "no reply within 5 s"
    toy.grid.lost["va", "evaluate"] = "left the federation"
    toy.hospitals["hungary"].faults["train"] = ValueError("chol 233")
    toy.hospitals["hungary"].faults["evaluate"] = RunError("the server's weights are invalid")
    events = federate_toys(toy, min_hospitals=1, rounds=5, strikes=1)
    assert [dict(checkpoint.strikes) for checkpoint in those(events, Checkpoint)] == [{}] * 5
    assert those(events, Dropped) == []
    last = those(events, RoundRecord)[-1]
    assert last.left_out == {"hungary": "ValueError", "va": "no reply within 5 s"}


def test_who_is_dropped_for_an_evaluation_after_training_is_not_left_out_of_that_rounds_patients() -> None:
    toy = three_hospitals()
    toy.hospitals["va"].evaluates_alone = True
    toy.hospitals["va"].lies["evaluate"] = claim(num_examples=9)
    events = federate_toys(toy, min_hospitals=2, rounds=3, strikes=1)
    _, second, third = those(events, RoundRecord)
    assert toy.asked("train", 2) == toy.asked("train", 1)
    assert second.left_out_share == 0, "its weights are in the mean"
    assert third.left_out_share > 0


def test_a_round_with_too_few_left_ends_the_run_and_says_who_was_dropped_and_why() -> None:
    toy = three_hospitals()
    toy.hospitals["va"].lies["evaluate"] = claim(num_examples=9)
    events = federate_toys(toy, rounds=3, strikes=1)
    assert those(events, Paused) == []
    assert str(events[-1]) == (
        "round 2: 2 of the 3 hospitals that it needs (--min-hospitals) trained "
        "(va: dropped at strike 1 of 1: the bins do not add up to num-examples)"
    )


def test_a_hospital_that_is_dropped_while_the_round_waits_for_it_ends_the_waiting(clock: Clock) -> None:
    toy = three_hospitals()
    cut_off(toy, "va", round_num=1)
    toy.hospitals["va"].lies["train"] = spoil([np.nan])
    clock.later(5, lambda: come_back(toy))
    events = federate_toys(toy, strikes=1)
    (dropped,) = those(events, Dropped)
    assert dropped.name == "va"
    assert str(events[-1]).endswith("(va: dropped at strike 1 of 1: its weights are invalid: not all are finite)")
    assert toy.asked("train", 1) == ["cleveland", "hungary", "va", "va"]
