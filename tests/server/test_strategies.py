"""Every strategy on arrays computed by hand, in a `GuardedStrategy`; and each in a whole run of four hospitals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Strategy

from fedhealth.config.federation import FederationSettings
from fedhealth.server.admission import OpenAdmission
from fedhealth.server.app import federate
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.events import Event, RunFinished
from fedhealth.server.participation import Roster, RoundPolicy
from fedhealth.server.records import Member
from fedhealth.server.rounds import GuardedStrategy
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.strategies.registry import STRATEGIES, make_strategy
from fedhealth.server.strategies.scaffold import control_change, count_steps
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import SERVER_NODE_ID, node_id_of, set_identity, set_message_id
from tests.support.hospital_apps import make_apps
from tests.support.hospital_files import write_hospitals

NAMES = ("cleveland", "hungary", "switzerland", "va", "basel", "leeds", "porto")
WEIGHTS = Mapping[str, Sequence[float]]


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    set_identity(SERVER_NODE_ID)


def make_settings(strategy: str, **values: Any) -> FederationSettings:
    return FederationSettings(strategy=strategy, **{"hospitals": 4, "server_momentum": 0.5, **values})


class Server:
    """A strategy in a `GuardedStrategy` with hand-made replies; hospital k has 10 patients unless given otherwise."""

    def __init__(self, settings: FederationSettings, start: Sequence[float], patients: Sequence[int] = ()) -> None:
        self.names = sorted(NAMES[: settings.hospitals], key=node_id_of)
        self.patients = list(patients) or [10] * settings.hospitals
        nodes = {node_id_of(name): name for name in self.names}
        self.strategy: Strategy = make_strategy(settings)
        counts = dict(zip(nodes, self.patients, strict=True))
        members = [Member(node, name, "own", counts[node], 1, 1) for node, name in nodes.items()]
        start_here = Checkpoint(0, ArrayRecord(), None, self.strategy, members, {}, {})
        policy, nothing = RoundPolicy(max_wait=0.05), dict[str, Any]()
        roster = Roster(
            members,
            policy,
            RoundSchedule(),
            lambda event: None,
            strikes=nothing,
            dropped=nothing,
            admission=OpenAdmission(),
        )
        self.recorder = GuardedStrategy(start_here, roster)
        self.grid = InProcessGrid({name: ClientApp() for name in self.names}, {})
        self.arrays = ArrayRecord({"w": Array(np.array(start, np.float32))})
        self.round_num = 0
        self.sent: list[Message] = []

    def round(self, *trained: Sequence[float], losses: Sequence[float] = ()) -> list[float]:
        """One round in which hospital k (in the order of node ids) sends `trained[k]`; the new global weights."""
        self.round_num += 1
        configured = self.recorder.configure_train(self.round_num, self.arrays, ConfigRecord(), self.grid)
        self.sent = sorted(configured, key=lambda message: message.metadata.dst_node_id)
        replies = []
        for place, (message, values) in enumerate(zip(self.sent, trained, strict=True)):
            set_message_id(message, str(place))
            metrics = MetricRecord(
                {"num-examples": self.patients[place], "train-loss": losses[place] if losses else 0.5}
            )
            arrays = ArrayRecord({"w": Array(np.array(values, np.float32))})
            replies.append(Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message))
        aggregated, _ = self.recorder.aggregate_train(self.round_num, replies)
        assert aggregated is not None
        self.arrays = aggregated
        assert aggregated["w"].dtype == "float32", "the next round's replies would be of another type"
        values_now: list[float] = aggregated["w"].numpy().tolist()
        return values_now


def test_fedprox_averages_as_fedavg_and_sends_its_mu() -> None:
    server = Server(make_settings("fedprox", proximal_mu=0.25), [0], patients=[10, 20, 30, 40])
    assert server.round([1], [2], [3], [4]) == pytest.approx([3.0])
    assert server.sent[0].content.config_records["config"]["proximal-mu"] == 0.25


def test_fedavgm_keeps_part_of_the_last_direction() -> None:
    server = Server(make_settings("fedavgm"), [0])
    # Round 1: mean 2, direction -2, 0 + 2. Round 2: mean 2, so no new direction: 0.5 * -2 stays, 2 + 1.
    assert server.round([1], [2], [2], [3]) == pytest.approx([2.0])
    assert server.round([1], [2], [2], [3]) == pytest.approx([3.0])


def test_fedadam_takes_adams_first_step() -> None:
    server = Server(make_settings("fedadam", server_learning_rate=0.1), [1])
    # Mean 3, delta 2: m = 0.5 * 2 = 1, v = 0.01 * 4 = 0.04; Flower corrects as if a round had passed:
    # rate = 0.1 * sqrt(1 - 0.99^2) / (1 - 0.5^2); step = rate * 1 / (0.2 + 0.001).
    rate = 0.1 * np.sqrt(1 - 0.99**2) / (1 - 0.5**2)
    assert server.round([2], [3], [3], [4]) == pytest.approx([1 + rate / 0.201])
    server.round([2], [3], [3], [4])  # of the same type as the first, or the reply would be refused


def test_fedyogi_takes_yogis_first_step() -> None:
    server = Server(make_settings("fedyogi", server_learning_rate=0.1), [1])
    # v = 0 - 0.01 * 4 * sign(0 - 4) = 0.04; no correction of the rate.
    assert server.round([2], [3], [3], [4]) == pytest.approx([1 + 0.1 * 1 / 0.201])


def test_fedadagrad_sums_squares_over_rounds() -> None:
    server = Server(make_settings("fedadagrad", server_learning_rate=0.1), [1])
    first = 1 + 0.1 * 2 / (2 + 0.001)
    assert server.round([2], [3], [3], [4]) == pytest.approx([first])
    delta = 3 - first
    assert server.round([2], [3], [3], [4]) == pytest.approx([first + 0.1 * delta / (np.sqrt(4 + delta**2) + 0.001)])


def test_fedmedian_ignores_one_outlying_hospital_however_large() -> None:
    server = Server(make_settings("fedmedian"), [0, 0], patients=[10, 10, 10, 1000])
    assert server.round([1, 5], [2, 6], [3, 7], [1e6, -1e6]) == pytest.approx([2.5, 5.5])


def test_fedtrimmedavg_cuts_the_largest_and_the_smallest() -> None:
    server = Server(make_settings("fedtrimmedavg", trim_share=0.25), [0])
    assert server.round([-100], [1], [2], [1e6]) == pytest.approx([1.5])


def test_krum_takes_the_weights_of_the_most_central_hospital() -> None:
    # n = 4, f = 0: the score is the sum of the squared distances to the 2 nearest: 0: 1 + 4, 1: 1 + 1, 2: 1 + 4, 10: 64 + 81.
    assert Server(make_settings("krum"), [0]).round([0], [1], [2], [10]) == pytest.approx([1.0])


def test_multikrum_averages_the_most_central_ones_by_patients() -> None:
    # Of 0, 1, 1.5, 10 the best two scores (n - f - 2 = 2 nearest) are 1 (0.25 + 1) and 1.5 (0.25 + 2.25).
    server = Server(make_settings("multikrum"), [0], patients=[10, 10, 30, 10])
    assert server.round([0], [1], [1.5], [10]) == pytest.approx([(10 * 1 + 30 * 1.5) / 40])


def test_multikrum_averages_fewer_when_fewer_train() -> None:
    # Of 0, 1, 10 the best score (n - f - 2 = 1 nearest) is that of 0 and of 1; the mean of two would be of n = 4.
    server = Server(make_settings("multikrum"), [0], patients=[10, 10, 10, 10])
    server.grid = InProcessGrid({name: ClientApp() for name in server.names[:3]}, {})
    assert server.round([10], [1], [0]) == pytest.approx([1.0])


@pytest.mark.slow
def test_bulyan_tolerates_one_malicious_hospital_of_seven() -> None:
    server = Server(make_settings("bulyan", hospitals=7, malicious=1), [0])
    # Krum keeps theta = 5 of 7, all but the malicious and the outermost honest one (6); then the beta = 3 nearest the median.
    assert server.round([1], [2], [3], [4], [5], [6.5], [1e6]) == pytest.approx([3.0])


def test_qfedavg_by_the_papers_formula() -> None:
    server = Server(make_settings("qfedavg", fairness=1.0, learning_rate=0.5), [1.0])
    # L = 2; gradient_k = 2 * (1 - w_k) = 0, -2, 0, 0; loss 0.5 each, q = 1: delta = 0.5 * gradient; h = g^2 + 2 * 0.5.
    # w - sum(delta) / sum(h) = 1 - (-1) / (5 + 1 + 1 + 1).
    assert server.round([1], [2], [1], [1]) == pytest.approx([1 + 1 / 8])


def test_qfedavg_gives_a_hospital_with_a_high_loss_more_weight() -> None:
    server = Server(make_settings("qfedavg", fairness=2.0, learning_rate=0.05), [0.0])
    # L = 20, gradients -20 and 20: deltas -16.2 and 0.2; h = 2 * F * 400 + 20 * F^2 = 736.2 and 80.2.
    expected = (2 * 16.2 - 2 * 0.2) / (2 * 736.2 + 2 * 80.2)
    assert server.round([1], [-1], [1], [-1], losses=[0.9, 0.1, 0.9, 0.1]) == pytest.approx([expected])


def test_scaffold_sends_each_hospital_the_mean_drift_less_its_own_by_the_papers_formula() -> None:
    settings = make_settings("scaffold", learning_rate=0.5, batch_size=5, local_epochs=1, server_learning_rate=1.0)
    server = Server(settings, [1.0], patients=[10, 10, 10, 30])
    assert server.round([0], [2], [1], [3]) == pytest.approx([(10 * 0 + 10 * 2 + 10 * 1 + 30 * 3) / 60])
    assert corrections(server) == pytest.approx([0.0, 0.0, 0.0, 0.0])
    server.round([2], [2], [2], [2])
    # c_i' - c_i = (x - y_i) / (K * 0.5) - c with c = 0 and K = 2, 2, 2, 6: 1, -1, 0, -2/3; by patients: c = -20 / 60.
    assert corrections(server) == pytest.approx([-1 / 3 - 1, -1 / 3 + 1, -1 / 3, -1 / 3 + 2 / 3])


def corrections(server: Server) -> list[float]:
    messages = sorted(server.sent, key=lambda message: message.metadata.dst_node_id)
    return [float(message.content.array_records["correction"]["w"].numpy()[0]) for message in messages]


def test_scaffold_moves_by_the_servers_rate_and_counts_the_absent_as_unchanged() -> None:
    settings = make_settings("scaffold", learning_rate=1.0, batch_size=10, server_learning_rate=0.5, hospitals=2)
    server = Server(settings, [0.0])
    server.recorder.configure_train(1, server.arrays, ConfigRecord(), server.grid)
    assert server.round([2], [4]) == pytest.approx([1.5])
    strategy: Any = server.strategy
    assert strategy.control["w"] == pytest.approx([-3.0])


def test_control_variates_by_hand() -> None:
    assert (count_steps(10, 5, 2), count_steps(11, 5, 2), count_steps(1, 64, 1)) == (4, 6, 1)
    (change,) = control_change([np.array([1.0])], [np.array([3.0])], [np.array([1.0])], steps=2, learning_rate=0.5)
    assert change == pytest.approx([1.0])  # (3 - 1) / (2 * 0.5) - 1


# --- in whole runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"))


def run(hospitals: Mapping[str, Path], settings: FederationSettings) -> tuple[list[Event], InProcessGrid]:
    events: list[Event] = []
    grid = InProcessGrid(make_apps(hospitals), settings.to_run_config())
    federate(grid, settings, events.append, max_wait=1.0)
    return events, grid


def weights_of(events: list[Event]) -> np.ndarray:
    assert isinstance(events[-1], RunFinished)
    return np.concatenate([array.numpy().ravel() for array in events[-1].weights.values()])


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"bulyan", "newton"}))
def test_every_strategy_trains_four_hospitals_and_leaves_nobody_out(strategy: str, hospitals: dict[str, Path]) -> None:
    settings = FederationSettings(hospitals=4, strategy=strategy, rounds=6, batch_size=16)  # type: ignore[arg-type]
    events, _ = run(hospitals, settings)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    losses = [record.pooled.loss for record in finished.rounds]
    assert losses[-1] is not None and losses[0] is not None and losses[-1] < losses[0]
    assert not any(record.left_out for record in finished.rounds)
    again, _ = run(hospitals, settings)
    np.testing.assert_array_equal(weights_of(events), weights_of(again))


@pytest.mark.slow
def test_fedprox_ends_nearer_to_the_start_the_larger_mu_is(hospitals: dict[str, Path]) -> None:
    common: dict[str, Any] = {"hospitals": 4, "rounds": 1, "local_epochs": 10, "batch_size": 8}
    plain, weak, strong = (
        np.linalg.norm(weights_of(run(hospitals, FederationSettings(**common, **choice))[0]))
        for choice in (
            {"strategy": "fedavg"},
            {"strategy": "fedprox", "proximal_mu": 0.0},
            {"strategy": "fedprox", "proximal_mu": 1.0},
        )
    )
    assert weak == plain  # logistic regression starts from zeros: the norm is the way gone
    assert strong < 0.8 * plain


@pytest.mark.slow
def test_scaffold_gets_closer_to_pooled_training_than_fedavg_when_hospitals_drift(hospitals: dict[str, Path]) -> None:
    """With many local steps on different patients, FedAvg does not reach the pooled optimum; SCAFFOLD can."""
    common: dict[str, Any] = {"hospitals": 4, "weight_decay": 0.1, "batch_size": 10_000}
    exact = {**common, "strategy": "fedavg", "learning_rate": 0.3, "rounds": 200, "local_epochs": 1}
    drifting = {**common, "learning_rate": 0.1, "rounds": 60, "local_epochs": 10}
    goal = weights_of(run(hospitals, FederationSettings(**exact))[0])
    far, near = (
        np.linalg.norm(weights_of(run(hospitals, FederationSettings(**drifting, strategy=name))[0]) - goal)  # type: ignore[arg-type]
        for name in ("fedavg", "scaffold")
    )
    assert near < 0.2 * far


def test_scaffolds_corrections_sum_to_zero(hospitals: dict[str, Path]) -> None:
    """The server's control variate is the patient-weighted mean of the hospitals', if all take part in every round."""
    settings = FederationSettings(hospitals=4, strategy="scaffold", rounds=5, batch_size=16)
    sent: dict[int, np.ndarray] = {}
    original = InProcessGrid._deliver

    def deliver(self: InProcessGrid, message: Message) -> str:
        if message.metadata.message_type == "train":
            arrays = message.content.array_records["correction"].values()
            sent[message.metadata.dst_node_id] = np.concatenate([array.numpy().ravel() for array in arrays])
        return original(self, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InProcessGrid, "_deliver", deliver)
        finished, _ = run(hospitals, settings)
    members = finished[-1].members  # type: ignore[union-attr]
    extras, patients = [sent[member.node_id] for member in members], [member.train_patients for member in members]
    np.testing.assert_allclose(np.average(extras, axis=0, weights=patients), 0, atol=1e-5)
    assert np.abs(extras).max() > 1e-2
