"""Toy hospitals for the server's side: no TensorFlow, one weight, everything can be checked by hand.

A toy hospital's training adds its own `step` to the weight; its risks are the weight for an ill patient and one minus the
weight for a healthy one. The risk of all its validation patients is the weight. Clocks advance only when code sleeps.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import ArrayLike, NDArray

from fedhealth.data import preprocessing
from fedhealth.data.sources.heart import FEATURES, HEART
from fedhealth.metrics.histogram import score_histogram
from fedhealth.models.recalibration import undo_class_weights
from fedhealth.server import finalization as server_finalization
from fedhealth.server import masked_grid, participation, round_records, rounds, setup_queries
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.messages import error_reply, node_id_of
from fedhealth.transport.protocol import finalization, setup
from fedhealth.transport.protocol.evaluation import (
    EVALUATE,
    EvaluateReply,
    EvaluateRequest,
    Histogram,
    encode_evaluate_reply,
    encode_evaluate_request,
)
from fedhealth.transport.protocol.fields import ROUND, action, decode_weights
from fedhealth.transport.protocol.setup import Description, LabelCounts, MomentSums
from fedhealth.transport.protocol.training import (
    EVALUATES,
    TRAIN,
    TrainReply,
    decode_train_request,
    encode_train_reply,
)

HEALTHY, ILL = 3, 1
QUERIES = (
    *(setup.DESCRIBE, setup.FIRST_MOMENTS, setup.SECOND_MOMENTS, setup.LABEL_COUNTS, setup.INITIAL_WEIGHTS),
    *(finalization.SUBGROUPS, finalization.IMPORTANCE, finalization.FINISH),
)
Tamper = Callable[[RecordDict], RecordDict | None]
"""Changes an honest reply before it is sent; None: no change."""


def make_features(ages: list[float]) -> NDArray[np.float64]:
    """(num_patients, 13): these ages, everything else missing."""
    features = np.full((len(ages), len(FEATURES)), np.nan)
    features[:, 0] = ages
    return features


@dataclass
class ToyHospital:
    """A toy hospital's patients and behaviour.

    `faults` maps a message type to the error that it raises there, `lies` to the change of its honest reply; both may be
    changed while it runs.
    """

    name: str
    ages: list[float]
    step: float = 0.1
    source: str = "own"
    validation: tuple[int, int] = (0, 0)
    """Healthy and ill validation patients; their loss is smallest if the weight is the share of ill patients."""
    labels: tuple[int, int] = (0, 0)
    """Healthy and ill training patients, as it sends them on request."""
    split_hash: str | None = None
    """Of its test patients."""
    evaluates_alone: bool = False
    """Whether it sends no evaluation with its training, only in a reply to an evaluate message."""
    faults: dict[str, Exception] = field(default_factory=dict)
    lies: dict[str, Tamper] = field(default_factory=dict)


@dataclass
class Received:
    """One message as a hospital received it (Flower changes a config in place from round to round)."""

    hospital: str
    kind: str
    content: RecordDict
    config: dict[str, Any]

    @property
    def round_num(self) -> int:
        return int(self.config[ROUND])


class ToyGrid(InProcessGrid):
    """A grid whose hospitals can be away (`away`) and whose replies can get lost (`lost`: name and type -> reason).

    `on_send` is called with every batch before it is sent: its type and its hospitals' names.
    """

    def __init__(self, apps: dict[str, ClientApp]) -> None:
        self.names = {node_id_of(name): name for name in apps}
        super().__init__(apps, {})
        self.away: set[str] = set()
        self.lost: dict[tuple[str, str], str] = {}
        self.on_send: Callable[[str, list[str]], None] = lambda kind, names: None
        self.sent: list[tuple[str, list[str]]] = []

    def get_node_ids(self) -> list[int]:
        return [node for node in super().get_node_ids() if self.names[node] not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return super().push_messages(self._note(messages))

    def receive_each(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        return super().receive_each(self._note(messages), timeout=timeout)

    def _note(self, messages: Iterable[Message]) -> list[Message]:
        outgoing = list(messages)
        if outgoing:
            kind = outgoing[0].metadata.message_type
            self.sent.append((kind, sorted(self.names[message.metadata.dst_node_id] for message in outgoing)))
            self.on_send(*self.sent[-1])
        return outgoing

    def _deliver(self, message: Message) -> str:
        message_id, name = super()._deliver(message), self.names[message.metadata.dst_node_id]
        if reason := self.lost.get((name, message.metadata.message_type)):
            self._replies[message_id] = error_reply(message, reason)
        return message_id


@dataclass
class Toy:
    """A toy federation: its grid, its hospitals by name, and all messages that they received, in order."""

    grid: ToyGrid
    hospitals: dict[str, ToyHospital]
    heard: list[Received]

    def kinds(self) -> list[str]:
        return [heard.kind for heard in self.heard]

    def configs(self, kind: str) -> list[dict[str, Any]]:
        return [heard.config for heard in self.heard if heard.kind == kind]

    def asked(self, kind: str, round_num: int) -> list[str]:
        """The hospitals that got this message in that round, in the order of their names."""
        return sorted(each.hospital for each in self.heard if each.kind == kind and each.round_num == round_num)


def as_sent(risks: ArrayLike, labels: ArrayLike) -> Histogram:
    """The score histogram of these risks by label, as a hospital sends it."""
    histogram = score_histogram(risks, labels)
    return Histogram(histogram.num_examples, **vars(histogram))


def toy_reply(hospital: ToyHospital, kind: str, content: RecordDict) -> RecordDict:
    """The reply of an honest hospital."""
    features = make_features(hospital.ages)
    held = (sum(hospital.validation), hospital.validation[1]) if sum(hospital.validation) else ()
    counts = (len(hospital.ages), HEALTHY + ILL, ILL, *held)
    described = Description(hospital.name, hospital.source, HEART.fingerprint, *counts, split_hash=hospital.split_hash)
    always = {
        setup.DESCRIBE: setup.encode_description(described),
        setup.FIRST_MOMENTS: setup.encode_moments(MomentSums(**vars(preprocessing.first_moments(HEART, features)))),
        setup.LABEL_COUNTS: setup.encode_label_counts(LabelCounts(*hospital.labels)),
        setup.INITIAL_WEIGHTS: setup.encode_initial_weights({"w": np.array([0.5], np.float32)}),
        finalization.SUBGROUPS: finalization.encode_subgroups({}),
        finalization.IMPORTANCE: finalization.encode_importance(None),
        finalization.FINISH: finalization.encode_finish_reply({}),
    }
    if kind in always:
        return always[kind]
    if kind == setup.SECOND_MOMENTS:
        means = setup.decode_second_moments_request(content)
        return setup.encode_moments(MomentSums(**vars(preprocessing.second_moments(HEART, features, means))))
    weight = decode_weights(content)["w"]
    if kind == TRAIN:
        trained = np.asarray(weight + np.float32(hospital.step))
        return encode_train_reply(TrainReply({"w": trained}, len(hospital.ages), 0.25))
    risk = float(np.clip(weight[0], 0, 1))
    tested = as_sent([1 - risk] * HEALTHY + [risk] * ILL, [0] * HEALTHY + [1] * ILL)
    labels = np.repeat([0, 1], hospital.validation)
    return encode_evaluate_reply(EvaluateReply(tested, as_sent(np.full(len(labels), risk), labels) if held else None))


def make_toy(*hospitals: ToyHospital, keys: list[str] | None = None, grid_class: type[ToyGrid] = ToyGrid) -> Toy:
    """A federation of these hospitals, known to the grid by `keys` (default: their names)."""
    by_key = dict(zip(keys or [hospital.name for hospital in hospitals], hospitals, strict=True))
    heard: list[Received] = []
    apps = {key: toy_app(hospital, heard) for key, hospital in by_key.items()}
    return Toy(grid_class(apps), {hospital.name: hospital for hospital in hospitals}, heard)


def toy_app(hospital: ToyHospital, heard: list[Received]) -> ClientApp:
    """The app of one toy hospital, which records all messages."""
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        kind = message.metadata.message_type
        config = dict(message.content.config_records.get("config", ConfigRecord()))
        also = {} if kind in hospital.faults or EVALUATES not in config else hear_evaluation(hospital, message, heard)
        heard.append(Received(hospital.name, kind, message.content, config))
        if kind in hospital.faults:
            raise hospital.faults[kind]
        return Message(RecordDict({**say(hospital, kind, message.content), **also}), reply_to=message)

    app.train()(answer)
    app.evaluate()(answer)
    for question in QUERIES:
        app.query(action(question))(answer)
    return app


def say(hospital: ToyHospital, kind: str, content: RecordDict) -> RecordDict:
    """The reply of a hospital, which may be a lie."""
    honest = toy_reply(hospital, kind, content)
    said = hospital.lies[kind](honest) if kind in hospital.lies else honest
    return RecordDict() if said is None else said


def hear_evaluation(hospital: ToyHospital, message: Message, heard: list[Received]) -> RecordDict:
    """The evaluation in the reply to a train message; recorded as an evaluate message of the round before."""
    if hospital.evaluates_alone or EVALUATE in hospital.faults:
        return RecordDict()
    request = decode_train_request(message.content)
    weights = undo_class_weights(list(request.weights.values()), request.class_weights or (1, 1))
    asked = EvaluateRequest(dict(zip(request.weights, weights, strict=True)), request.round_num - 1, request.scale)
    content = encode_evaluate_request(asked)
    heard.append(Received(hospital.name, EVALUATE, content, dict(content["config"])))
    return say(hospital, EVALUATE, content)


def three_hospitals() -> Toy:
    """With 2, 1 and 1 training patients; each round adds (2 * 0.1 + 0.4 + 0.0) / 4 = 0.15 if all train."""
    return make_toy(
        ToyHospital("cleveland", [50, 60], step=0.1, source="uci"),
        ToyHospital("hungary", [40], step=0.4, source="uci"),
        ToyHospital("va", [70], step=0.0),
    )


class Clock:
    """A clock that advances only while code sleeps; actions due `later` happen during the sleep."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps = 0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps += 1
        due = [what for when, what in self._due if when <= self.now]
        self._due = [(when, what) for when, what in self._due if when > self.now]
        for what in due:
            what()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Let something happen in that many seconds."""
        self._due.append((self.now + seconds, what))


def stop_clocks(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """One clock for everything on the server's side that waits."""
    clock = Clock()
    for module in (setup_queries, rounds, round_records, participation, server_finalization, masked_grid):
        monkeypatch.setattr(module, "time", clock)
    return clock
