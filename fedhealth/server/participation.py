"""Who takes part in a run: its members, who is here, who is drawn, what is held against whom, and who is dropped."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from fedhealth.common.errors import MISBEHAVED, RunError
from fedhealth.server.events import Dropped, OnEvent, Paused
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import ABSENT, readable
from fedhealth.server.schedule import RoundSchedule

T = TypeVar("T")
POLL_SECONDS = 0.05
REMIND_SECONDS = 10.0
"""How often the server names again those it is waiting for."""


class Admission(Protocol):
    """What decides who may join; `GrpcGrid` is one."""

    def admit_only(self, hospitals: Iterable[str]) -> None:
        """From now on only these may join (again)."""

    def expel(self, hospital: str, reason: str) -> None:
        """Close a hospital's connection and never let it in again."""


class OpenAdmission:
    """For grids that let anybody join: strangers and dropped hospitals are still not asked anything."""

    def admit_only(self, hospitals: Iterable[str]) -> None:
        """Do nothing."""

    def expel(self, hospital: str, reason: str) -> None:
        """Do nothing."""


OPEN = OpenAdmission()


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
    fewest: int = 1
    """A round needs the weights of this many for its strategy, whatever `min_hospitals` is."""
    fewest_flags: str = ""
    """The flags that this follows from."""


@dataclass(frozen=True)
class Replies(Generic[T]):
    """The replies of a round so far, by node id."""

    sound: Mapping[int, T]
    reasons: Mapping[int, str]
    """Why there is no sound reply of a hospital."""
    absent: set[int]
    """Who was asked and may still answer."""

    def with_late(self, late: "Replies[T]") -> "Replies[T]":
        """These and those of hospitals that were asked again."""
        reasons = {**self.reasons, **late.reasons}
        still = {node: reason for node, reason in reasons.items() if node not in late.sound}
        return Replies({**self.sound, **late.sound}, still, late.absent)


