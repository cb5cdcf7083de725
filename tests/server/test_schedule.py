"""Which hospitals train in a round and when they evaluate: the sample itself, and a whole federation with it."""

import pytest
from flwr.app import Context, RecordDict

from fedhealth.config.federation import FederationSettings
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event
from fedhealth.server.records import RoundRecord
from fedhealth.server.schedule import RoundSchedule
from tests.support.toy_hospitals import Toy, ToyHospital, make_toy

NAMES = [f"hospital {number}" for number in range(10)]


def run(toy: Toy, **settings: object) -> list[RoundRecord]:
    config = FederationSettings(hospitals=len(toy.hospitals), **settings).to_run_config()  # type: ignore[arg-type]
    events: list[Event] = []
    make_server_app(events.append, max_wait=1.0)(toy.grid, Context(1, 1, {}, RecordDict(), config))
    return [event for event in events if isinstance(event, RoundRecord)]


def ten_hospitals() -> Toy:
    return make_toy(*(ToyHospital(name, [50, 60]) for name in NAMES))


def test_the_draw_is_the_same_whatever_the_order_of_the_names_and_differs_from_round_to_round() -> None:
    plan = RoundSchedule(rounds=5, fraction=0.3, seed=7)
    drawn = [plan.draw(round_num, NAMES, 10) for round_num in range(1, 6)]
    assert drawn == [plan.draw(round_num, NAMES[::-1], 10) for round_num in range(1, 6)]
    assert [len(names) for names in drawn] == [3] * 5
    assert len(set(map(frozenset, drawn))) > 1
    assert drawn != [
        RoundSchedule(rounds=5, fraction=0.3, seed=8).draw(round_num, NAMES, 10) for round_num in range(1, 6)
    ]


def test_a_fraction_is_at_least_one_hospital_and_never_more_than_are_left() -> None:
    assert len(RoundSchedule(fraction=0.01).draw(1, NAMES, 10)) == 1
    assert RoundSchedule(fraction=0.5).draw(1, NAMES[:3], 10) == set(NAMES[:3])


@pytest.mark.parametrize(("every", "after"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (0, [5]), (9, [5])])
def test_the_last_round_is_always_evaluated(every: int, after: list[int]) -> None:
    plan = RoundSchedule(rounds=5, evaluate_every=every)
    assert [round_num for round_num in range(1, 6) if plan.evaluates_after(round_num)] == after


def test_only_the_drawn_hospitals_train_and_all_evaluate() -> None:
    toy = ten_hospitals()
    records = run(toy, rounds=3, fraction=0.3, seed=7, strategy="fedavg")
    plan = RoundSchedule(rounds=3, fraction=0.3, seed=7)
    for record in records:
        drawn = sorted(plan.draw(record.round_num, NAMES, 10))
        assert toy.asked("train", record.round_num) == drawn == list(record.asked)
        assert toy.asked("evaluate", record.round_num) == NAMES
        assert (record.left_out, record.left_out_share) == ({}, 0.0)


def test_a_sampled_hospital_that_fails_is_left_out() -> None:
    toy = ten_hospitals()
    (unlucky, *_) = sorted(RoundSchedule(fraction=0.4, seed=7).draw(1, NAMES, 10))
    toy.hospitals[unlucky].faults["train"] = ValueError("no")
    (record,) = run(toy, rounds=1, fraction=0.4, seed=7, strategy="fedavg")
    assert list(record.left_out) == [unlucky]
    assert record.left_out_share == pytest.approx(1 / 4)


def test_rounds_without_evaluation_send_no_message_and_leave_nobody_out() -> None:
    toy = ten_hospitals()
    records = run(toy, rounds=3, evaluate_every=0, strategy="fedavg")
    assert [len(record.hospitals) for record in records] == [0, 0, 10]
    assert [dict(record.left_out) for record in records] == [{}, {}, {}]
    assert [record.pooled.num_examples for record in records] == [0, 0, 40]
    assert toy.asked("evaluate", 1) == toy.asked("evaluate", 2) == []
