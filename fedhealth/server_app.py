"""The rounds as Flower sees them: a `ServerApp` that asks hospitals for sums, weights and histograms, never for rows.

Light on purpose: no TensorFlow, no model. What a run looks like on a screen or on disk is told to `on_event` and
stands elsewhere.
"""

import math
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedhealth import preprocessing
from fedhealth.errors import RunError
from fedhealth.preprocessing import Moments, Standardisation
from fedhealth.rounds import RoundRecord, RoundRecorder, readable
from fedhealth.settings import FederationSettings
from fedhealth.strategies import make_strategy

POLL_SECONDS = 0.05
REMIND_SECONDS = 10.0
"""How often the server says again whom it is waiting for."""


COUNTS = ("train-patients", "train-ill", "test-patients", "test-ill")
"""What a hospital tells of its size."""


@dataclass(frozen=True)
class Waiting:
    """Not all hospitals are here yet."""

    here: int
    wanted: int
    seconds_left: float


@dataclass(frozen=True)
class Member:
    """A hospital of the federation, as it described itself."""

    node_id: int
    name: str
    source: str
    train_patients: int
    train_ill: int
    test_patients: int
    test_ill: int

    @property
    def patients(self) -> int:
        """All its patients."""
        return self.train_patients + self.test_patients


@dataclass(frozen=True)
class Began:
    """All hospitals are ready; the rounds begin."""

    settings: FederationSettings
    members: Sequence[Member]
    dataset: str


@dataclass(frozen=True)
class Finished:
    """The run is over and every hospital has the final model."""

    settings: FederationSettings
    members: Sequence[Member]
    dataset: str
    weights: ArrayRecord
    standardisation: Standardisation | None
    rounds: Sequence[RoundRecord]
    seconds: float


Event = Waiting | Began | RoundRecord | Finished
OnEvent = Callable[[Event], None]


def make_server_app(*listeners: OnEvent, max_wait: float = 3600.0) -> ServerApp:
    """The app; the `listeners` hear of everything that happens, one after the other, on the app's thread."""
    server_app = ServerApp()

    def on_event(event: Event) -> None:
        for listener in listeners:
            listener(event)

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        federate(grid, FederationSettings.from_run_config(context.run_config), on_event, max_wait)

    return server_app


def federate(grid: Grid, settings: FederationSettings, on_event: OnEvent, max_wait: float) -> None:
    """One run, from the first hospital that joins to the final model in all of them.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, two have one name, or nobody answers in a round.
    """
    members = gather_members(grid, settings, max_wait, on_event)
    started = time.perf_counter()
    dataset = "+".join(sorted({member.source for member in members}))
    on_event(Began(settings, members, dataset))
    standardisation = agree_on_standardisation(grid, settings, members)
    config = ConfigRecord() if standardisation is None else _to_config(standardisation)
    rounds: list[RoundRecord] = []

    def keep_round(record: RoundRecord) -> None:
        rounds.append(record)
        on_event(record)

    recorder = RoundRecorder(
        strategy=make_strategy(settings),
        names={member.node_id: member.name for member in members},
        train_patients={member.node_id: member.train_patients for member in members},
        on_round=keep_round,
    )
    result = recorder.start(
        grid=grid,
        initial_arrays=ask_for_initial_weights(grid, members, settings.round_timeout),
        num_rounds=settings.rounds,
        timeout=settings.round_timeout,
        train_config=ConfigRecord(dict(config)),
        evaluate_config=ConfigRecord(dict(config)),
    )
    hand_out(grid, members, RecordDict({"arrays": result.arrays, "config": config}), settings.round_timeout)
    seconds = time.perf_counter() - started
    on_event(Finished(settings, members, dataset, result.arrays, standardisation, rounds, seconds))


def wait_for_hospitals(grid: Grid, wanted: int, max_wait: float, on_event: OnEvent) -> None:
    """Wait until `wanted` hospitals are here, and say so every ten seconds."""
    deadline, next_word = time.monotonic() + max_wait, 0.0
    while (here := len(list(grid.get_node_ids()))) < wanted:
        now = time.monotonic()
        if now >= deadline:
            raise RunError(f"only {here} of {wanted} hospitals came within {max_wait:g} s; see --max-wait, --hospitals")
        if now >= next_word:
            on_event(Waiting(here, wanted, deadline - now))
            next_word = now + REMIND_SECONDS
        time.sleep(POLL_SECONDS)


