"""Setup before the rounds: which hospitals the server waits for, how long, and what ends the waiting."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.sources.heart import HEART
from fedhealth.server.admission import OpenAdmission
from fedhealth.server.events import Dropped, Event, Waiting
from fedhealth.server.records import Member
from fedhealth.server.setup import Setup
from fedhealth.transport.messages import node_id_of
from tests.support.toy_hospitals import Clock, Toy, ToyGrid, ToyHospital, make_toy, stop_clocks, three_hospitals


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    return stop_clocks(monkeypatch)


def start(toy: Toy, wanted: int = 3, max_wait: float = 25.0, **settings: Any) -> tuple[Setup, list[Event]]:
    events: list[Event] = []
    return Setup(toy.grid, FederationSettings(**settings), wanted, max_wait, events.append, schema=HEART), events


def waits(events: list[Event]) -> list[tuple[int, int, int, list[str]]]:
    """(here, wanted, seconds left, who has replied) of each `Waiting` event."""
    assert all(isinstance(event, Waiting) for event in events)
    waiting = [event for event in events if isinstance(event, Waiting)]
    return [(each.here, each.wanted, round(each.seconds_left), list(each.answered)) for each in waiting]


def lie(part: str, key: str, value: Any) -> Callable[[RecordDict], RecordDict]:
    """A reply with another value in one of its records."""

    def tamper(answer: RecordDict) -> RecordDict:
        answer[part][key] = value
        return answer

    return tamper


# --- waiting for hospitals --------------------------------------------------------------------------------------------


def test_members_come_in_the_order_of_their_names_with_all_that_they_said() -> None:
    toy = make_toy(ToyHospital("va", [70]), ToyHospital("cleveland", [50, 60], source="uci"))
    setup, events = start(toy, wanted=2)
    assert setup.collect_members() == [
        Member(node_id_of("cleveland"), "cleveland", "uci", 2, 4, 1),
        Member(node_id_of("va"), "va", "own", 1, 4, 1),
    ]
    assert events == []


@pytest.mark.usefixtures("clock")
def test_waiting_is_reported_at_once_and_after_ten_seconds_and_ends_after_max_wait() -> None:
    toy = three_hospitals()
    setup, events = start(toy, wanted=4)
    with pytest.raises(RunError) as caught:
        setup.collect_members()
    assert (
        str(caught.value) == "only 3 of 4 hospitals (--hospitals) joined (cleveland, hungary, va) within 25 s; "
        "to wait longer, raise --max-wait"
    )
    assert waits(events) == [(3, 4, 25, []), (3, 4, 15, [])]
    assert toy.heard == []


class DecliningGrid(ToyGrid):
    """A toy grid whose hospitals decline at certain seconds."""

    def __init__(self, apps: dict[str, ClientApp]) -> None:
        super().__init__(apps)
        self.reasons: dict[str, str] = {}

    def declined(self) -> dict[str, str]:
        return self.reasons


def declining(clock: Clock, wanted: int, seconds: dict[str, float], **settings: Any) -> tuple[Setup, DecliningGrid]:
    """A setup in which cleveland is there, and others decline after so many seconds."""
    toy = make_toy(ToyHospital("cleveland", [50, 60]), grid_class=DecliningGrid)
    grid = toy.grid
    assert isinstance(grid, DecliningGrid)
    for name, when in seconds.items():
        clock.later(when, lambda name=name: grid.reasons.update({name: "too many rounds"}))
    return start(toy, wanted, max_wait=3600.0, **settings)[0], grid


def test_the_run_begins_without_hospitals_that_decline_if_enough_are_left(clock: Clock) -> None:
    setup, _ = declining(clock, 3, {"va": 5, "hungary": 15}, min_hospitals=1)
    assert [member.name for member in setup.collect_members()] == ["cleveland"]
    assert setup.left_out == {"hungary": "declined: too many rounds", "va": "declined: too many rounds"}
    assert clock.now < 1016


def test_if_too_few_are_left_the_run_ends_when_all_have_spoken(clock: Clock) -> None:
    setup, grid = declining(clock, 3, {"va": 5, "hungary": 15})
    grid.away.add("cleveland")
    clock.later(16, lambda: grid.reasons.update(cleveland="no privacy"))
    with pytest.raises(RunError) as caught:
        setup.collect_members()
    assert str(caught.value) == (
        "only 0 of 3 hospitals can take part, too few for --min-hospitals: cleveland declined: no privacy; "
        "hungary declined: too many rounds; va declined: too many rounds"
    )
    assert clock.now < 1017


def test_if_too_few_are_left_the_run_does_not_wait_long_for_the_others(clock: Clock) -> None:
    setup, grid = declining(clock, 3, {"va": 5, "hungary": 15})
    grid.away.add("cleveland")
    with pytest.raises(RunError, match="only 1 of 3 hospitals can take part, too few for --min-hospitals: hungary dec"):
        setup.collect_members()
    assert 1045 <= clock.now < 1046


def test_at_the_end_of_max_wait_those_who_declined_are_named_as_well(clock: Clock) -> None:
    setup, _ = declining(clock, 4, {"va": 5})
    with pytest.raises(
        RunError, match=r"only 1 of 3 hospitals \(--hospitals\) joined \(cleveland; va declined: too many r"
    ):
        setup.collect_members()


def test_a_tiny_max_wait_ends_a_real_wait() -> None:
    setup, _ = start(make_toy(ToyHospital("va", [50])), wanted=2, max_wait=0.01)
    with pytest.raises(RunError, match=r"only 1 of 2 hospitals \(--hospitals\) joined \(va\) within 0\.01 s"):
        setup.collect_members()


def test_no_message_is_sent_before_all_hospitals_are_connected(clock: Clock) -> None:
    toy = three_hospitals()
    toy.grid.away.add("va")
    clock.later(12, toy.grid.away.clear)
    setup, events = start(toy)
    assert len(setup.collect_members()) == 3
    assert [left for _, _, left, _ in waits(events)] == [25, 15]
    assert toy.grid.sent == [("query.describe", ["cleveland", "hungary", "va"])]


def test_a_hospital_that_leaves_during_setup_is_waited_for_and_only_it_gets_the_message_again(
    clock: Clock,
) -> None:
    toy = three_hospitals()
    toy.grid.lost["va", "query.describe"] = "left the federation"

    def come_back() -> None:
        toy.grid.away.clear()
        toy.grid.lost.clear()

    toy.grid.on_send = lambda kind, names: toy.grid.away.add("va") if len(toy.grid.sent) == 1 else None
    clock.later(12, come_back)
    setup, events = start(toy)
    assert [member.name for member in setup.collect_members()] == ["cleveland", "hungary", "va"]
    assert toy.grid.sent == [("query.describe", ["cleveland", "hungary", "va"]), ("query.describe", ["va"])]
    assert [here for here, *_ in waits(events)] == [2, 2]


def test_a_hospital_that_left_after_its_description_gets_the_message_again_when_it_is_back(clock: Clock) -> None:
    toy = three_hospitals()
    toy.grid.on_send = lambda kind, names: toy.grid.away.add("va") if len(toy.grid.sent) == 1 else None
    toy.hospitals["va"].ages = [70]

    def come_back() -> None:
        toy.hospitals["va"].ages = [70, 80, 90]
        toy.grid.away.clear()

    clock.later(3, come_back)
    members = start(toy)[0].collect_members()
    assert [member.train_patients for member in members] == [2, 1, 3]


def test_a_connected_hospital_that_never_gets_ready_is_not_messaged_in_a_busy_loop_nor_for_ever(clock: Clock) -> None:
    toy = three_hospitals()
    toy.grid.lost["va", "query.describe"] = "left the federation"
    setup, events = start(toy)
    assert [member.name for member in setup.collect_members()] == ["cleveland", "hungary"]
    assert setup.left_out == {"va": "was not ready within 25 s (--max-wait)"}
    assert len(toy.grid.sent) <= clock.naps + 1
    assert waits(events[:1]) == [(3, 3, 25, ["cleveland", "hungary"])]


def test_two_hospitals_of_one_name_end_the_setup() -> None:
    twins = [ToyHospital("va", [50]), ToyHospital("va", [70])]
    setup, _ = start(make_toy(*twins, keys=["a", "b"]), wanted=2)
    with pytest.raises(RunError, match="two hospitals are named va; start one of them with another --name"):
        setup.collect_members()


# --- queries to all hospitals -----------------------------------------------------------------------------------------


def agree(toy: Toy, max_wait: float = 25.0) -> tuple[preprocessing.Standardisation | None, list[Event]]:
    setup, events = start(toy, wanted=len(toy.hospitals), max_wait=max_wait)
    setup.collect_members()
    return setup.agree_on_standardisation(), events


def test_the_standardisation_is_of_all_patients_together() -> None:
    standardisation, _ = agree(three_hospitals())
    # Ages 50, 60, 40 and 70: mean 55, variance 125; the other numbers are missing everywhere.
    assert standardisation is not None
    assert standardisation.means == pytest.approx((55.0, 0, 0, 0, 0, 0))
    assert standardisation.stds == pytest.approx((np.sqrt(125), 1, 1, 1, 1, 1))


@pytest.mark.parametrize("question", ["query.first_moments", "query.second_moments"])
def test_a_hospital_that_leaves_before_it_answers_is_waited_for_and_changes_nothing(
    clock: Clock, question: str
) -> None:
    undisturbed, _ = agree(three_hospitals())
    toy = three_hospitals()
    toy.grid.lost["cleveland", question] = "left the federation"

    def leave(kind: str, names: list[str]) -> None:
        if kind == question and len(names) == 3:
            toy.grid.away.add("cleveland")

    def come_back() -> None:
        toy.grid.away.clear()
        toy.grid.lost.clear()

    toy.grid.on_send = leave
    clock.later(12, come_back)
    standardisation, events = agree(toy)
    assert standardisation == undisturbed
    assert toy.grid.sent.count((question, ["cleveland"])) == 1
    assert [names for kind, names in toy.grid.sent if kind == question] == [
        ["cleveland", "hungary", "va"],
        ["cleveland"],
    ]
    assert waits(events)[0] == (2, 3, 25, ["hungary", "va"])


@pytest.mark.usefixtures("clock")
def test_a_hospital_that_does_not_come_back_to_reply_is_left_out_when_the_time_is_up() -> None:
    toy = three_hospitals()
    toy.grid.lost["hungary", "query.first_moments"] = "left the federation"
    toy.grid.on_send = lambda kind, names: toy.grid.away.add("hungary") if "moments" in kind else None
    setup, _ = start(toy)
    setup.collect_members()
    agreement = setup.agree()
    assert setup.left_out == {"hungary": "left and did not come back within 25 s (--max-wait)"}
    assert agreement.standardisation is not None
    assert agreement.standardisation.means[0] == pytest.approx(60.0)  # of 50, 60 and 70


def test_a_connected_hospital_that_does_not_reply_is_not_messaged_in_a_busy_loop_nor_for_ever(clock: Clock) -> None:
    toy = three_hospitals()
    toy.grid.lost["hungary", "query.first_moments"] = "left the federation"
    setup, _ = start(toy, min_hospitals=3)
    setup.collect_members()
    with pytest.raises(RunError, match="too few for --min-hospitals: hungary left and did not come back within 25 s"):
        setup.agree()
    assert len(toy.grid.sent) <= clock.naps + 2


def test_a_slow_reply_is_waited_for_and_its_hospital_is_reported(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = three_hospitals()
    pull, slow = toy.grid.pull_messages, node_id_of("va")
    done = clock.now + 12

    def pull_those_that_came(message_ids: Any) -> Any:
        ready = [
            each for each in message_ids if each not in toy.grid._replies or clock.now >= done or not is_slow(each)
        ]
        return pull([each for each in ready if each in toy.grid._replies])

    def is_slow(message_id: str) -> bool:
        return toy.grid._replies[message_id].metadata.src_node_id == slow

    monkeypatch.setattr(toy.grid, "pull_messages", pull_those_that_came)
    setup, events = start(toy)
    assert len(setup.collect_members()) == 3
    assert waits(events) == [(3, 3, 25, ["cleveland", "hungary"]), (3, 3, 15, ["cleveland", "hungary"])]


@pytest.mark.usefixtures("clock")
def test_slow_replies_are_not_waited_for_longer_than_max_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = three_hospitals()
    monkeypatch.setattr(toy.grid, "pull_messages", lambda message_ids: [])
    with pytest.raises(RunError) as caught:
        start(toy)[0].collect_members()
    late = "did not reply to query.describe within 25 s (--max-wait)"
    assert str(caught.value) == (
        f"only 0 of 3 hospitals can take part, too few for --min-hospitals: cleveland {late}; hungary {late}; va {late}"
    )


@pytest.mark.usefixtures("clock")
def test_one_slow_hospital_is_left_out_and_the_time_of_the_others_begins_anew(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = three_hospitals()
    pull = toy.grid.pull_messages
    va = f"{len(toy.hospitals)}"  # of the ids that the grid gives to the messages of the first query

    def pull_others(message_ids: Any) -> Any:
        return pull([each for each in message_ids if each in toy.grid._replies and each != va])

    monkeypatch.setattr(toy.grid, "pull_messages", pull_others)
    setup, _ = start(toy)
    assert len(setup.collect_members()) == 2
    (reason,) = setup.left_out.values()
    assert reason == "did not reply to query.describe within 25 s (--max-wait)"
    setup.agree()
    assert clock.now == pytest.approx(1025, abs=0.1)


# --- hospitals that cannot take part ----------------------------------------------------------------------------------

CANNOT = RunError("too few patients for --test-share 0.25")


class Gate(OpenAdmission):
    """Keeps whom it is to expel."""

    def __init__(self) -> None:
        self.expelled: dict[str, str] = {}

    def expel(self, hospital: str, reason: str) -> None:
        self.expelled[hospital] = reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [(CANNOT, str(CANNOT)), (ValueError("age 61, chol 233"), "ValueError")],
    ids=["ours", "any other"],
)
def test_a_hospital_that_cannot_describe_itself_is_left_out_by_name_without_quoting_a_patient(
    error: Exception, expected: str
) -> None:
    toy, gate, events = three_hospitals(), Gate(), list[Event]()
    toy.hospitals["hungary"].faults["query.describe"] = error
    setup = Setup(toy.grid, FederationSettings(), 3, 25.0, events.append, schema=HEART, admission=gate)
    assert [member.name for member in setup.collect_members()] == ["cleveland", "va"]
    reason = f"could not reply to query.describe: {expected}"
    assert setup.left_out == gate.expelled == {"hungary": reason}
    assert events == [Dropped("hungary", reason)]


def test_a_hospital_that_is_left_out_is_asked_nothing_more_and_not_waited_for(clock: Clock) -> None:
    toy = three_hospitals()
    toy.hospitals["hungary"].faults["query.describe"] = CANNOT
    toy.grid.lost["va", "query.describe"] = "left the federation"
    toy.grid.on_send = lambda kind, names: toy.grid.away.add("va") if len(toy.grid.sent) == 1 else None

    def come_back() -> None:
        toy.grid.away.clear()
        toy.grid.lost.clear()

    clock.later(3, come_back)
    setup, _ = start(toy)
    assert len(setup.collect_members()) == 2
    setup.agree()
    assert [names for _, names in toy.grid.sent] == [
        ["cleveland", "hungary", "va"],
        ["va"],
        *[["cleveland", "va"]] * 2,
        ["cleveland"],
    ]


@pytest.mark.parametrize(
    "question", ["query.first_moments", "query.second_moments", "query.label_counts", "query.initial_weights"]
)
def test_whoever_fails_later_is_left_out_and_the_others_agree_without_its_patients(question: str) -> None:
    toy = three_hospitals()
    toy.hospitals["cleveland"].faults[question] = MemoryError()
    for hospital in toy.hospitals.values():
        hospital.labels = (len(hospital.ages), 0) if hospital.name == "va" else (0, len(hospital.ages))
    setup, _ = start(toy, class_weights=True)
    setup.collect_members()
    agreement = setup.agree()
    assert setup.left_out == {"cleveland": f"could not reply to {question}: MemoryError"}
    assert [member.name for member in setup.members] == ["hungary", "va"]
    # Ages 40 and 70: mean 55, variance 225; one of the two is healthy and one is ill.
    assert agreement.standardisation is not None
    assert (agreement.standardisation.means[0], agreement.standardisation.stds[0]) == pytest.approx((55.0, 15.0))
    assert agreement.class_weights == pytest.approx((1.0, 1.0))
    np.testing.assert_array_equal(agreement.weights["w"].numpy(), np.array([0.5], np.float32))


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"min_hospitals": 3}, "--min-hospitals"),
        ({"strategy": "krum"}, "--strategy krum with --malicious 0"),
        ({"strategy": "fedtrimmedavg", "trim_share": 0.34}, "--strategy fedtrimmedavg with --trim-share 0.34"),
    ],
)
def test_a_run_that_needs_all_of_them_ends_with_name_and_reason(settings: dict[str, Any], flags: str) -> None:
    toy = three_hospitals()
    toy.hospitals["va"].faults["query.describe"] = CANNOT
    with pytest.raises(RunError) as caught:
        start(toy, **settings)[0].collect_members()
    assert str(caught.value) == (
        f"only 2 of 3 hospitals can take part, too few for {flags}: va could not reply to query.describe: {CANNOT}"
    )


def test_a_fraction_of_those_who_stay_must_be_enough_for_the_strategy() -> None:
    toy = make_toy(
        *(ToyHospital(name, [50], faults={"query.describe": CANNOT} if name == "b" else {}) for name in "abcde")
    )
    with pytest.raises(RunError, match="only 4 of 5 hospitals can take part, too few for --strategy krum"):
        start(toy, wanted=5, strategy="krum", hospitals=5, fraction=0.6)[0].collect_members()  # 0.6 of 4 are 2


def test_all_who_cannot_take_part_are_named() -> None:
    toy = three_hospitals()
    for name, error in (("va", CANNOT), ("cleveland", MemoryError())):
        toy.hospitals[name].faults["query.describe"] = error
    with pytest.raises(RunError) as caught:
        start(toy)[0].collect_members()
    assert str(caught.value) == (
        "only 1 of 3 hospitals can take part, too few for --min-hospitals: cleveland could not reply to query.describe: "
        f"MemoryError; va could not reply to query.describe: {CANNOT}"
    )


def test_on_a_grid_that_knows_no_names_a_hospital_is_named_by_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = three_hospitals()
    toy.hospitals["va"].faults = {"query.describe": CANNOT}
    monkeypatch.setattr(toy.grid, "name_of", lambda node: None)
    setup, _ = start(toy)
    setup.collect_members()
    assert list(setup.left_out) == [f"node {node_id_of('va')}"]


@pytest.mark.parametrize(
    ("question", "part", "key", "value", "expected"),
    [
        ("query.describe", "counts", "test-ill", 99, "its counts contradict each other: 99 of 4 test patients are ill"),
        ("query.describe", "counts", "test-ill", -1, "its counts contradict each other: -1 of 4 test patients are ill"),
        ("query.describe", "counts", "train-patients", [1], ""),
        ("query.first_moments", "moments", "sums", [1.0], "its sums have the wrong length"),
        ("query.first_moments", "moments", "sums", [np.nan] * 6, "its sums are not finite"),
        ("query.first_moments", "moments", "counts", [-1] * 6, "a count is negative or above its 1 training patients"),
        ("query.first_moments", "moments", "counts", [2] * 6, "a count is negative or above its 1 training patients"),
        (
            "query.second_moments",
            "moments",
            "counts",
            [0.5] * 6,
            "it must send exactly the lists counts (integers) and sums (floats)",
        ),
    ],
)
def test_an_answer_without_sense_leaves_its_hospital_out(
    question: str, part: str, key: str, value: Any, expected: str
) -> None:
    toy = three_hospitals()
    toy.hospitals["va"].lies[question] = lie(part, key, value)
    setup, _ = start(toy)
    setup.collect_members()
    setup.agree()
    (reason,) = setup.left_out.values()
    assert list(setup.left_out) == ["va"]
    assert reason.startswith(f"sent an invalid reply to {question}: {expected}")
    assert "\n" not in reason


def weights_of(toy: Toy) -> ArrayRecord:
    setup, _ = start(toy, wanted=len(toy.hospitals))
    setup.collect_members()
    return setup.fetch_initial_weights()


def test_the_first_weights_come_from_one_hospital() -> None:
    toy = three_hospitals()
    np.testing.assert_array_equal(weights_of(toy)["w"].numpy(), np.array([0.5], np.float32))
    assert toy.kinds().count("query.initial_weights") == 1


def test_invalid_initial_weights_end_the_run() -> None:
    toy = make_toy(ToyHospital("va", [50]))
    for lies, expected in (
        (RecordDict({"arrays": ArrayRecord()}), "it sent no weights"),
        (RecordDict({"metrics": MetricRecord()}), "it sent metrics instead of arrays"),
        (
            RecordDict({"arrays": ArrayRecord([np.array([np.inf], np.float32)])}),
            "its weights are invalid: not all are finite",
        ),
    ):
        toy.hospitals["va"].lies["query.initial_weights"] = lambda answer, lies=lies: lies
        with pytest.raises(RunError) as caught:
            weights_of(toy)
        assert str(caught.value).endswith(f": va sent an invalid reply to query.initial_weights: {expected}")
