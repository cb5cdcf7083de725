"""The rounds with toy hospitals: no TensorFlow, one weight, everything can be checked by hand.

A toy hospital's training adds its own `step` to the weight; its risks are the weight for an ill patient and one minus
the weight for a healthy one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedhealth import preprocessing, server_app
from fedhealth.errors import RunError, UsageError
from fedhealth.metrics import histogram_to_record, score_histogram
from fedhealth.rounds import RoundRecord
from fedhealth.schema import FEATURES
from fedhealth.server_app import Began, Event, Finished, Waiting, federate, make_server_app
from fedhealth.settings import FederationSettings
from fedhealth.simulation import InProcessGrid
from fedhealth.wire.messages import RUN_ID, SERVER_NODE_ID, node_id_of

MAX_WAIT = 0.01
HEALTHY, ILL = 3, 1


def make_features(ages: list[float]) -> NDArray[np.float64]:
    """(num_patients, 13): these ages, everything else missing."""
    features = np.full((len(ages), len(FEATURES)), np.nan)
    features[:, 0] = ages
    return features


@dataclass
class ToyHospital:
    """What a toy hospital has and does; `faults` maps a message type to the error that it raises there."""

    name: str
    ages: list[float]
    step: float = 0.1
    source: str = "own"
    faults: dict[str, Exception] = field(default_factory=dict)


@dataclass
class Heard:
    """One message as a hospital saw it when it came (Flower changes a config in place from round to round)."""

    hospital: str
    kind: str
    content: RecordDict
    config: dict[str, Any]


@dataclass
class Toy:
    """A toy federation: its grid and all that its hospitals heard, in order."""

    grid: InProcessGrid
    heard: list[Heard]

    def kinds(self) -> list[str]:
        return [heard.kind for heard in self.heard]

    def configs(self, kind: str) -> list[dict[str, Any]]:
        return [heard.config for heard in self.heard if heard.kind == kind]


def toy_answer(hospital: ToyHospital, kind: str, message: Message) -> RecordDict:
    features = make_features(hospital.ages)
    if kind == "query.describe":
        counts = {"train-patients": len(hospital.ages), "train-ill": 1, "test-patients": HEALTHY + ILL, "test-ill": ILL}
        who = ConfigRecord({"name": hospital.name, "source": hospital.source})
        return RecordDict({"hospital": who, "counts": MetricRecord(dict(counts))})
    if kind.endswith("_moments"):
        if kind == "query.first_moments":
            moments = preprocessing.first_moments(features)
        else:
            means = message.content.config_records["config"]["means"]
            moments = preprocessing.second_moments(features, means)  # type: ignore[arg-type]  # a list, as sent
        return RecordDict({"moments": MetricRecord({"counts": list(moments.counts), "sums": list(moments.sums)})})
    if kind == "query.initial_weights":
        return RecordDict({"arrays": ArrayRecord({"w": Array(np.array([0.5], np.float32))})})
    if kind == "query.finish":
        return RecordDict()
    weight = message.content.array_records["arrays"]["w"].numpy()
    if kind == "train":
        arrays = ArrayRecord({"w": Array(np.asarray(weight + np.float32(hospital.step)))})
        metrics = MetricRecord({"num-examples": len(hospital.ages), "train-loss": 0.25})
        return RecordDict({"arrays": arrays, "metrics": metrics})
    risks, labels = [1 - weight[0]] * HEALTHY + [weight[0]] * ILL, [0] * HEALTHY + [1] * ILL
    return RecordDict({"metrics": MetricRecord(histogram_to_record(score_histogram(risks, labels)))})


def make_toy(
    *hospitals: ToyHospital, keys: list[str] | None = None, grid_class: type[InProcessGrid] | None = None
) -> Toy:
    """A federation of these hospitals, known to the grid by `keys` (default: their names)."""
    by_key = dict(zip(keys or [hospital.name for hospital in hospitals], hospitals, strict=True))
    heard: list[Heard] = []
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        hospital, kind = by_key[str(context.node_config["key"])], message.metadata.message_type
        config = dict(message.content.config_records.get("config", ConfigRecord()))
        heard.append(Heard(hospital.name, kind, message.content, config))
        if kind in hospital.faults:
            raise hospital.faults[kind]
        return Message(toy_answer(hospital, kind, message), reply_to=message)

    app.train()(answer)
    app.evaluate()(answer)
    for question in ("describe", "first_moments", "second_moments", "initial_weights", "finish"):
        app.query(question)(answer)
    grid = (grid_class or InProcessGrid)(app, {key: {"key": key} for key in by_key}, {})
    return Toy(grid, heard)


def three_hospitals() -> Toy:
    return make_toy(
        ToyHospital("cleveland", [50, 60], step=0.1, source="uci"),
        ToyHospital("hungary", [40], step=0.4, source="uci"),
        ToyHospital("va", [70], step=0.0),
    )


def run(toy: Toy, hospitals: int = 3, rounds: int = 2, **settings: Any) -> list[Event]:
    events: list[Event] = []
    chosen = {"strategy": "fedavg", **settings}
    federate(toy.grid, FederationSettings(hospitals=hospitals, rounds=rounds, **chosen), events.append, MAX_WAIT)
    return events


def finished_of(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


# --- a run, step by step ----------------------------------------------------------------------------------------------


def test_a_run_tells_that_it_began_each_round_in_order_and_that_it_finished() -> None:
    events = run(three_hospitals(), rounds=3)
    assert [type(event) for event in events] == [Began, RoundRecord, RoundRecord, RoundRecord, Finished]
    assert [event.round_num for event in events if isinstance(event, RoundRecord)] == [1, 2, 3]
    assert finished_of(events).rounds == events[1:4]


def test_hospitals_are_asked_in_the_order_of_the_run() -> None:
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
        *["query.finish"] * 3,
    ]


def test_the_members_are_as_they_described_themselves_in_the_order_of_their_names() -> None:
    began = run(three_hospitals())[0]
    assert isinstance(began, Began)
    assert [(member.name, member.train_patients, member.patients) for member in began.members] == [
        ("cleveland", 2, 6),
        ("hungary", 1, 5),
        ("va", 1, 5),
    ]
    assert [member.node_id for member in began.members] == [node_id_of(n) for n in ("cleveland", "hungary", "va")]
    assert (began.members[0].train_ill, began.members[0].test_patients, began.members[0].test_ill) == (1, 4, 1)
    assert began.dataset == "own+uci"


def test_the_weights_are_the_federation_s_average_after_every_round() -> None:
    finished = finished_of(run(three_hospitals(), rounds=2))
    # Each round adds (2 * 0.1 + 1 * 0.4 + 1 * 0.0) / 4 = 0.15 to the initial 0.5.
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.8], rtol=1e-6)
    assert finished.rounds[0].union.brier == pytest.approx(0.35**2, rel=1e-5)
    assert finished.rounds[1].union.brier == pytest.approx(0.2**2, rel=1e-5)
    assert finished.rounds[1].union.num_examples == 3 * (HEALTHY + ILL)
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
    toy, events = three_hospitals(), list[Event]()
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
    assert finished.standardisation == preprocessing.reference_standardisation()
    assert not any("moments" in kind for kind in toy.kinds())
    assert tuple(toy.configs("train")[0]["means"]) == preprocessing.reference_standardisation().means


def test_local_scaling_sends_none_and_asks_for_no_moments() -> None:
    toy = three_hospitals()
    assert finished_of(run(toy, scaling="local")).standardisation is None
    assert not any("moments" in kind for kind in toy.kinds())
    assert all(set(config) == {"server-round"} for config in toy.configs("train") + toy.configs("evaluate"))
    assert toy.configs("query.finish") == [{}, {}, {}]


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_two_hospitals_of_one_name_end_the_run_before_it_begins() -> None:
    toy = make_toy(
        ToyHospital("va", [50]), ToyHospital("cleveland", [60]), ToyHospital("va", [70]), keys=["a", "b", "c"]
    )
    with pytest.raises(RunError, match="two hospitals are named va; start one of them with another --name"):
        run(toy)
    assert set(toy.kinds()) == {"query.describe"}


@pytest.mark.parametrize(
    ("error", "told"),
    [(RunError("no TensorFlow here"), "no TensorFlow here"), (ValueError("age 61, chol 233"), "ValueError")],
)
def test_a_hospital_that_cannot_describe_itself_ends_the_run_without_quoting_a_patient(
    error: Exception, told: str
) -> None:
    toy = make_toy(ToyHospital("va", [50]), ToyHospital("cleveland", [60], faults={"query.describe": error}))
    with pytest.raises(RunError) as caught:
        run(toy, hospitals=2)
    assert str(caught.value) == f"a hospital could not describe itself: {told}"


@pytest.mark.parametrize("question", ["query.first_moments", "query.second_moments", "query.initial_weights"])
def test_a_hospital_that_cannot_answer_what_all_must_answer_ends_the_run(question: str) -> None:
    faults: dict[str, Exception] = {question: MemoryError()}
    toy = make_toy(ToyHospital("cleveland", [60], faults=faults), ToyHospital("va", [50]))
    with pytest.raises(RunError, match=f"a hospital could not answer {question}: MemoryError"):
        run(toy, hospitals=2)
    assert "train" not in toy.kinds()


def test_a_hospital_that_fails_in_training_is_left_out_and_the_run_goes_on() -> None:
    diverged: dict[str, Exception] = {"train": RunError("training diverged")}
    toy = make_toy(ToyHospital("cleveland", [50, 60, 70]), ToyHospital("va", [50], step=9, faults=diverged))
    finished = finished_of(run(toy, hospitals=2, rounds=1))
    assert finished.rounds[0].left_out == {"va": "training diverged"}
    assert finished.rounds[0].left_out_share == 0.25
    np.testing.assert_allclose(finished.weights["w"].numpy(), [0.6], rtol=1e-6)


def test_a_run_in_which_nobody_can_train_ends_and_says_why() -> None:
    broken: dict[str, Exception] = {"train": ZeroDivisionError("secret")}
    toy = make_toy(ToyHospital("cleveland", [50], faults=broken), ToyHospital("va", [50], faults=broken))
    with pytest.raises(RunError) as caught:
        run(toy, hospitals=2)
    reasons = "cleveland: ZeroDivisionError; va: ZeroDivisionError"
    assert str(caught.value) == f"round 1: no hospital could train ({reasons})"


class LosesAMessage(InProcessGrid):
    """A grid (Flower's own does so) that gives no reply at all for one hospital's first moments."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        return replies[1:] if replies and "moments" in replies[0].content else replies


def test_a_hospital_that_stays_silent_where_all_must_answer_ends_the_run() -> None:
    toy = make_toy(ToyHospital("cleveland", [50]), ToyHospital("va", [50]), grid_class=LosesAMessage)
    with pytest.raises(RunError, match=r"1 of 2 hospitals answered query.first_moments within 7 s"):
        run(toy, hospitals=2, round_timeout=7)


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A clock for the server app that moves only when the app sleeps."""
    fake = SimpleNamespace(now=1000.0, perf_counter=lambda: 0.0)
    fake.monotonic = lambda: fake.now
    fake.sleep = lambda seconds: setattr(fake, "now", fake.now + seconds)
    monkeypatch.setattr(server_app, "time", fake)
    return fake


@pytest.mark.usefixtures("clock")
def test_waiting_is_told_at_once_and_every_ten_seconds_and_ends_after_max_wait() -> None:
    events: list[Event] = []
    toy = three_hospitals()
    with pytest.raises(RunError) as caught:
        federate(toy.grid, FederationSettings(hospitals=4), events.append, max_wait=25)
    assert str(caught.value) == "only 3 of 4 hospitals came within 25 s; see --max-wait, --hospitals"
    assert all(isinstance(event, Waiting) and (event.here, event.wanted) == (3, 4) for event in events)
    assert [round(event.seconds_left) for event in events if isinstance(event, Waiting)] == [25, 15, 5]
    assert toy.heard == []


def test_a_tiny_max_wait_ends_a_real_wait() -> None:
    with pytest.raises(RunError, match=r"only 1 of 2 hospitals came within 0\.01 s"):
        run(make_toy(ToyHospital("va", [50])), hospitals=2)


class ComesAndGoes(InProcessGrid):
    """A grid whose first hospital is away while everybody describes themselves for the first time."""

    asked = 0

    def get_node_ids(self) -> list[int]:
        self.asked += 1
        return super().get_node_ids()[1:] if self.asked in (1, 4) else super().get_node_ids()


@pytest.mark.usefixtures("clock")
def test_a_hospital_that_leaves_while_the_others_get_ready_is_waited_for_again() -> None:
    # Asked 1: one is missing, wait. 2, 3: all are here, describe. 4: one has left. From then on all are here.
    toy = make_toy(ToyHospital("cleveland", [50]), ToyHospital("va", [50]), grid_class=ComesAndGoes)
    events = run(toy, hospitals=2, rounds=1)
    assert isinstance(events[0], Waiting)
    assert toy.kinds()[:5] == ["query.describe"] * 4 + ["query.first_moments"]
    assert len(finished_of(events).members) == 2


class LosesOneAtTheEnd(InProcessGrid):
    """A grid whose first hospital leaves once it has evaluated."""

    left = False

    def get_node_ids(self) -> list[int]:
        return super().get_node_ids()[1:] if self.left else super().get_node_ids()

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        outgoing = list(messages)
        self.left = self.left or outgoing[0].metadata.message_type == "evaluate"
        return super().send_and_receive(outgoing, timeout=timeout)


def test_the_final_model_goes_only_to_those_who_are_still_here() -> None:
    toy = make_toy(ToyHospital("cleveland", [50]), ToyHospital("va", [50]), grid_class=LosesOneAtTheEnd)
    finished_of(run(toy, hospitals=2, rounds=1))
    assert toy.kinds().count("query.finish") == 1
