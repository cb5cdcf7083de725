"""The server app with toy hospitals, from setup to the final model."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, MetricRecord, RecordDict

from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART
from fedhealth.server.app import GRACE_SECONDS, federate, make_server_app
from fedhealth.server.checkpoints import Checkpoint, ResumeState
from fedhealth.server.events import Dropped, RunFinished, RunStarted
from fedhealth.server.records import RoundRecord
from fedhealth.transport.messages import RUN_ID, SERVER_NODE_ID, node_id_of
from tests.support.run_keeping import CheckpointList
from tests.support.toy_hospitals import HEALTHY, ILL, Tamper, Toy, ToyHospital, make_toy, stop_clocks, three_hospitals

MAX_WAIT = 0.05
LAST = (*["query.subgroups"] * 3, *["query.importance"] * 3, *["query.finish"] * 3)
"""The messages to three hospitals after the rounds."""


def run(
    toy: Toy,
    hospitals: int = 3,
    rounds: int = 2,
    past: ResumeState | None = None,
    max_wait: float = MAX_WAIT,
    **settings: Any,
) -> list[Any]:
    """All events and checkpoints, in order."""
    events: list[Any] = []
    chosen = FederationSettings(**{"hospitals": hospitals, "rounds": rounds, "strategy": "fedavg", **settings})
    federate(toy.grid, chosen, events.append, writer=CheckpointList(events), max_wait=max_wait, past=past)
    return events


def finished_of(events: list[Any]) -> RunFinished:
    assert isinstance(events[-1], RunFinished)
    return events[-1]


# --- a run, step by step ----------------------------------------------------------------------------------------------


def test_a_run_reports_its_start_each_round_in_order_and_its_end() -> None:
    events = run(three_hospitals(), rounds=3)
    assert [(type(event), event.round_num) for event in events[1:-1]] == [
        (Checkpoint, 1),
        (RoundRecord, 1),
        (Checkpoint, 2),
        (RoundRecord, 2),
        (RoundRecord, 3),
        (Checkpoint, 3),
    ]
    assert isinstance(events[0], RunStarted)
    records = [event for event in events if isinstance(event, RoundRecord)]
    assert list(finished_of(events).rounds) == records


def test_hospitals_get_the_messages_in_the_order_of_the_run() -> None:
    toy = three_hospitals()
    run(toy, rounds=1)
    kinds = toy.kinds()
    assert kinds == [
        *["query.describe"] * 3,
        *["query.first_moments"] * 3,
        *["query.second_moments"] * 3,
        "query.initial_weights",
        *["train"] * 3,
        *["evaluate"] * 3,
        *LAST,
    ]


def test_the_members_are_as_they_described_themselves_in_the_order_of_their_names() -> None:
    began = run(three_hospitals())[0]
    assert isinstance(began, RunStarted)
    assert [(member.name, member.train_patients, member.patients) for member in began.members] == [
        ("cleveland", 2, 6),
        ("hungary", 1, 5),
        ("va", 1, 5),
    ]
    assert [member.node_id for member in began.members] == [node_id_of(n) for n in ("cleveland", "hungary", "va")]
    assert (began.members[0].test_patients, began.members[0].test_ill) == (4, 1)
    assert began.dataset == "own+uci"


def test_the_weights_are_the_federation_s_average_after_every_round() -> None:
    finished = finished_of(run(three_hospitals(), rounds=2))
    # Each round adds (2 * 0.1 + 1 * 0.4 + 1 * 0.0) / 4 = 0.15 to the initial 0.5.
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.8], rtol=1e-6)
    assert finished.rounds[0].pooled.brier == pytest.approx(0.35**2, rel=1e-5)
    assert finished.rounds[1].pooled.brier == pytest.approx(0.2**2, rel=1e-5)
    assert finished.rounds[1].pooled.num_examples == 3 * (HEALTHY + ILL)
    assert finished.rounds[0].train_loss == pytest.approx(0.25)
    assert finished.seconds >= sum(record.seconds for record in finished.rounds)


def test_the_final_model_goes_to_every_hospital_with_all_that_is_needed_to_use_it() -> None:
    toy = three_hospitals()
    finished = finished_of(run(toy))
    finals = [heard for heard in toy.heard if heard.kind == "query.finish"]
    assert {final.hospital for final in finals} == {"cleveland", "hungary", "va"}
    assert finished.standardisation is not None
    for final in finals:
        np.testing.assert_array_equal(final.content.array_records["arrays"]["w"].numpy(), finished.weights["w"].numpy())
        means, stds = list(finished.standardisation.means), list(finished.standardisation.stds)
        assert final.config == {"means": means, "stds": stds}


def test_the_app_runs_on_the_run_config_that_flower_hands_it() -> None:
    toy, events = three_hospitals(), list[Any]()
    context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {"hospitals": 3, "rounds": 1, "scaling": "reference"})
    make_server_app(events.append, max_wait=MAX_WAIT)(toy.grid, context)
    assert len(finished_of(events).rounds) == 1
    assert finished_of(events).settings == FederationSettings(hospitals=3, rounds=1, scaling="reference")


def test_the_app_refuses_a_run_config_that_it_does_not_know() -> None:
    context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {"rouns": 1})
    with pytest.raises(UsageError, match="unknown key rouns"):
        make_server_app(lambda event: None, max_wait=MAX_WAIT)(three_hospitals().grid, context)


# --- scaling ----------------------------------------------------------------------------------------------------------


def test_federated_scaling_reaches_every_hospital_with_the_moments_of_all_their_patients() -> None:
    toy = three_hospitals()
    finished = finished_of(run(toy))
    # Ages 50, 60, 40 and 70 in three hospitals: mean 55, variance 125; the other numbers are missing everywhere.
    assert finished.standardisation is not None
    assert finished.standardisation.means == pytest.approx((55.0, 0, 0, 0, 0, 0))
    assert finished.standardisation.stds == pytest.approx((math.sqrt(125), 1, 1, 1, 1, 1))
    for kind in ("train", "evaluate"):
        configs = toy.configs(kind)
        assert [config["server-round"] for config in configs] == [1, 1, 1, 2, 2, 2]
        for config in configs:
            assert tuple(config["means"]) == finished.standardisation.means
            assert tuple(config["stds"]) == finished.standardisation.stds


def test_reference_scaling_sends_the_schema_s_constants_and_asks_for_no_moments() -> None:
    toy = three_hospitals()
    finished = finished_of(run(toy, scaling="reference"))
    assert finished.standardisation == preprocessing.reference_standardisation(HEART)
    assert not any("moments" in kind for kind in toy.kinds())
    assert tuple(toy.configs("train")[0]["means"]) == preprocessing.reference_standardisation(HEART).means


def test_local_scaling_sends_none_and_asks_for_no_moments() -> None:
    toy = three_hospitals()
    assert finished_of(run(toy, scaling="local")).standardisation is None
    assert not any("moments" in kind for kind in toy.kinds())
    assert all(
        set(config) <= {"server-round", "evaluates"} for config in toy.configs("train") + toy.configs("evaluate")
    )
    assert toy.configs("query.finish") == [{}, {}, {}]


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_two_hospitals_of_one_name_end_the_run_before_it_begins() -> None:
    toy = make_toy(
        ToyHospital("va", [50]), ToyHospital("cleveland", [60]), ToyHospital("va", [70]), keys=["a", "b", "c"]
    )
    with pytest.raises(RunError, match="two hospitals are named va; start one of them with another --name"):
        run(toy)
    assert set(toy.kinds()) == {"query.describe"}


def test_a_hospital_that_cannot_take_part_is_in_the_record_with_its_reason_and_the_others_train_as_if_alone() -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].faults["query.second_moments"] = RunError("no TensorFlow")
    alone = make_toy(*(each for name, each in three_hospitals().hospitals.items() if name != "hungary"))
    events, expected = run(toy), finished_of(run(alone, hospitals=2))
    reason = {"hungary": "could not reply to query.second_moments: no TensorFlow"}
    (began,) = (event for event in events if isinstance(event, RunStarted))
    assert [member.name for member in began.members] == ["cleveland", "va"]
    assert dict(began.left_out) == reason
    finished = finished_of(events)
    assert dict(finished.left_out) == reason
    assert [record.left_out for record in finished.rounds] == [{}, {}]
    assert finished.standardisation == expected.standardisation
    assert finished.weights["w"].data == expected.weights["w"].data
    assert {heard.hospital for heard in toy.heard if heard.kind in ("train", "query.finish")} == {"cleveland", "va"}


def test_scaffold_counts_those_who_take_part() -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].faults["query.describe"] = RunError("no TensorFlow")
    alone = make_toy(*(each for name, each in three_hospitals().hospitals.items() if name != "hungary"))
    sent = []
    for each, number in ((toy, 3), (alone, 2)):
        run(each, hospitals=number, strategy="scaffold")
        messages = [heard for heard in each.heard if heard.kind == "train" and heard.round_num == 2]
        sent.append({heard.hospital: heard.content.array_records["correction"]["w"].data for heard in messages})
    assert sent[0] == sent[1]


def test_a_hospital_that_fails_in_training_is_left_out_and_the_run_goes_on() -> None:
    diverged: dict[str, Exception] = {"train": RunError("training diverged")}
    toy = make_toy(ToyHospital("cleveland", [50, 60, 70]), ToyHospital("va", [50], step=9, faults=diverged))
    finished = finished_of(run(toy, hospitals=2, rounds=1, min_hospitals=1))
    assert finished.rounds[0].left_out == {"va": "training diverged"}
    assert finished.rounds[0].left_out_share == 0.25
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.6], rtol=1e-6)


def test_a_run_in_which_nobody_can_train_ends_and_says_why_without_quoting_a_patient() -> None:
    broken: dict[str, Exception] = {"train": ZeroDivisionError("age 61, chol 233")}
    toy = make_toy(ToyHospital("cleveland", [50], faults=broken), ToyHospital("va", [50], faults=broken))
    with pytest.raises(RunError) as caught:
        run(toy, hospitals=2)
    assert str(caught.value) == (
        "round 1: 0 of the 2 hospitals that it needs (--min-hospitals) trained "
        "(cleveland: ZeroDivisionError; va: ZeroDivisionError)"
    )


def test_the_final_model_goes_only_to_those_who_are_still_here() -> None:
    toy = three_hospitals()
    toy.grid.on_send = lambda kind, names: toy.grid.away.add("va") if kind == "evaluate" else None
    finished_of(run(toy, rounds=1))
    assert [heard.hospital for heard in toy.heard if heard.kind == "query.finish"] == ["cleveland", "hungary"]


def test_a_hospital_that_comes_back_in_time_gets_the_final_model(monkeypatch: pytest.MonkeyPatch) -> None:
    toy, clock = three_hospitals(), stop_clocks(monkeypatch)

    def leave(kind: str, names: list[str]) -> None:
        if kind == "evaluate":
            toy.grid.away.add("va")
            clock.later(GRACE_SECONDS - 1, toy.grid.away.clear)

    toy.grid.on_send = leave
    finished = finished_of(run(toy, rounds=1, max_wait=60.0))
    assert [heard.hospital for heard in toy.heard if heard.kind == "query.finish"] == ["cleveland", "hungary", "va"]
    assert finished.unreached == ()


def test_a_hospital_that_stays_away_is_named_at_the_end_and_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy, clock = three_hospitals(), stop_clocks(monkeypatch)
    toy.grid.on_send = lambda kind, names: toy.grid.away.add("va") if kind == "evaluate" else None
    assert finished_of(run(toy, rounds=1, max_wait=60.0)).unreached == ("va",)
    assert clock.now == pytest.approx(1000 + GRACE_SECONDS, abs=0.1)


def test_the_final_model_does_not_go_to_a_hospital_that_was_dropped() -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].lies["train"] = lambda answer: None
    finished = finished_of(run(toy, rounds=2, strikes=1))
    assert set(finished.rounds[-1].left_out) == {"hungary"}
    assert [heard.hospital for heard in toy.heard if heard.kind == "query.finish"] == ["cleveland", "va"]


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_each_round_ends_with_all_that_is_needed_to_go_on_after_it() -> None:
    events = run(three_hospitals(), rounds=2)
    began, finished = events[0], finished_of(events)
    checkpoints = [event for event in events if isinstance(event, Checkpoint)]
    assert [checkpoint.round_num for checkpoint in checkpoints] == [1, 2]
    np.testing.assert_allclose(checkpoints[0].weights["w"].numpy(), [0.65], rtol=1e-6)
    assert isinstance(began, RunStarted)
    for checkpoint in checkpoints:
        assert checkpoint.standardisation == finished.standardisation
        assert checkpoint.members == began.members
        assert (checkpoint.strikes, checkpoint.dropped) == ({}, {})


def test_a_checkpoint_contains_the_strikes() -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].lies["train"] = lambda answer: None
    checkpoints = [event for event in run(toy, rounds=2, strikes=2) if isinstance(event, Checkpoint)]
    assert [checkpoint.strikes for checkpoint in checkpoints] == [{"hungary": 1}, {"hungary": 2}]
    assert [list(checkpoint.dropped) for checkpoint in checkpoints] == [[], ["hungary"]]


def test_the_end_has_what_each_hospital_sent_of_the_final_model() -> None:
    events = run(three_hospitals(), rounds=3)
    checkpoints = [event for event in events if isinstance(event, Checkpoint)]
    assert set(finished_of(events).histograms) == {"cleveland", "hungary", "va"}
    assert finished_of(events).histograms is checkpoints[-1].histograms


# --- resuming ---------------------------------------------------------------------------------------------------------


def past_of(events: list[Any], round_num: int) -> ResumeState:
    """The state of a run after that round."""
    (checkpoint,) = (event for event in events if isinstance(event, Checkpoint) and event.round_num == round_num)
    records = [event for event in events if isinstance(event, RoundRecord) and event.round_num <= round_num]
    return ResumeState(checkpoint, records)


def go_on(toy: Toy, past: ResumeState, **settings: Any) -> list[Any]:
    return run(toy, past=past, **{"strategy": FederationSettings().strategy, **settings})


def test_a_resumed_run_reports_its_round_and_repeats_no_setup_query() -> None:
    past, toy = past_of(run(three_hospitals(), rounds=2), 2), three_hospitals()
    events = go_on(toy, past, rounds=3)
    assert [type(event) for event in events] == [RunStarted, RoundRecord, Checkpoint, RunFinished]
    assert isinstance(events[0], RunStarted)
    assert events[0].done == 2
    assert toy.kinds() == [*["query.describe"] * 3, *["train"] * 3, *["evaluate"] * 3, *LAST]
    assert {config["server-round"] for config in toy.configs("train") + toy.configs("evaluate")} == {3}
    assert [record.round_num for record in finished_of(events).rounds] == [1, 2, 3]


def test_a_resumed_run_without_remaining_rounds_only_sends_the_final_model() -> None:
    events, toy = run(three_hospitals(), rounds=2), three_hospitals()
    finished = finished_of(go_on(toy, past_of(events, 2), rounds=2))
    assert toy.kinds() == [*["query.describe"] * 3, *LAST]
    np.testing.assert_array_equal(finished.weights["w"].numpy(), finished_of(events).weights["w"].numpy())
    assert [record.round_num for record in finished.rounds] == [1, 2]


def test_permutation_importance_is_queried_once_and_weighted_by_pairs_of_an_ill_and_a_healthy_patient() -> None:
    def tell(cp: float) -> Tamper:
        drops = [0.0] * 13
        drops[FEATURE_NAMES.index("cp")] = cp
        record = MetricRecord({"auroc-drops": drops, "num-examples": HEALTHY + ILL})
        return lambda _: RecordDict({"importance": record})

    toy = three_hospitals()
    toy.hospitals["cleveland"].lies["query.importance"] = tell(0.5)
    toy.hospitals["va"].lies["query.importance"] = tell(0.25)
    importance = finished_of(run(toy)).importance
    assert importance is not None
    assert importance.together["cp"] == pytest.approx(0.375)
    assert importance.hospitals["va"]["cp"] == 0.25
    assert importance.missing == {"hungary": "fewer ill or healthy test patients than --min-count"}
    assert len(toy.configs("query.importance")) == 3


def test_permutation_importance_is_not_queried_with_no_importance() -> None:
    toy = three_hospitals()
    assert finished_of(run(toy, importance=False)).importance is None
    assert "query.importance" not in toy.kinds()


def test_a_hospital_dropped_before_the_interruption_stays_dropped() -> None:
    first = three_hospitals()
    first.hospitals["hungary"].lies["train"] = lambda answer: None
    past, toy = past_of(run(first, rounds=1, strikes=1), 1), three_hospitals()
    toy.grid.away.add("hungary")
    events = go_on(toy, past, rounds=2, strikes=1)
    assert [type(event) for event in events] == [Dropped, RunStarted, RoundRecord, Checkpoint, RunFinished]
    assert isinstance(events[0], Dropped)
    assert events[0].name == "hungary"
    reason = finished_of(events).rounds[1].left_out["hungary"]
    assert reason == "dropped at strike 1 of 1: it sent nothing instead of arrays and metrics"


def test_whoever_could_not_take_part_is_not_waited_for_when_the_run_goes_on() -> None:
    first = three_hospitals()
    first.hospitals["hungary"].faults["query.describe"] = RunError("no TensorFlow")
    past, toy = past_of(run(first, rounds=1), 1), three_hospitals()
    toy.grid.away.add("hungary")
    events = go_on(toy, past, rounds=2)
    reason = "could not reply to query.describe: no TensorFlow"
    assert [type(event) for event in events] == [Dropped, RunStarted, RoundRecord, Checkpoint, RunFinished]
    assert events[0] == Dropped("hungary", reason)
    assert dict(finished_of(events).left_out) == {"hungary": reason}
    assert finished_of(events).rounds[1].left_out == {}


def test_a_hospital_that_can_take_part_no_longer_is_dropped_when_the_run_goes_on() -> None:
    past, toy = past_of(run(three_hospitals(), rounds=1), 1), three_hospitals()
    toy.hospitals["hungary"].faults["query.describe"] = RunError("no TensorFlow")
    finished = finished_of(go_on(toy, past, rounds=2))
    assert finished.rounds[1].left_out == {"hungary": "could not reply to query.describe: no TensorFlow"}
    assert dict(finished.left_out) == {}


def test_strikes_before_the_interruption_still_count() -> None:
    first, toy = three_hospitals(), three_hospitals()
    for each in (first, toy):
        each.hospitals["hungary"].lies["train"] = lambda answer: None
    past = past_of(run(first, rounds=1, strikes=2), 1)
    events = go_on(toy, past, rounds=2, strikes=2)
    assert [event.name for event in events if isinstance(event, Dropped)] == ["hungary"]


KEY, OTHER_KEY = "0" * 8, "1" * 8
TESTED, OTHERS = "a" * 32, "b" * 32


@pytest.mark.parametrize(
    ("before", "now", "is_refused"),
    [
        (f"{KEY}-{TESTED}", f"{KEY}-{OTHERS}", True),
        (f"{KEY}-{TESTED}", f"{KEY}-{TESTED}", False),
        (f"{KEY}-{TESTED}", f"{OTHER_KEY}-{OTHERS}", False),
        (f"{KEY}-{TESTED}", None, False),
        (None, f"{KEY}-{TESTED}", False),
    ],
)
def test_a_run_does_not_go_on_if_the_hash_of_the_test_patients_is_another(
    before: str | None, now: str | None, is_refused: bool
) -> None:
    first, toy = three_hospitals(), three_hospitals()
    first.hospitals["va"].split_hash, toy.hospitals["va"].split_hash = before, now
    past = past_of(run(first, rounds=1), 1)
    if is_refused:
        with pytest.raises(RunError, match="va has other patients than when the run started"):
            go_on(toy, past, rounds=2)
    else:
        assert isinstance(go_on(toy, past, rounds=2)[-1], RunFinished)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "zurich"}, "zurich was not in the run that is resumed (cleveland, hungary, va were)"),
        ({"ages": [70, 71]}, "va has other patients than when the run started; give it the same file again"),
        ({"source": "uci"}, "va has other patients than when the run started; give it the same file again"),
    ],
)
def test_a_run_goes_on_only_with_the_hospitals_and_patients_that_it_began_with(
    change: dict[str, Any], expected: str
) -> None:
    past, hospitals = past_of(run(three_hospitals(), rounds=1), 1), three_hospitals().hospitals
    toy = make_toy(hospitals["cleveland"], hospitals["hungary"], replace(hospitals["va"], **change))
    with pytest.raises(RunError) as caught:
        go_on(toy, past, rounds=2)
    assert str(caught.value) == expected
    assert set(toy.kinds()) == {"query.describe"}
