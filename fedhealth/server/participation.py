"""Participation in a run: its members, who is connected, who is sampled, strikes, and who has been dropped."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from fedhealth.common.errors import PROTOCOL_VIOLATION, RunError
from fedhealth.common.reminders import Reminder
from fedhealth.server.admission import Admission
from fedhealth.server.events import Dropped, OnEvent, Paused
from fedhealth.server.records import TOGETHER, Member
from fedhealth.server.reply_validation import ABSENT, readable
from fedhealth.server.schedule import RoundSchedule

T = TypeVar("T")
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RoundPolicy:
    """The conditions for a round to be complete, and for a hospital to be dropped."""

    min_hospitals: int = 1
    """A round needs the weights of this many hospitals, or of all if there are fewer."""
    strikes: int = 3
    """A hospital is dropped after this many invalid replies."""
    max_update_norm: float = 0.0
    """Longer updates are clipped to this L2 norm; 0: no clipping."""
    round_timeout: float = 3600.0
    """Seconds."""
    max_wait: float = 3600.0
    """Seconds that a round may wait for hospitals to come back."""
    fewest: int = 1
    """The strategy needs the weights of this many hospitals, whatever `min_hospitals` is."""
    fewest_flags: str = ""
    """The flags that determine `fewest`."""


@dataclass(frozen=True)
class Replies(Generic[T]):
    """The replies of a round so far, by node id."""

    valid: Mapping[int, T]
    reasons: Mapping[int, str]
    """Why a hospital has no valid reply."""
    absent: set[int]
    """Hospitals that got a message and may still reply."""

    def with_late(self, late: "Replies[T]") -> "Replies[T]":
        """These replies and those of hospitals that got the message again."""
        reasons = {**self.reasons, **late.reasons}
        still = {node: reason for node, reason in reasons.items() if node not in late.valid}
        return Replies({**self.valid, **late.valid}, still, late.absent)


class Roster:
    """The members of a run by node id, in the order of their names.

    Parameters
    ----------
    strikes, dropped : strikes and reasons for exclusion before an interruption, by name.
    admission : expels dropped hospitals.
    on_event : called with pauses and dropped hospitals.

    Attributes
    ----------
    members, strikes, dropped : the current state.
    needed, needed_for : number of hospitals that must train in a round, and the flags that require it.
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
        """The members that have not been dropped."""
        return {node for node, member in self.members.items() if member.name not in self.dropped}

    def is_active(self, node: int) -> bool:
        """Whether this node is a member that has not been dropped."""
        return node in self.members and self.members[node].name not in self.dropped

    def drop_reasons(self) -> dict[int, str]:
        """Dropped hospital -> reason."""
        return {node: self.dropped[m.name] for node, m in self.members.items() if m.name in self.dropped}

    def draw(self, round_num: int) -> set[int]:
        """The hospitals that train in this round: all, or a random sample of the size that the schedule gives."""
        active = self.active()
        if self.schedule.fraction == 1:
            return active
        names = self.schedule.draw(round_num, [self.members[node].name for node in active], len(self.members))
        return {node for node in active if self.members[node].name in names}

    def list_drawn(self, asked: set[int]) -> tuple[str, ...]:
        """Names of the hospitals in `asked` if they were sampled (--fraction), else none."""
        return tuple(sorted(self.members[node].name for node in asked)) if self.schedule.fraction < 1 else ()

    def count_patients(self, nodes: Iterable[int]) -> int:
        """Number of training patients of these hospitals."""
        return sum(self.members[node].train_patients for node in nodes)

    def by_name(self, reasons: Mapping[int, str]) -> dict[str, str]:
        """The reasons by hospital name, in the order of names."""
        return {member.name: reasons[node] for node, member in self.members.items() if node in reasons}

    def wait_for_members(self, grid: Grid, round_num: int, replies: Replies[T], since: float) -> None:
        """Wait until enough absent hospitals are connected for the round to reach its number of hospitals.

        `max_wait` counts from now if too few are connected, and from `since` if they are connected but do not reply.

        Raises
        ------
        RunError
            Connected hospitals cannot train, or those that left do not come back within `max_wait`.
        """
        wanted, reminder = self.needed - len(replies.valid), Reminder(time.monotonic)
        here = replies.absent & set(grid.get_node_ids())
        start = time.monotonic() if len(here) < wanted else since
        while (left := start + self.policy.max_wait - time.monotonic()) > 0 and len(replies.absent) >= wanted:
            if len(here) >= wanted:
                return
            missing = self._reasons(replies, replies.absent - here)
            if reminder.is_due(missing):
                self._on_event(Paused(round_num, len(replies.valid), self.needed, missing, left, self.needed_for))
            time.sleep(POLL_SECONDS)
            here = replies.absent & set(grid.get_node_ids())
        raise RunError(self._too_few(round_num, replies, here))

    def _too_few(self, round_num: int, replies: Replies[T], here: set[int]) -> str:
        reasons = self._reasons(replies, replies.reasons.keys() | (replies.absent - here))
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        could_return = len(replies.absent) >= self.needed - len(replies.valid)
        waited = f", and not enough came back within {self.policy.max_wait:g} s (--max-wait)" if could_return else ""
        if TOGETHER in reasons:
            return f"round {round_num}: there is no sum over all hospitals ({reasons[TOGETHER]}){waited}"
        return (
            f"round {round_num}: {len(replies.valid)} of the {self.needed} hospitals that it needs ({self.needed_for}) "
            f"trained ({listed}){waited}"
        )

    def _reasons(self, replies: Replies[T], nodes: set[int]) -> dict[str, str]:
        """Name -> why it is missing, in the order of names."""
        return dict(sorted((self.members[node].name, replies.reasons.get(node, "not connected")) for node in nodes))

    def sort_replies(
        self, messages: Iterable[Message], asked: set[int], read: Callable[[Message, Member], T]
    ) -> Replies[T]:
        """The valid replies, decoded by `read`, and the reason for every other hospital in `asked`."""
        replies = IncomingReplies(self, asked, read)
        for message in messages:
            replies.take(message)
        return replies.sorted()

    def read_error(self, message: Message) -> str:
        """The reason in an error reply; a violation of the protocol is a strike."""
        reason = readable(message.error.reason)
        return self.strike(message.metadata.src_node_id, reason) if message.error.code == PROTOCOL_VIOLATION else reason

    def strike(self, node: int, reason: str) -> str:
        """Count an invalid reply and drop the hospital if there were too many. Returns the reason with the count."""
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