class Roster:
    """The members of a run by node id, in the order of their names.

    Parameters
    ----------
    strikes, dropped : what is held against whom from before an interruption, by name.
    admission : where a dropped hospital is expelled.
    on_event : informed of pauses and of dropped hospitals.

    Attributes
    ----------
    members, strikes, dropped : as they are by now.
    needed, needed_for : how many hospitals must train in a round, and the flags that ask for it.
    """

    def __init__(
        self,
        members: Sequence[Member],
        policy: RoundPolicy,
        schedule: RoundSchedule,
        on_event: OnEvent,
        *,
        strikes: Mapping[str, int],
        dropped: Mapping[str, str],
        admission: Admission,
    ) -> None:
        self.members = {member.node_id: member for member in members}
        self.strikes = Counter(strikes)
        self.dropped = dict(dropped)
        self.policy = policy
        self.schedule = schedule
        asked = min(policy.min_hospitals, schedule.count(len(members)))
        self.needed = max(asked, policy.fewest)
        self.needed_for = "--min-hospitals" if asked >= policy.fewest else policy.fewest_flags
        self._on_event = on_event
        self._admission = admission

    def active(self) -> set[int]:
        """All but the dropped ones."""
        return {node for node, member in self.members.items() if member.name not in self.dropped}

    def drop_reasons(self) -> dict[int, str]:
        """Dropped hospital -> why."""
        return {node: self.dropped[m.name] for node, m in self.members.items() if m.name in self.dropped}

    def draw(self, round_num: int) -> set[int]:
        """Who is to train in this round: all, or as many as the schedule says, drawn at random."""
        active = self.active()
        if self.schedule.fraction == 1:
            return active
        names = self.schedule.draw(round_num, [self.members[node].name for node in active], len(self.members))
        return {node for node in active if self.members[node].name in names}

    def list_drawn(self, asked: set[int]) -> tuple[str, ...]:
        """Names of those who were asked to train, if they were drawn (--fraction)."""
        return tuple(sorted(self.members[node].name for node in asked)) if self.schedule.fraction < 1 else ()

    def count_patients(self, nodes: Iterable[int]) -> int:
        """Training patients of these hospitals."""
        return sum(self.members[node].train_patients for node in nodes)

    def by_name(self, reasons: Mapping[int, str]) -> dict[str, str]:
        """The same by name, in the order of names."""
        return {member.name: reasons[node] for node, member in self.members.items() if node in reasons}

    def wait_for_members(self, grid: Grid, round_num: int, replies: Replies[T], since: float) -> None:
        """Wait until enough of the absent are here for the round to reach its number of hospitals.

        The time runs from now if they are away, and from `since` if they are here and give no answer.

        Raises
        ------
        RunError
            Those who are here cannot train, or those who left do not come back within `max_wait`.
        """
        wanted, next_word = self.needed - len(replies.sound), 0.0
        here = replies.absent & set(grid.get_node_ids())
        start = time.monotonic() if len(here) < wanted else since
        while (left := start + self.policy.max_wait - time.monotonic()) > 0 and len(replies.absent) >= wanted:
            if len(here) >= wanted:
                return
            if time.monotonic() >= next_word:
                missing = self._reasons(replies, replies.absent - here)
                self._on_event(Paused(round_num, len(replies.sound), self.needed, missing, left, self.needed_for))
                next_word = time.monotonic() + REMIND_SECONDS
            time.sleep(POLL_SECONDS)
            here = replies.absent & set(grid.get_node_ids())
        raise RunError(self._too_few(round_num, replies, here))

    def _too_few(self, round_num: int, replies: Replies[T], here: set[int]) -> str:
        reasons = self._reasons(replies, replies.reasons.keys() | (replies.absent - here))
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        could_return = len(replies.absent) >= self.needed - len(replies.sound)
        waited = f", and not enough came back within {self.policy.max_wait:g} s (--max-wait)" if could_return else ""
        return (
            f"round {round_num}: {len(replies.sound)} of the {self.needed} hospitals that it needs ({self.needed_for}) "
            f"trained ({listed}){waited}"
        )

    def _reasons(self, replies: Replies[T], nodes: set[int]) -> dict[str, str]:
        """Name -> why it is missing, by name."""
        return dict(sorted((self.members[node].name, replies.reasons.get(node, "not here")) for node in nodes))

    def sort_replies(
        self, messages: Iterable[Message], asked: set[int], read: Callable[[Message, Member], T]
    ) -> Replies[T]:
        """What `read` makes of each sound reply; for every other hospital that was asked the reason.

        An unsound reply (`read` raises a `ValueError`) is a strike. Strangers and second replies are ignored.
        """
        sound, reasons, absent = dict[int, T](), dict.fromkeys(asked, "not here"), set(asked)
        for message in messages:
            node = message.metadata.src_node_id
            if node not in asked or node in sound:
                continue
            if message.has_error():
                reasons[node] = self._read_error(message)
                if message.error.code not in ABSENT:
                    absent.discard(node)
                continue
            absent.discard(node)
            try:
                sound[node] = read(message, self.members[node])
                del reasons[node]
            except ValueError as problem:
                reasons[node] = self._strike(node, readable(problem))
        return Replies(sound, reasons, absent)

    def _read_error(self, message: Message) -> str:
        reason = readable(message.error.reason)
        return self._strike(message.metadata.src_node_id, reason) if message.error.code == MISBEHAVED else reason

    def _strike(self, node: int, reason: str) -> str:
        """Count an unsound reply; a hospital that has given too many is dropped. Returns the reason with the count."""
        name = self.members[node].name
        self.strikes[name] += 1
        if self.strikes[name] < self.policy.strikes:
            return f"{reason}; strike {self.strikes[name]} of {self.policy.strikes}"
        self._drop(name, f"dropped at strike {self.strikes[name]} of {self.policy.strikes}: {reason}")
        return self.dropped[name]

    def _drop(self, name: str, reason: str) -> None:
        self.dropped[name] = reason
        self._admission.expel(name, reason)
        self._on_event(Dropped(name, reason))
