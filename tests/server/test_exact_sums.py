"""The weighted mean from integer sums: any order gives the same bits, bounds are refused, memory does not grow."""

import random
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.server.admission import OPEN
from fedhealth.server.app import federate
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.events import RunFinished
from fedhealth.server.exact_sums import ExactSum, find_too_many, uses_only_the_mean
from fedhealth.server.participation import Roster, RoundPolicy
from fedhealth.server.records import Member, RoundRecord
from fedhealth.server.rounds import GuardedStrategy
from fedhealth.server.schedule import RoundSchedule
from fedhealth.server.strategies.flower_fixes import ALL_NODES
from fedhealth.server.strategies.registry import STRATEGIES, make_strategy
from fedhealth.server.strategies.scaffold import Scaffold
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import node_id_of
from fedhealth.transport.protocol.fields import encode_arrays
from fedhealth.transport.protocol.training import TrainReply, encode_train_reply
from tests.support.toy_hospitals import Toy, ToyGrid, ToyHospital, make_toy

weights = st.floats(-127.875, 127.875, width=32)
hospital = st.tuples(hnp.arrays(np.float32, (3,), elements=weights), st.integers(1, 10_000))
hospitals = st.lists(hospital, min_size=1, max_size=6)


def add_up(added: Iterable[tuple[np.ndarray, int]]) -> ExactSum:
    total = ExactSum()
    for values, num_examples in added:
        total.add({"w": values}, num_examples)
    return total


@given(added=hospitals, seed=st.integers(0, 99))
def test_any_order_gives_the_same_bits(added: list[tuple[np.ndarray, int]], seed: int) -> None:
    other = random.Random(seed).sample(added, len(added))
    assert add_up(added).mean()["w"].tobytes() == add_up(other).mean()["w"].tobytes()


@given(added=hospitals, part=st.integers(1, 9_999))
def test_patients_count_the_same_in_one_hospital_or_split_over_two(
    added: list[tuple[np.ndarray, int]], part: int
) -> None:
    split = [(values, n) for values, count in added for n in (min(part, count), count - min(part, count)) if n]
    assert add_up(added).mean()["w"].tobytes() == add_up(split).mean()["w"].tobytes()


@given(added=hospitals)
def test_the_mean_is_within_2_to_the_minus_33_of_the_real_one(added: list[tuple[np.ndarray, int]]) -> None:
    total = sum(count for _, count in added)
    for place, mean in enumerate(add_up(added).mean()["w"]):
        real = sum(Fraction(float(values[place])) * count for values, count in added) / total
        # The float64 of the mean itself is rounded, too: by 2^-47 at most.
        assert abs(Fraction(float(mean)) - real) <= Fraction(1, 2**33) + Fraction(1, 2**46)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_one_hospital_s_mean_is_its_own_weights_of_any_type_and_shape(dtype: type) -> None:
    values = {"matrix": np.array([[0.5, -127.0], [3.25, 0.0]]).astype(dtype), "number": np.array(2).astype(dtype)}
    total = ExactSum()
    total.add(values, 7)
    for name, mean in total.mean().items():
        np.testing.assert_array_equal(mean, values[name])


def test_means_that_are_taken_one_by_one_are_the_same_and_their_sums_are_given_up() -> None:
    total = ExactSum()
    for count in (3, 5):
        total.add({name: np.full(100_000, count / size, np.float32) for name, size in (("a", 3), ("b", 7))}, count)
    expected = total.mean({"a": "float32", "b": "float64"})
    taken = {}
    for name, mean in total.take_means({"a": "float32", "b": "float64"}):
        assert mean.dtype == expected[name].dtype
        taken[name] = mean.tobytes()
    assert taken == {name: mean.tobytes() for name, mean in expected.items()}
    assert total.mean() == {}


def test_the_largest_sum_does_not_overflow() -> None:
    largest = np.nextafter(np.array([128, -128], np.float32), np.float32(0))
    np.testing.assert_array_equal(add_up([(largest, 2**24 - 1)]).mean()["w"], largest)


@pytest.mark.parametrize("value", [128.0, -128.0, np.inf, np.nan])
def test_a_weight_outside_the_bounds_is_refused_and_nothing_is_added(value: float) -> None:
    total = add_up([(np.array([1.5, 2.5], np.float32), 3)])
    with pytest.raises(ValueError, match="one of its weights is not between -128 and 128"):
        total.add({"w": np.array([0.0, value], np.float32)}, 5)
    assert total.num_examples == 3
    np.testing.assert_array_equal(total.mean()["w"], [1.5, 2.5])


def test_too_many_patients_are_refused_and_nothing_is_added() -> None:
    total = add_up([(np.array([1.5], np.float32), 2**24 - 3)])
    with pytest.raises(ValueError, match="16777216 or more training patients"):
        total.add({"w": np.array([2.5], np.float32)}, 3)
    total.add({"w": np.array([1.5], np.float32)}, 2)
    np.testing.assert_array_equal(total.mean()["w"], [1.5])


