"""The queries before the rounds: replies, waiting, and hospitals that are left out because they cannot take part."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.common.errors import RunError
from fedhealth.common.reminders import Reminder
from fedhealth.config.federation import FederationSettings, fewest_flags, fewest_hospitals, share_of
from fedhealth.server.admission import OPEN, Admission
from fedhealth.server.events import Dropped, OnEvent, Waiting
from fedhealth.server.records import TOGETHER, Member
from fedhealth.server.reply_validation import ABSENT, readable
from fedhealth.transport.base import BaseGrid

S = TypeVar("S")
T = TypeVar("T")
Read = Callable[[Message], T]
POLL_SECONDS = 0.02
DECLINE_SECONDS = 30.0
"""How long the others may still decline, if too few are left to begin: their clients look every ten seconds or so."""


class SetupQueries:
    """Sends queries to the hospitals. One that fails, or is silent for too long, is left out if enough others remain.

    Parameters
    ----------
    wanted : number of hospitals that are to take part.
    max_wait : seconds for all waiting together, and again after a hospital was left out for its silence.
    on_event : called with `Waiting` events, and for each hospital that is left out.
    admission : expels a hospital that is left out.

    Attributes
    ----------
    members : node id -> hospital, of those that take part so far.
    """

    def __init__(
        self,
        grid: Grid,
        settings: FederationSettings,
        wanted: int,
        max_wait: float,
        on_event: OnEvent,
        *,
        admission: Admission = OPEN,
    ) -> None:
        self.members: dict[int, Member] = {}
        self._grid = grid
        self._settings = settings
        self._wanted = wanted
        self._max_wait = max_wait
        self._deadline = time.monotonic() + max_wait
        self._too_few_since = float("inf")
        self._reminder = Reminder(time.monotonic)
        self._on_event = on_event
        self._admission = admission
        self._left_out: dict[int, tuple[str, str]] = {}

    @property
    def left_out(self) -> dict[str, str]:
        """Hospital -> why it does not take part: it has declined, or could not reply."""
        declined = self._grid.declined() if isinstance(self._grid, BaseGrid) else {}
        return {**{name: f"declined: {reason}" for name, reason in declined.items()}, **dict(self._left_out.values())}

    @property
    def staying(self) -> int:
        """Number of hospitals that take part or are still missing."""
        return self._wanted - len(self.left_out)

    def here(self) -> set[int]:
        """The connected nodes that are not left out."""
        return set(self._grid.get_node_ids()) - self._left_out.keys()

    def query_all(
        self,
        message_type: str,
        content: RecordDict,
        decode: Callable[[RecordDict], S],
        check: Callable[[S, Member], T],
    ) -> list[T]:
        """Every member's reply, validated by `check` against what the member has declared."""

        def read(reply: Message) -> T:
            return check(decode(reply.content), self.members[reply.metadata.src_node_id])

        return self.query(self.members, message_type, content, read)

    def query(self, nodes: Iterable[int], message_type: str, content: RecordDict, read: Read[T]) -> list[T]:
        """The reply of each node that is not left out, in the order of names, since node ids may differ between runs."""
        asked, contents = set(nodes), dict[int, T]()
        while missing := asked - contents.keys() - self._left_out.keys():
            contents |= self.query_once(sorted(missing & self.here()), message_type, content, read)
            if away := missing - contents.keys() - self._left_out.keys():
                self.wait("left and did not come back", [self.name(node) for node in contents], silent=away)
        return [contents[node] for node in sorted(contents, key=self.name)]

    def query_once(self, nodes: Iterable[int], message_type: str, content: RecordDict, read: Read[T]) -> dict[int, T]:
        """The reply of each of these nodes, except those that leave first; a node that cannot reply is left out."""
        asked, contents, replied = set(nodes), dict[int, T](), set[int]()
        messages = [Message(content, dst_node_id=node, message_type=message_type) for node in sorted(asked)]
        waiting = set(self._grid.push_messages(messages))
        while silent := asked - replied - self._left_out.keys():
            replies = list(self._grid.pull_messages(sorted(waiting)))
            for reply in replies:
                waiting.discard(reply.metadata.reply_to_message_id)
                replied.add(node := reply.metadata.src_node_id)
                if reply.has_error() and reply.error.code in ABSENT:
                    continue
                try:
                    contents[node] = _read(reply, read, message_type)
                except ValueError as fault:
                    self._leave_out(node, str(fault))
            self.require_enough()
            if not replies:
                answered = [self.name(node, described) for node, described in contents.items()]
                self.wait(f"did not reply to {message_type}", answered, silent=silent)
        return contents

    def name(self, node: int, described: object = None) -> str:
        """The hospital's name from its description or its join; on Flower's engines, without names, its node id."""
        if isinstance(known := self.members.get(node, described), Member):
            return known.name
        joined = self._grid.name_of(node) if isinstance(self._grid, BaseGrid) else None
        return joined or f"node {node}"

    def who(self) -> str:
        """The hospitals that are here, and those that do not take part and why, in parentheses; empty if there are none."""
        names = [", ".join(sorted(self.name(node) for node in self.here()))]
        names += [f"{name} {reason}" for name, reason in sorted(self.left_out.items())]
        return f" ({'; '.join(filter(None, names))})" if any(names) else ""

    def wait(self, problem: str, answered: Sequence[str], *, silent: Collection[int] = ()) -> None:
        """Sleep for `POLL_SECONDS`; when the time is up, leave out the nodes that are `silent`, and wait anew for others.

        Raises
        ------
        RunError
            The time is up, and no node is known that `problem` could be told of, or too few hospitals remain, also before
            the time is up.
        """
        now = time.monotonic()
        self._end_if_declined(now)
        if now >= self._deadline:
            if not silent:
                raise RunError(f"{problem} within {self._max_wait:g} s; to wait longer, raise --max-wait")
            for node in silent:
                self._leave_out(node, f"{problem} within {self._max_wait:g} s (--max-wait)")
            self.require_enough()
            self._deadline = now + self._max_wait
        here, names = len(self.here()), sorted(answered)
        if self._reminder.is_due((here, self.staying, names)):
            self._on_event(Waiting(here, self.staying, self._deadline - now, names))
        time.sleep(POLL_SECONDS)

    def _end_if_declined(self, now: float) -> None:
        """Raise a `RunError` if so many have declined that too few remain, after a while in which others may decline."""
        self._too_few_since = min(self._too_few_since, now) if self._too_few() else float("inf")
        if now >= self._too_few_since + DECLINE_SECONDS:
            self.require_enough()

    def _leave_out(self, node: int, reason: str) -> None:
        """Continue without a hospital."""
        name = self.name(node)
        self._left_out[node] = name, reason
        self.members.pop(node, None)
        self._admission.expel(name, reason)
        self._on_event(Dropped(name, reason))

    def require_enough(self) -> None:
        """Raise a `RunError` with all hospitals that are left out, if too few remain for a round."""
        if problem := self._too_few():
            raise RunError(problem)

    def _too_few(self) -> str:
        """Why too few hospitals remain for a round; empty if there are enough."""
        return find_too_few(self._settings, self._wanted, self.left_out)


def find_too_few(settings: FederationSettings, wanted: int, left_out: Mapping[str, str]) -> str:
    """Why too few of the hospitals `wanted` remain for a round without those left out; empty if there are enough."""
    staying = wanted - len(left_out)
    if TOGETHER in left_out:
        return f"the setup needs sums over all hospitals, and they {left_out[TOGETHER]}"
    if staying < min(settings.min_hospitals, wanted):
        flags = "--min-hospitals"
    elif share_of(staying, settings.fraction) < fewest_hospitals(settings):
        flags = fewest_flags(settings)
    else:
        return ""
    reasons = "; ".join(f"{name} {reason}" for name, reason in sorted(left_out.items()))
    return f"only {staying} of {wanted} hospitals can take part, too few for {flags}: {reasons}"


def _read(reply: Message, read: Read[T], message_type: str) -> T:
    """The decoded reply; raises a `ValueError` whose text continues a sentence that starts with the hospital's name."""
    if reply.has_error():
        raise ValueError(f"could not reply to {message_type}: {readable(reply.error.reason)}")
    try:
        return read(reply)
    except ValueError as problem:
        raise ValueError(f"sent an invalid reply to {message_type}: {readable(problem)}") from None
