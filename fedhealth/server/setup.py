"""Before the rounds: wait for the hospitals, learn who they are, agree on one standardisation and on first weights."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.preprocessing import Standardisation
from fedhealth.models.recalibration import class_weights
from fedhealth.server.events import OnEvent, Waiting
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import ABSENT, check_label_counts, check_moments, make_member, readable
from fedhealth.transport.protocol.fields import encode_arrays
from fedhealth.transport.protocol.setup import (
    DESCRIBE,
    FIRST_MOMENTS,
    INITIAL_WEIGHTS,
    LABEL_COUNTS,
    SECOND_MOMENTS,
    decode_description,
    decode_initial_weights,
    decode_label_counts,
    decode_moments,
    encode_empty_request,
    encode_second_moments_request,
)

S = TypeVar("S")
T = TypeVar("T")
Read = Callable[[Message], T]
POLL_SECONDS = 0.02
REMIND_SECONDS = 10.0
"""How often the server says again whom it is waiting for."""


class Setup:
    """The questions before the rounds. All hospitals must answer all of them; one that leaves meanwhile is waited for.

    Parameters
    ----------
    wanted : how many hospitals take part.
    max_wait : seconds that all waiting before the rounds may take together.
    on_event : informed of the waiting.
    """

    def __init__(
        self, grid: Grid, settings: FederationSettings, wanted: int, max_wait: float, on_event: OnEvent
    ) -> None:
        self._grid = grid
        self._settings = settings
        self._wanted = wanted
        self._max_wait = max_wait
        self._deadline = time.monotonic() + max_wait
        self._next_word = 0.0
        self._on_event = on_event
        self._members: dict[int, Member] = {}

    def collect_members(self) -> list[Member]:
        """Wait for all hospitals and for their word that they are ready. In the order of their names.

        Raises
        ------
        RunError
            Hospitals are missing when the time is up, or two have one name.
        """
        while len(self._members) < self._wanted:
            while (here := len(self._here())) < self._wanted:
                self._wait(f"only {here} of {self._wanted} hospitals (--hospitals) came", ())
            new = sorted(self._here() - self._members.keys())
            described = self._ask_those_here(new, DESCRIBE, encode_empty_request(), self._read_member)
            here_now = self._here()
            self._members = {node: each for node, each in {**self._members, **described}.items() if node in here_now}
            if len(self._members) < self._wanted:
                names = [member.name for member in self._members.values()]
                self._wait(f"only {len(names)} of {self._wanted} hospitals were ready", names)
        return _check_names(sorted(self._members.values(), key=lambda member: member.name))

    def agree_on_standardisation(self) -> Standardisation | None:
        """Means and deviations for everybody, in two passes over sums; None if each hospital uses its own."""
        if self._settings.scaling == "local":
            return None
        if self._settings.scaling == "reference":
            return preprocessing.reference_standardisation()
        firsts = self._ask_all(FIRST_MOMENTS, encode_empty_request(), decode_moments, check_moments)
        means = preprocessing.combine_means(firsts)
        content = encode_second_moments_request(means)
        squares = self._ask_all(SECOND_MOMENTS, content, decode_moments, check_moments)
        return preprocessing.combine_standardisation(means, squares)

    def agree_on_class_weights(self) -> tuple[float, float] | None:
        """How much a healthy and an ill patient count in training, from the sums of all; None if that is not asked for."""
        if not self._settings.class_weights:
            return None
        counts = self._ask_all(LABEL_COUNTS, encode_empty_request(), decode_label_counts, check_label_counts)
        return class_weights(sum(each.healthy for each in counts), sum(each.ill for each in counts))

    def ask_for_initial_weights(self) -> ArrayRecord:
        """The seeded weights, from one hospital: all would give the same, and the server has no model of its own."""
        first = min(self._members, key=self._name)
        content = encode_empty_request()
        (weights,) = self._ask([first], INITIAL_WEIGHTS, content, lambda reply: decode_initial_weights(reply.content))
        return encode_arrays(weights)

    def _read_member(self, reply: Message) -> Member:
        private, validates = self._settings.private, self._settings.validation_share > 0
        described = decode_description(reply.content)
        return make_member(reply.metadata.src_node_id, described, private=private, validates=validates and not private)

    def _ask_all(
        self,
        question: str,
        content: RecordDict,
        decode: Callable[[RecordDict], S],
        check: Callable[[S, Member], T],
    ) -> list[T]:
        """Every member's answer, which `check` holds against what the member has declared."""

        def read(reply: Message) -> T:
            return check(decode(reply.content), self._members[reply.metadata.src_node_id])

        return self._ask(sorted(self._members), question, content, read)

    def _ask(self, nodes: Iterable[int], question: str, content: RecordDict, read: Read[T]) -> list[T]:
        """Every node's answer, in the order of names: an engine may number its nodes anew in every run."""
        answers: dict[int, T] = {}
        while missing := set(nodes) - answers.keys():
            here = sorted(missing & self._here())
            answers |= self._ask_those_here(here, question, content, read)
            if away := ", ".join(sorted(map(self._name, missing - answers.keys()))):
                self._wait(f"{away} left and did not come back", [self._name(node) for node in answers])
        return [answers[node] for node in sorted(answers, key=self._name)]

    def _ask_those_here(self, nodes: Iterable[int], question: str, content: RecordDict, read: Read[T]) -> dict[int, T]:
        """Each node's answer, without those who left before they gave one."""
        messages = [Message(content, dst_node_id=node, message_type=question) for node in nodes]
        waiting, answers = set(self._grid.push_messages(messages)), dict[int, T]()
        while waiting:
            replies = list(self._grid.pull_messages(sorted(waiting)))
            for reply in replies:
                waiting.discard(reply.metadata.reply_to_message_id)
                node = reply.metadata.src_node_id
                if not (reply.has_error() and reply.error.code in ABSENT):
                    answers[node] = _read(reply, read, self._name(node), question)
            if waiting and not replies:
                answered = [self._name(node, answer) for node, answer in answers.items()]
                self._wait(f"{len(waiting)} of {len(messages)} hospitals gave no answer to {question}", answered)
        return answers

    def _name(self, node: int, answer: object = None) -> str:
        """The hospital's name, if it is known already or just answered who it is."""
        known = self._members.get(node, answer)
        return known.name if isinstance(known, Member) else "a hospital"

    def _here(self) -> set[int]:
        return set(self._grid.get_node_ids())

    def _wait(self, complaint: str, answered: Sequence[str]) -> None:
        """Sleep for a moment; `complaint` becomes a `RunError` when the time is up."""
        now = time.monotonic()
        if now >= self._deadline:
            raise RunError(f"{complaint} within {self._max_wait:g} s; see --max-wait")
        if now >= self._next_word:
            self._on_event(Waiting(len(self._here()), self._wanted, self._deadline - now, sorted(answered)))
            self._next_word = now + REMIND_SECONDS
        time.sleep(POLL_SECONDS)


def _check_names(members: list[Member]) -> list[Member]:
    names = Counter(member.name for member in members)
    if doubled := [name for name, number in names.items() if number > 1]:
        raise RunError(f"two hospitals are named {min(doubled)}; start one of them with another --name")
    return members


def _read(reply: Message, read: Read[T], name: str, question: str) -> T:
    if reply.has_error():
        raise RunError(f"{name} could not answer {question}: {readable(reply.error.reason)}")
    try:
        return read(reply)
    except ValueError as problem:
        raise RunError(f"{name} answered {question} without sense: {readable(problem)}") from None


def require_same_members(members: Sequence[Member], before: Sequence[Member], dropped: Mapping[str, str]) -> None:
    """A run goes on with the hospitals and the patients that it began with, or it would be another run."""
    expected = {member.name: member for member in before if member.name not in dropped}
    for member in members:
        if member.name not in expected:
            raise RunError(f"{member.name} was not in the run that goes on ({', '.join(sorted(expected))} were)")
        if member != expected[member.name]:
            raise RunError(f"{member.name} has other patients than when the run began; give it the same file again")