def test_the_hospitals_that_are_too_many_are_found_in_the_order_of_names() -> None:
    members = [Member(number, name, "own", patients, 1, 0) for number, (name, patients) in enumerate(MANY.items())]
    assert find_too_many(members) == {0}


MANY = {"zurich": 2, "basel": 2**24 - 2, "aarau": 1}


# --- in a run ---------------------------------------------------------------------------------------------------------


class ShufflingGrid(ToyGrid):
    """A grid whose replies come in another order at every exchange."""

    order = random.Random(7)

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        replies = list(super().receive_each(messages, timeout=timeout))
        self.order.shuffle(replies)
        yield from replies


def toys(grid_class: type[ToyGrid] = ToyGrid, **steps: float) -> Toy:
    steps = steps or {"basel": 0.1, "genf": 0.033, "va": 0.021, "zurich": 1 / 3}
    made = [ToyHospital(name, [50.0] * (number + 1), step=step) for number, (name, step) in enumerate(steps.items())]
    return make_toy(*made, grid_class=grid_class)


def run(toy: Toy, **settings: object) -> tuple[bytes, Sequence[RoundRecord]]:
    """(final weights, records)."""
    events: list[object] = []
    asked = {"hospitals": 4, "min_hospitals": 3, "rounds": 3, "strategy": "fedavg", **settings}
    federate(toy.grid, FederationSettings(**asked), events.append, max_wait=1.0)  # type: ignore[arg-type]
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    return finished.weights["w"].data, finished.rounds


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_the_order_in_which_replies_come_does_not_change_a_bit(strategy: StrategyName) -> None:
    in_order, _ = run(toys(), strategy=strategy)
    shuffled, _ = run(toys(ShufflingGrid), strategy=strategy)
    assert in_order == shuffled


def test_a_hospital_with_too_large_a_weight_is_named_and_the_others_count() -> None:
    weights, records = run(toys(basel=0.1, genf=0.2, va=200.0, zurich=0.3), rounds=1)
    assert records[0].left_out == {"va": "one of its weights is not between -128 and 128; strike 1 of 3"}
    expected = 0.5 + (0.1 * 1 + 0.2 * 2 + 0.3 * 4) / 7
    np.testing.assert_allclose(np.frombuffer(weights[-4:], np.float32), [expected], rtol=1e-6)


def test_a_robust_strategy_takes_weights_of_any_size() -> None:
    _, records = run(toys(basel=0.1, genf=0.2, va=200.0, zurich=0.3), rounds=1, strategy="fedmedian")
    assert records[0].left_out == {}


def test_only_strategies_of_the_mean_get_it_alone() -> None:
    alone = {name for name in STRATEGIES if uses_only_the_mean(make_strategy(with_strategy(name)))}
    assert alone == {"fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"}
    assert not uses_only_the_mean(Scaffold(with_strategy("scaffold")))
    own_metrics = FedAvg(**ALL_NODES, train_metrics_aggr_fn=lambda replies, key: None)  # type: ignore[arg-type, return-value]
    assert not uses_only_the_mean(own_metrics)


def with_strategy(name: StrategyName) -> FederationSettings:
    return FederationSettings(hospitals=9, strategy=name, malicious=1 if name == "bulyan" else 0)


def peak_of_a_round(count: int, model: np.ndarray) -> int:
    """The most memory, in bytes, that a round needs with so many hospitals."""
    names = [f"hospital {number}" for number in range(count)]
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(encode_train_reply(TrainReply({"w": model + 0.5}, 10, 0.5)), reply_to=message)

    members = [Member(node_id_of(name), name, "own", 10, 1, 0) for name in names]
    start = Checkpoint(
        0, encode_arrays({"w": model}), None, make_strategy(FederationSettings(strategy="fedavg")), members, {}, {}
    )
    grid = InProcessGrid(dict.fromkeys(names, app), {})
    roster = Roster(
        members,
        RoundPolicy(),
        RoundSchedule(rounds=1),
        lambda event: None,
        strikes={},
        dropped={},
        admission=OPEN,
    )
    strategy = GuardedStrategy(start, roster)
    tracemalloc.start()
    try:
        strategy.ask(grid, 1, ConfigRecord(), ConfigRecord())
        strategy.aggregate(1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert isinstance(strategy.arrays, ArrayRecord)
        np.testing.assert_array_equal(strategy.arrays["w"].numpy(), model + 0.5)


def test_the_server_s_memory_does_not_grow_with_the_number_of_hospitals() -> None:
    model = np.linspace(-1, 1, 200_000, dtype=np.float32)
    few, many = peak_of_a_round(4, model), peak_of_a_round(40, model)
    assert many < few + model.nbytes
    assert many < 12 * model.nbytes


def test_too_few_valid_replies_end_the_run() -> None:
    with pytest.raises(RunError, match=r"round 1: 3 of the 4 .*va: one of its weights is not between"):
        run(toys(basel=0.1, genf=0.2, va=-200.0, zurich=0.3), min_hospitals=4)
