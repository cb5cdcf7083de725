"""The questions before the rounds: who answers, who is waited for, and who is left out because it cannot answer."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings, fewest_flags, fewest_hospitals, share_of
from fedhealth.server.events import Dropped, OnEvent, Waiting
from fedhealth.server.participation import OPEN, Admission
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import ABSENT, readable
from fedhealth.transport.base import BaseGrid

S = TypeVar("S")
T = TypeVar("T")
Read = Callable[[Message], T]
POLL_SECONDS = 0.02
REMIND_SECONDS = 10.0
"""How often the server says again whom it is waiting for."""


class SetupQuestions:
    """Asks hospitals. One that fails is left out, as long as enough others stay; one that leaves meanwhile is waited for.

    Parameters
    ----------
    wanted : how many hospitals take part.
    max_wait : seconds that all waiting may take together.
    on_event : informed of the waiting, and of each hospital that is left out.
    admission : where a hospital that is left out is expelled.

    Attributes
    ----------
    members : node id -> hospital, of those who take part so far.
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
        self._next_word = 0.0
        self._on_event = on_event
        self._admission = admission
        self._left_out: dict[int, tuple[str, str]] = {}

    @property
    def left_out(self) -> dict[str, str]:
        """Hospital -> why it takes no part."""
        return dict(self._left_out.values())

    @property
    def staying(self) -> int:
        """How many hospitals are to take part without those."""
        return self._wanted - len(self._left_out)

    def here(self) -> set[int]:
        """Who is connected and not left out."""
        return set(self._grid.get_node_ids()) - self._left_out.keys()

    def ask_all(
        self,
        question: str,
        content: RecordDict,
        decode: Callable[[RecordDict], S],
        check: Callable[[S, Member], T],
    ) -> list[T]:
        """Every member's answer, which `check` holds against what the member has declared."""

        def read(reply: Message) -> T:
            return check(decode(reply.content), self.members[reply.metadata.src_node_id])

        return self.ask(self.members, question, content, read)

    def ask(self, nodes: Iterable[int], question: str, content: RecordDict, read: Read[T]) -> list[T]:
        """The answer of each node that is not left out, in the order of names: an engine may number its nodes anew."""
        asked, answers = set(nodes), dict[int, T]()
        while missing := asked - answers.keys() - self._left_out.keys():
            answers |= self.ask_those_here(sorted(missing & self.here()), question, content, read)
            if away := ", ".join(sorted(map(self.name, missing - answers.keys() - self._left_out.keys()))):
                self.wait(f"{away} left and did not come back", [self.name(node) for node in answers])
        return [answers[node] for node in sorted(answers, key=self.name)]

    def ask_those_here(self, nodes: Iterable[int], question: str, content: RecordDict, read: Read[T]) -> dict[int, T]:
        """Each node's answer, without those who left before they gave one; who cannot give one is left out."""
        messages = [Message(content, dst_node_id=node, message_type=question) for node in nodes]
        waiting, answers = set(self._grid.push_messages(messages)), dict[int, T]()
        while waiting:
            replies = list(self._grid.pull_messages(sorted(waiting)))
            for reply in replies:
                waiting.discard(reply.metadata.reply_to_message_id)
                node = reply.metadata.src_node_id
                if reply.has_error() and reply.error.code in ABSENT:
                    continue
                try:
                    answers[node] = _read(reply, read, question)
                except ValueError as fault:
                    self._leave_out(node, str(fault))
            self._require_enough()
            if waiting and not replies:
                answered = [self.name(node, answer) for node, answer in answers.items()]
                self.wait(f"{len(waiting)} of {len(messages)} hospitals gave no answer to {question}", answered)
        return answers

    def name(self, node: int, answer: object = None) -> str:
        """The hospital's name: as it said, as it joined, or, on Flower's engines, which know no names, its node id."""
        if isinstance(known := self.members.get(node, answer), Member):
            return known.name
        joined = self._grid.name_of(node) if isinstance(self._grid, BaseGrid) else None
        return joined or f"node {node}"

    def wait(self, complaint: str, answered: Sequence[str]) -> None:
        """Sleep for a moment; `complaint` becomes a `RunError` when the time is up."""
        now = time.monotonic()
        if now >= self._deadline:
            raise RunError(f"{complaint} within {self._max_wait:g} s; see --max-wait")
        if now >= self._next_word:
            self._on_event(Waiting(len(self.here()), self.staying, self._deadline - now, sorted(answered)))
            self._next_word = now + REMIND_SECONDS
        time.sleep(POLL_SECONDS)

    def _leave_out(self, node: int, reason: str) -> None:
        """Go on without a hospital."""
        name = self.name(node)
        self._left_out[node] = name, reason
        self.members.pop(node, None)
        self._admission.expel(name, reason)
        self._on_event(Dropped(name, reason))

    def _require_enough(self) -> None:
        """Raise a `RunError` that names all who are left out if those who stay are too few for a round."""
        if self.staying < min(self._settings.min_hospitals, self._wanted):
            flags = "--min-hospitals"
        elif share_of(self.staying, self._settings.fraction) < fewest_hospitals(self._settings):
            flags = fewest_flags(self._settings)
        else:
            return
        reasons = "; ".join(f"{name} {reason}" for name, reason in sorted(self._left_out.values()))
        raise RunError(f"only {self.staying} of {self._wanted} hospitals can take part, too few for {flags}: {reasons}")


def _read(reply: Message, read: Read[T], question: str) -> T:
    """What `read` makes of the reply; a `ValueError` that goes on with a sentence about the hospital if it is no answer."""
    if reply.has_error():
        raise ValueError(f"could not reply to {question}: {readable(reply.error.reason)}")
    try:
        return read(reply)
    except ValueError as problem:
        raise ValueError(f"sent an invalid reply to {question}: {readable(problem)}") from None