class IncomingReplies(Generic[T]):
    """Sorts the replies of the hospitals in `asked` as they come, each decoded by `read`.

    An invalid reply (`read` raises a `ValueError`) is a strike. Replies of other nodes and second replies are ignored.
    """

    def __init__(self, roster: Roster, asked: set[int], read: Callable[[Message, Member], T]) -> None:
        self.valid: dict[int, T] = {}
        self.reasons = dict.fromkeys(asked, "not connected")
        self.seen: set[int] = set()
        """The hospitals that replied, validly or not."""
        self._roster = roster
        self._asked = asked
        self._absent = set(asked)
        self._read = read

    def take(self, message: Message) -> None:
        """Sort one reply."""
        node, roster = message.metadata.src_node_id, self._roster
        if not self.awaits(node):
            return
        self.seen.add(node)
        if message.has_error():
            self.reasons[node] = roster.read_error(message)
            if message.error.code not in ABSENT:
                self._absent.discard(node)
            return
        self._absent.discard(node)
        try:
            self.valid[node] = self._read(message, roster.members[node])
            del self.reasons[node]
        except ValueError as problem:
            self.reasons[node] = roster.strike(node, readable(problem))

    def awaits(self, node: int) -> bool:
        """Whether this hospital was asked and has no valid reply yet."""
        return node in self._asked and node not in self.valid

    def accept(self, node: int, value: T) -> None:
        """Take the decoded reply of a hospital that is awaited."""
        self.seen.add(node)
        self._absent.discard(node)
        self.valid[node] = value
        del self.reasons[node]

    def sorted(self) -> Replies[T]:
        """The replies so far."""
        return Replies(self.valid, self.reasons, self._absent)