def gather_members(grid: Grid, settings: FederationSettings, max_wait: float, on_event: OnEvent) -> list[Member]:
    """Wait for all hospitals and for their word that they are ready; one that leaves meanwhile is waited for again."""
    while True:
        wait_for_hospitals(grid, settings.hospitals, max_wait, on_event)
        node_ids = list(grid.get_node_ids())
        messages = [_request(RecordDict(), "query.describe", node_id) for node_id in node_ids]
        replies = list(grid.send_and_receive(messages, timeout=settings.round_timeout))
        if set(grid.get_node_ids()) == set(node_ids):
            return _check_names(sorted((_member(reply) for reply in replies), key=lambda member: member.name))


def _check_names(members: list[Member]) -> list[Member]:
    names = [member.name for member in members]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise RunError(f"two hospitals are named {min(doubled)}; start one of them with another --name")
    return members


def _member(reply: Message) -> Member:
    if reply.has_error():
        raise RunError(f"a hospital could not describe itself: {readable(str(reply.error.reason))}")
    try:
        who, counts = reply.content.config_records["hospital"], reply.content.metric_records["counts"]
        member = Member(
            node_id=reply.metadata.src_node_id,
            name=readable(str(who["name"])),
            source=readable(str(who["source"])),
            **{key.replace("-", "_"): operator.index(counts[key]) for key in COUNTS},  # type: ignore[arg-type]
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"a hospital described itself without sense ({error})") from None
    if member.train_patients < 1 or min(member.test_patients, member.train_ill, member.test_ill) < 0:
        raise RunError(f"{member.name} declared {member.train_patients} training patients; see its console")
    return member


def agree_on_standardisation(
    grid: Grid, settings: FederationSettings, members: Sequence[Member]
) -> Standardisation | None:
    """Means and deviations for everybody, in two passes over sums; None if each hospital uses its own."""
    if settings.scaling == "local":
        return None
    if settings.scaling == "reference":
        return preprocessing.reference_standardisation()
    node_ids, timeout = [member.node_id for member in members], settings.round_timeout
    firsts = [_moments(r) for r in ask(grid, node_ids, "query.first_moments", RecordDict(), timeout)]
    means = preprocessing.combine_means(firsts)
    content = RecordDict({"config": ConfigRecord({"means": list(means)})})
    squares = [_moments(r) for r in ask(grid, node_ids, "query.second_moments", content, timeout)]
    return preprocessing.combine_standardisation(means, squares)


def _moments(reply: Message) -> Moments:
    try:
        record = reply.content.metric_records["moments"]
        moments = Moments(tuple(record["counts"]), tuple(record["sums"]))  # type: ignore[arg-type]  # lists, as sent
    except (KeyError, TypeError) as error:
        raise RunError(f"a hospital's sums make no sense ({error})") from None
    lengths = {len(moments.counts), len(moments.sums)}
    if lengths != {preprocessing.NUM_NUMBERS} or not all(map(math.isfinite, (*moments.counts, *moments.sums))):
        raise RunError("a hospital's sums make no sense (wrong length or not finite)")
    return moments


def ask_for_initial_weights(grid: Grid, members: Sequence[Member], timeout: float) -> ArrayRecord:
    """The seeded weights, from the first hospital: all would give the same, and the server has no model of its own."""
    (reply,) = ask(grid, [members[0].node_id], "query.initial_weights", RecordDict(), timeout)
    return reply.content.array_records["arrays"]


def hand_out(grid: Grid, members: Sequence[Member], final: RecordDict, timeout: float) -> None:
    """Send the final model to every hospital that is still here."""
    here = set(grid.get_node_ids())
    messages = [_request(final, "query.finish", member.node_id) for member in members if member.node_id in here]
    list(grid.send_and_receive(messages, timeout=timeout))


def ask(grid: Grid, node_ids: Iterable[int], question: str, content: RecordDict, timeout: float) -> list[Message]:
    """Ask each hospital; all must answer. Replies in the order of node ids, whoever was first."""
    messages = [_request(content, question, node_id) for node_id in node_ids]
    replies = list(grid.send_and_receive(messages, timeout=timeout))
    for reply in replies:
        if reply.has_error():
            raise RunError(f"a hospital could not answer {question}: {readable(str(reply.error.reason))}")
    if len(replies) < len(messages):
        raise RunError(f"{len(replies)} of {len(messages)} hospitals answered {question} within {timeout:g} s")
    return sorted(replies, key=lambda reply: reply.metadata.src_node_id)


def _request(content: RecordDict, question: str, node_id: int) -> Message:
    return Message(content, dst_node_id=node_id, message_type=question)


def _to_config(standardisation: Standardisation) -> ConfigRecord:
    return ConfigRecord({"means": list(standardisation.means), "stds": list(standardisation.stds)})


app = make_server_app()
