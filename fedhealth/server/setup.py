"""Before the rounds: wait for the hospitals, learn who they are, agree on one standardisation and on first weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.preprocessing import Standardisation
from fedhealth.models.recalibration import class_weights
from fedhealth.server.events import OnEvent
from fedhealth.server.participation import OPEN, Admission
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import check_label_counts, check_moments, make_member
from fedhealth.server.setup_questions import SetupQuestions
from fedhealth.transport.protocol.fields import Weights, encode_arrays
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


class Agreement(NamedTuple):
    """What all hospitals begin the rounds with."""

    standardisation: Standardisation | None
    """None if each hospital uses its own."""
    class_weights: tuple[float, float] | None
    """Of a healthy and an ill patient in training; None if they are not asked for."""
    weights: ArrayRecord


class Setup:
    """What the server learns from the hospitals before the rounds; the parameters are those of `SetupQuestions`."""

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
        self._settings = settings
        self._questions = SetupQuestions(grid, settings, wanted, max_wait, on_event, admission=admission)

    @property
    def members(self) -> list[Member]:
        """Those who take part, in the order of their names."""
        return sorted(self._questions.members.values(), key=lambda member: member.name)

    @property
    def left_out(self) -> dict[str, str]:
        """Hospital -> why it takes no part."""
        return self._questions.left_out

    def collect_members(self) -> list[Member]:
        """Wait for all hospitals and for their word that they are ready; those who take part, in the order of their names.

        Raises
        ------
        RunError
            Hospitals are missing when the time is up, too few of them can take part, or two have one name.
        """
        questions = self._questions
        while len(questions.members) < questions.staying:
            while (here := len(questions.here())) < questions.staying:
                questions.wait(f"only {here} of {questions.staying} hospitals (--hospitals) came", ())
            new = sorted(questions.here() - questions.members.keys())
            described = questions.ask_those_here(new, DESCRIBE, encode_empty_request(), self._read_member)
            here_now = questions.here()
            known = {**questions.members, **described}
            questions.members = {node: each for node, each in known.items() if node in here_now}
            if len(questions.members) < questions.staying:
                names = [member.name for member in questions.members.values()]
                questions.wait(f"only {len(names)} of {questions.staying} hospitals were ready", names)
        return _check_names(self.members)

    def agree(self) -> Agreement:
        """What the rounds begin with; if a hospital is left out meanwhile, the others agree anew, without its patients.

        Raises
        ------
        RunError
            Too few hospitals can take part, or one that left did not come back in time.
        """
        while True:
            before = self.members
            agreement = Agreement(
                self.agree_on_standardisation(), self.agree_on_class_weights(), self.ask_for_initial_weights()
            )
            if self.members == before:
                return agreement

    def agree_on_standardisation(self) -> Standardisation | None:
        """Means and deviations for everybody, in two passes over sums; None if each hospital uses its own."""
        if self._settings.scaling == "local":
            return None
        if self._settings.scaling == "reference":
            return preprocessing.reference_standardisation()
        ask_all = self._questions.ask_all
        firsts = ask_all(FIRST_MOMENTS, encode_empty_request(), decode_moments, check_moments)
        means = preprocessing.combine_means(firsts)
        content = encode_second_moments_request(means)
        squares = ask_all(SECOND_MOMENTS, content, decode_moments, check_moments)
        return preprocessing.combine_standardisation(means, squares)

    def agree_on_class_weights(self) -> tuple[float, float] | None:
        """How much a healthy and an ill patient count in training, from the sums of all; None if that is not asked for."""
        if not self._settings.class_weights:
            return None
        counts = self._questions.ask_all(LABEL_COUNTS, encode_empty_request(), decode_label_counts, check_label_counts)
        return class_weights(sum(each.healthy for each in counts), sum(each.ill for each in counts))

    def ask_for_initial_weights(self) -> ArrayRecord:
        """The seeded weights, from one hospital: all would give the same, and the server has no model of its own."""
        questions, content, answers = self._questions, encode_empty_request(), list[Weights]()
        while not answers:  # whoever could not reply to is no longer a member
            first = min(questions.members, key=questions.name)
            answers = questions.ask([first], INITIAL_WEIGHTS, content, _read_initial_weights)
        return encode_arrays(answers[0])

    def _read_member(self, reply: Message) -> Member:
        private, validates = self._settings.private, self._settings.validation_share > 0
        described = decode_description(reply.content)
        return make_member(reply.metadata.src_node_id, described, private=private, validates=validates and not private)


def _read_initial_weights(reply: Message) -> Weights:
    return decode_initial_weights(reply.content)


def _check_names(members: list[Member]) -> list[Member]:
    names = Counter(member.name for member in members)
    if doubled := [name for name, number in names.items() if number > 1]:
        raise RunError(f"two hospitals are named {min(doubled)}; start one of them with another --name")
    return members


def require_same_members(members: Sequence[Member], before: Sequence[Member], dropped: Mapping[str, str]) -> None:
    """A run goes on with the hospitals and the patients that it began with, or it would be another run."""
    expected = {member.name: member for member in before if member.name not in dropped}
    for member in members:
        if member.name not in expected:
            raise RunError(f"{member.name} was not in the run that goes on ({', '.join(sorted(expected))} were)")
        if member != expected[member.name]:
            raise RunError(f"{member.name} has other patients than when the run began; give it the same file again")
