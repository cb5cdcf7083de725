"""Replies that are taken in groups: the run is the same as with single replies, whatever the hospitals send."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.array_codec import make_array
from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.server import reply_groups
from fedhealth.server.app import federate
from fedhealth.server.events import RunFinished
from fedhealth.server.exact_sums import ExactSum
from fedhealth.server.reply_groups import ReplyGroups
from fedhealth.transport.incoming import Incoming
from fedhealth.transport.messages import encode_message
from tests.support.toy_hospitals import Tamper, ToyGrid, ToyHospital, make_toy

NAMES = ("basel", "genf", "va", "zurich")


class GroupedGrid(ToyGrid):
    """A grid of which replies come together, as bytes; `taken` counts the train replies of usual form."""

    together = 100

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.taken = 0

    def receive_groups(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[list[Incoming]]:
        group = [Incoming.read(encode_message(reply)) for reply in self.receive_each(messages, timeout=timeout)]
        self.taken += sum(each.plain is not None for each in group)
        for start in range(0, len(group), self.together):
            yield group[start : start + self.together]


class OneByOneGrid(GroupedGrid):
    """A grid of which each reply comes alone."""

    together = 1


class PairsGrid(GroupedGrid):
    """A grid of which two replies come together."""

    together = 2


def weights(values: Any, name: str = "w", dtype: str = "float32") -> Tamper:
    def lie(honest: RecordDict) -> RecordDict:
        array = make_array(np.full(values, 0.5, dtype) if isinstance(values, tuple) else np.array(values, dtype))
        return RecordDict({**honest, "arrays": ArrayRecord({name: array})})

    return lie


def numbers(record: str, **changed: Any) -> Tamper:
    """The record with other values; those that are None are left out."""

    def lie(honest: RecordDict) -> RecordDict:
        values = {**honest[record], **{key.replace("_", "-"): value for key, value in changed.items()}}
        return RecordDict(
            {**honest, record: MetricRecord({key: each for key, each in values.items() if each is not None})}
        )

    return lie


def bins(change: Callable[[np.ndarray], np.ndarray]) -> Tamper:
    def lie(honest: RecordDict) -> RecordDict:
        array = change(honest["bins"]["tested"].numpy())
        return RecordDict({**honest, "bins": ArrayRecord({"tested": make_array(array)})})

    return lie


def in_fortran_order(honest: RecordDict) -> RecordDict:
    return RecordDict({**honest, "arrays": ArrayRecord({"w": Array(np.asfortranarray(np.array([0.7], np.float32)))})})


def cut_off(honest: RecordDict) -> RecordDict:
    sent = honest["arrays"]["w"]
    return RecordDict({**honest, "arrays": ArrayRecord({"w": Array("float32", (1,), sent.stype, sent.data[:-1])})})


def with_another_header(honest: RecordDict) -> RecordDict:
    sent = honest["arrays"]["w"]
    swapped = sent.data.replace(b"<f4", b">f4")
    assert swapped != sent.data
    return RecordDict({**honest, "arrays": ArrayRecord({"w": Array("float32", (1,), sent.stype, swapped)})})


def of_another_kind(honest: RecordDict) -> RecordDict:
    sent = honest["arrays"]["w"]
    return RecordDict({**honest, "arrays": ArrayRecord({"w": Array("float32", (1,), "torch", sent.data)})})


LIES: Mapping[str, tuple[str, Tamper]] = {
    "too large": ("train", weights([128.0])),
    "too small": ("train", weights([-128.0])),
    "not a number": ("train", weights([np.nan])),
    "infinite": ("train", weights([np.inf])),
    "other shape": ("train", weights((2,))),
    "other type": ("train", weights([0.5], dtype="float64")),
    "other name": ("train", weights([0.5], name="v")),
    "two arrays": (
        "train",
        lambda honest: RecordDict(
            {
                **honest,
                "arrays": ArrayRecord(
                    {"w": make_array(np.ones(1, np.float32)), "v": make_array(np.ones(1, np.float32))}
                ),
            }
        ),
    ),
    "no arrays": ("train", lambda honest: RecordDict({**honest, "arrays": ArrayRecord()})),
    "in Fortran order": ("train", in_fortran_order),
    "cut off": ("train", cut_off),
    "with another header": ("train", with_another_header),
    "of another kind": ("train", of_another_kind),
    "other patients": ("train", numbers("metrics", num_examples=99)),
    "no loss": ("train", numbers("metrics", train_loss=None)),
    "loss is no number": ("train", numbers("metrics", train_loss=np.nan)),
    "loss is an integer": ("train", numbers("metrics", train_loss=1)),
    "another number": ("train", numbers("metrics", age=71.0)),
    "no metrics": ("train", lambda honest: RecordDict({"arrays": honest["arrays"]})),
    "records in another order": ("train", lambda honest: RecordDict(dict(reversed(honest.items())))),
    "another record": ("train", lambda honest: RecordDict({**honest, "more": MetricRecord({"a": 1})})),
    "other test patients": ("evaluate", numbers("tested", num_examples=5)),
    "a loss below 0": ("evaluate", numbers("tested", log_loss=-0.1)),
    "an error above the patients": ("evaluate", numbers("tested", squared_error=4.1)),
    "no squared error": ("evaluate", numbers("tested", squared_error=None)),
    "ill patients are healthy": ("evaluate", bins(lambda counts: counts[::-1].copy())),
    "one patient more": ("evaluate", bins(lambda counts: counts + np.eye(2, NUM_BINS, dtype=counts.dtype))),
    "counts below 0": (
        "evaluate",
        bins(lambda counts: np.roll(counts.astype(np.int8), 1) - np.eye(2, NUM_BINS, dtype=np.int8)),
    ),
    "counts in 64 bits": ("evaluate", bins(lambda counts: counts.astype(np.int64))),
    "counts in 16 bits": ("evaluate", bins(lambda counts: counts.astype(np.uint16))),
    "other bins": ("evaluate", bins(lambda counts: counts[:, 1:])),
    "no evaluation": ("evaluate", lambda honest: RecordDict()),
    "bins only": ("evaluate", lambda honest: RecordDict({"bins": honest["bins"]})),
}


def run(grid_class: type[ToyGrid], lies: Mapping[str, str], **more: Any) -> tuple[list[str], Any]:
    """(all events as text, grid) of three rounds in which these hospitals lie."""
    hospitals = [ToyHospital(name, [50.0] * (place + 1), step=0.03 * (place + 1)) for place, name in enumerate(NAMES)]
    toy = make_toy(*hospitals, grid_class=grid_class)
    for name, lie in lies.items():
        kind, tamper = LIES[lie]
        toy.hospitals[name].lies[kind] = tamper
    random.seed(0)  # the order in which Flower's strategies ask
    events: list[Any] = []
    asked = {"hospitals": 4, "min_hospitals": 1, "rounds": 3, "strategy": "fedavg", **more}
    federate(toy.grid, FederationSettings(**asked), events.append, max_wait=1.0)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    described = [(type(event).__name__, repr(without_times(event))) for event in events[:-1]]
    return [*map(str, described), repr(finished.weights["w"].data)], toy.grid


def without_times(event: Any) -> Any:
    known = (
        vars(event) if hasattr(event, "__dict__") else {name: getattr(event, name) for name in event.__struct_fields__}
    )
    return {name: value for name, value in known.items() if name != "seconds"}


@pytest.mark.parametrize("grid_class", [GroupedGrid, PairsGrid, OneByOneGrid])
@pytest.mark.parametrize("lie", LIES)
def test_a_run_with_replies_in_groups_is_that_with_single_replies(lie: str, grid_class: type[GroupedGrid]) -> None:
    single, _ = run(ToyGrid, {"va": lie})
    together, grid = run(grid_class, {"va": lie})
    assert together == single
    assert isinstance(grid, GroupedGrid)
    assert grid.taken >= 9


@settings(max_examples=20)
@given(
    st.sampled_from([GroupedGrid, PairsGrid, OneByOneGrid]),
    st.dictionaries(st.sampled_from(NAMES[1:]), st.sampled_from(sorted(LIES))),
    st.sampled_from(["fedavg", "fedprox", "fedadam", "fedmedian", "scaffold"]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([1, 2]),
)
def test_so_is_one_in_which_several_lie(
    grid_class: type[GroupedGrid], lies: dict[str, str], strategy: str, norm: float, every: int
) -> None:
    settings = {"strategy": strategy, "max_update_norm": norm, "evaluate_every": every, "strikes": 2}
    assert run(grid_class, lies, **settings)[0] == run(ToyGrid, lies, **settings)[0]


def test_a_round_in_which_no_reply_is_valid_ends_the_run_in_the_same_words() -> None:
    lies = dict.fromkeys(NAMES, "not a number")
    reasons = []
    for grid_class in (ToyGrid, GroupedGrid):
        with pytest.raises(RunError) as raised:
            run(grid_class, lies)
        reasons.append(str(raised.value))
    assert reasons[0] == reasons[1]
    assert "not all are finite" in reasons[0]


def test_small_parts_of_a_group_give_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run(GroupedGrid, {})
    monkeypatch.setattr(reply_groups, "MOST_TOGETHER_BYTES", 1)
    assert run(GroupedGrid, {})[0] == whole


def test_valid_replies_of_usual_form_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Incoming] = []
    take = ReplyGroups.take

    def note(self: ReplyGroups, group: Sequence[Incoming]) -> list[Incoming]:
        left.extend(rest := take(self, group))
        return rest

    monkeypatch.setattr(ReplyGroups, "take", note)
    monkeypatch.setattr(ExactSum, "add", lambda *args: pytest.fail("a single reply was added"))
    run(GroupedGrid, {})
    assert left == []
