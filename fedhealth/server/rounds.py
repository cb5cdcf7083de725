"""The recorder that wraps any strategy and tells what each round was.

It lets only sound answers through, waits for the hospitals that a round needs and drops those that break the rules: the
same for every strategy, here once.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedhealth.common.errors import MISBEHAVED, RunError
from fedhealth.metrics.histogram import ScoreHistogram
from fedhealth.server.events import Checkpoint, Dropped, OnEvent, Paused, RoundRecord, evaluation_fields
from fedhealth.server.node_subset import NodeSubsetGrid
from fedhealth.server.reply_validation import (
    ABSENT,
    NOT_SOUND,
    check_trained,
    clip_update,
    describe_problem,
    read_evaluation,
    readable,
)
from fedhealth.server.schedule import RoundSchedule

POLL_SECONDS = 0.05
REMIND_SECONDS = 10.0
"""How often the server says again whom it is waiting for."""


@dataclass(frozen=True)
class RoundPolicy:
    """When a round counts and when a hospital does not."""

    min_hospitals: int = 1
    """A round needs the weights of this many, or of all if the federation is smaller."""
    strikes: int = 3
    max_update_norm: float = 0.0
    round_timeout: float = 3600.0
    """Seconds."""
    max_wait: float = 3600.0
    """Seconds that a round may wait for hospitals to come back."""


class GuardedStrategy(Strategy):
    """Wraps a strategy: it sees only answers that are sound, and `on_event` hears what each round was.

    Parameters
    ----------
    start : where the run stands: its strategy, its members (nobody else is asked or listened to), how many rounds are
        done, and what is held against whom.
    correct : what makes the model to evaluate of the weights, if it is not just them.

    Attributes
    ----------
    arrays : the global weights after the last whole training.
    strikes, dropped : what is held against whom by now, by name.
    """

    def __init__(
        self,
        start: Checkpoint,
        rules: RoundPolicy,
        on_event: OnEvent,
        plan: RoundSchedule | None = None,
        correct: Callable[[ArrayRecord], ArrayRecord] = lambda weights: weights,
    ) -> None:
        self.arrays = start.weights
        self.strikes = Counter(start.strikes)
        self.dropped = dict(start.dropped)
        self._strategy = start.strategy
        self._members = {member.node_id: member for member in start.members}
        self._done = start.round_num
        self._rules = rules
        self._plan = plan or RoundSchedule()
        self._correct = correct
        self._asked: set[int] = set()
        self._on_event = on_event
        self._started = 0.0
        self._train_loss = 0.0
        self._left_out: dict[int, str] = {}
        self._clipped: dict[str, float] = {}
        self._send: Callable[[], list[Message]] = list
        self._grid: Grid | None = None

    def summary(self) -> None:
        """Log the wrapped strategy's settings."""
        self._strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every hospital that is here and drawn to train, as soon as enough are."""
        round_num = self._done + server_round
        self._started, self.arrays, self._grid, self._clipped = time.perf_counter(), arrays, grid, {}
        self._left_out, self._asked = self._told_dropped(), self._draw(round_num)
        self._wait_for_members(round_num, {}, self._asked, time.monotonic())

        def send() -> list[Message]:
            # Flower's strategies count the nodes before they wait for `min_available_nodes` (flwr 1.42.0): of four
            # hospitals that connect late, round 1 would train two even with `fraction_train=1.0`. The wait has no limit.
            here = self._asked & self._here()
            part = NodeSubsetGrid(grid, here)
            return list(self._strategy.configure_train(round_num, arrays, config, part)) if here else []

        self._send = send
        return send()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the strategy combine the weights of those who answered, once enough did.

        Raises
        ------
        RunError
            Those who are here cannot train, or those who left do not come back within `max_wait`.
        """
        round_num = self._done + server_round
        sound, left_out, absent = self._sort_out(replies, self._check_trained, self._asked)
        self._left_out = left_out | self._told_dropped()
        since = time.monotonic()
        while len(sound) < self._needed():
            self._wait_for_members(round_num, sound, absent, since)
            messages = [message for message in self._send() if message.metadata.dst_node_id in absent]
            late = self._grid.send_and_receive(messages, timeout=self._rules.round_timeout) if self._grid else []
            more, news, absent = self._sort_out(late, self._check_trained, absent)
            sound |= more
            self._left_out = {n: r for n, r in {**self._left_out, **news}.items() if n not in more}
            if not more:
                time.sleep(POLL_SECONDS)  # whoever is here and gives no answer is not asked in a hot loop
        # By name: an engine may number its nodes anew in every run, and sums depend on the order in the last bit.
        trained = [sound[node] for node in self._members if node in sound]
        arrays, metrics = self._strategy.aggregate_train(round_num, trained)
        self._train_loss = float(metrics.get("train-loss", math.nan)) if metrics else math.nan  # type: ignore[arg-type]
        self.arrays = self.arrays if arrays is None else arrays
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every hospital that is here to evaluate the new global weights, if it is the round for it."""
        here, round_num = self._active() & set(grid.get_node_ids()), self._done + server_round
        if not here or not self._plan.evaluates_after(round_num):
            return []
        return self._strategy.configure_evaluate(round_num, self._correct(arrays), config, NodeSubsetGrid(grid, here))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Add up the histograms and report the round."""
        histograms, held = dict[str, ScoreHistogram](), dict[str, ScoreHistogram]()

        def keep_histogram(reply: Message) -> None:
            member = self._members[reply.metadata.src_node_id]
            histograms[member.name], validation = read_evaluation(reply, member)
            if validation:
                held[member.name] = validation

        round_num, silent = self._done + server_round, dict[int, str]()
        if self._plan.evaluates_after(round_num):
            silent = self._sort_out(replies, keep_histogram, self._active())[1] | self._told_dropped()
        left_out = {**silent, **self._left_out}
        self._on_event(
            RoundRecord(
                round_num=round_num,
                seconds=time.perf_counter() - self._started,
                train_loss=self._train_loss,
                left_out={self._members[node].name: left_out[node] for node in self._members if node in left_out},
                left_out_share=self._patients(self._left_out) / self._patients(self._asked | self._left_out.keys()),
                clipped=self._clipped,
                asked=sorted(self._members[node].name for node in self._asked) if self._plan.fraction < 1 else (),
                **evaluation_fields(histograms, held),
            )
        )
        return None  # Flower keeps what is returned here of every round, and nobody reads it

    # --- who takes part -------------------------------------------------------------------------------------------------

    def _active(self) -> set[int]:
        return {node for node, member in self._members.items() if member.name not in self.dropped}

    def _told_dropped(self) -> dict[int, str]:
        return {node: self.dropped[m.name] for node, m in self._members.items() if m.name in self.dropped}

    def _draw(self, round_num: int) -> set[int]:
        """Who is to train in this round: all, or as many as the plan says, by lot."""
        active = self._active()
        if self._plan.fraction == 1:
            return active
        names = self._plan.draw(round_num, [self._members[node].name for node in active], len(self._members))
        return {node for node in active if self._members[node].name in names}

    def _needed(self) -> int:
        return min(self._rules.min_hospitals, self._plan.count(len(self._members)))

    def _patients(self, nodes: Iterable[int]) -> int:
        return sum(self._members[node].train_patients for node in nodes)

    def _here(self) -> set[int]:
        return set(self._grid.get_node_ids()) if self._grid else set()

    def _wait_for_members(self, round_num: int, sound: Mapping[int, Message], absent: set[int], since: float) -> None:
        """Wait until enough of the `absent` are here for the round to reach its number of hospitals.

        The time runs from now if they are away, and from `since` if they are here and give no answer.
        """
        wanted, here, next_word = self._needed() - len(sound), absent & self._here(), 0.0
        start = time.monotonic() if len(here) < wanted else since
        while (left := start + self._rules.max_wait - time.monotonic()) > 0 and len(absent) >= wanted:
            if len(here) >= wanted:
                return
            if time.monotonic() >= next_word:
                self._on_event(Paused(round_num, len(sound), self._needed(), self._reasons(absent - here), left))
                next_word = time.monotonic() + REMIND_SECONDS
            time.sleep(POLL_SECONDS)
            here = absent & self._here()
        told = "; ".join(
            f"{name}: {reason}" for name, reason in self._reasons(self._left_out.keys() | (absent - here)).items()
        )
        waited = f", and not enough came back within {self._rules.max_wait:g} s (--max-wait)" * (len(absent) >= wanted)
        raise RunError(
            f"round {round_num}: {len(sound)} of the {self._needed()} hospitals that it needs (--min-hospitals) trained "
            f"({told}){waited}"
        )

    def _reasons(self, nodes: set[int]) -> dict[str, str]:
        """Name -> why it is missing, by name."""
        return dict(sorted((self._members[node].name, self._left_out.get(node, "not here")) for node in nodes))

    # --- what they answer ---------------------------------------------------------------------------------------------

    def _sort_out(
        self, replies: Iterable[Message], check: Callable[[Message], None], asked: set[int]
    ) -> tuple[dict[int, Message], dict[int, str], set[int]]:
        """Sound replies by node id; for every other asked hospital the reason; and those who may still come back."""
        sound, reasons, absent = {}, dict.fromkeys(asked, "not here"), set(asked)
        for reply in replies:
            node = reply.metadata.src_node_id
            if node not in asked or node in sound:
                continue
            try:
                if not reply.has_error():
                    check(reply)
            except NOT_SOUND as problem:
                reasons[node] = self._strike(node, describe_problem(problem))
                absent.discard(node)
                continue
            if reply.has_error():
                reasons[node] = self._read_error(reply)
                if reply.error.code not in ABSENT:
                    absent.discard(node)
                continue
            sound[node] = reply
            del reasons[node]
            absent.discard(node)
        return sound, reasons, absent

    def _read_error(self, reply: Message) -> str:
        reason = readable(str(reply.error.reason))
        return self._strike(reply.metadata.src_node_id, reason) if reply.error.code == MISBEHAVED else reason

    def _strike(self, node: int, reason: str) -> str:
        """Count an unsound answer; a hospital that has given too many is dropped."""
        name = self._members[node].name
        self.strikes[name] += 1
        if self.strikes[name] < self._rules.strikes:
            return f"{reason}; strike {self.strikes[name]} of {self._rules.strikes}"
        self.dropped[name] = f"dropped at strike {self.strikes[name]} of {self._rules.strikes}: {reason}"
        self._on_event(Dropped(name, self.dropped[name]))
        return self.dropped[name]

    def _check_trained(self, reply: Message) -> None:
        member = self._members[reply.metadata.src_node_id]
        check_trained(reply, self.arrays, member.train_patients, private=member.epsilon is not None)
        if self._rules.max_update_norm:
            arrays = reply.content.array_records["arrays"]
            reply.content["arrays"], norm = clip_update(arrays, self.arrays, self._rules.max_update_norm)
            if norm is not None:
                self._clipped[member.name] = norm
