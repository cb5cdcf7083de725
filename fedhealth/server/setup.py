"""Setup before the rounds: wait for the hospitals, and determine the standardisation and the initial weights."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.models.recalibration import class_weights
from fedhealth.server.admission import OPEN, Admission
from fedhealth.server.events import OnEvent
from fedhealth.server.records import Member
from fedhealth.server.reply_validation import (
    check_label_counts,
    check_moments,
    check_summed_label_counts,
    make_member,
)
from fedhealth.server.setup_queries import SetupQueries
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
    """The common start of the rounds."""

    standardisation: Standardisation | None
    """None if each hospital uses its own."""
    class_weights: tuple[float, float] | None
    """Of a healthy and an ill patient in training; None without --class-weights."""
    weights: ArrayRecord


class Setup:
    """The setup of a run before the rounds; the parameters are those of `SetupQueries`, and the columns."""

    def __init__(
        self,
        grid: Grid,
        settings: FederationSettings,
        wanted: int,
        max_wait: float,
        on_event: OnEvent,
        *,
        schema: Schema,
        admission: Admission = OPEN,
    ) -> None:
        self._settings = settings
        self._schema = schema
        self._queries = SetupQueries(grid, settings, wanted, max_wait, on_event, admission=admission)

    @property
    def members(self) -> list[Member]:
        """The hospitals that take part, in the order of their names."""
        return in_order(self._queries)

    @property
    def left_out(self) -> dict[str, str]:
        """Hospital -> why it does not take part."""
        return self._queries.left_out

    def collect_members(self) -> list[Member]:
        """Wait until all hospitals are ready; returns those that take part, in the order of their names.

        Raises
        ------
        RunError
            Hospitals are missing after `max_wait` seconds, too few can take part, or two have the same name.
        """
        return collect_members(self._queries, self._read_member)

    def agree(self) -> Agreement:
        """The common start of the rounds; computed again without a hospital that is left out in the meantime.

        Raises
        ------
        RunError
            Too few hospitals can take part, or one that left did not come back in time.
        """
        while True:
            before = self.members
            agreement = Agreement(
                self.agree_on_standardisation(), self.agree_on_class_weights(), self.fetch_initial_weights()
            )
            if self.members == before:
                return agreement

    def agree_on_standardisation(self) -> Standardisation | None:
        """Means and standard deviations for all hospitals, from sums in two passes; None if each hospital uses its own."""
        if self._settings.scaling == "local":
            return None
        if self._settings.scaling == "reference":
            return preprocessing.reference_standardisation(self._schema)
        query_all = self._queries.query_all
        check = partial(check_moments, len(self._schema.numbers))
        firsts = query_all(FIRST_MOMENTS, encode_empty_request(), decode_moments, check)
        means = preprocessing.combine_means(firsts)
        content = encode_second_moments_request(means)
        squares = query_all(SECOND_MOMENTS, content, decode_moments, check)
        return preprocessing.combine_standardisation(means, squares)

    def agree_on_class_weights(self) -> tuple[float, float] | None:
        """Weights of a healthy and an ill patient in training, from summed label counts; None without --class-weights."""
        if not self._settings.class_weights:
            return None
        check = check_summed_label_counts if self._settings.secure_aggregation else check_label_counts
        counts = self._queries.query_all(LABEL_COUNTS, encode_empty_request(), decode_label_counts, check)
        return class_weights(sum(each.healthy for each in counts), sum(each.ill for each in counts))

    def fetch_initial_weights(self) -> ArrayRecord:
        """The seeded weights, from one hospital: they are the same in all, and the server has no model of its own."""
        queries, content, replies = self._queries, encode_empty_request(), list[Weights]()
        while not replies:  # a hospital that could not reply is no longer a member
            first = min(queries.members, key=queries.name)
            replies = queries.query([first], INITIAL_WEIGHTS, content, _read_initial_weights)
        return encode_arrays(replies[0])

    def _read_member(self, reply: Message) -> Member:
        private, validates = self._settings.private, self._settings.validation_share > 0
        described = decode_description(reply.content)
        if described.schema != self._schema.fingerprint:
            raise ValueError(f"its schema is {described.schema}, the server's is {self._schema.fingerprint}")
        return make_member(reply.metadata.src_node_id, described, private=private, validates=validates and not private)


def collect_members(queries: SetupQueries, read: Callable[[Message], Member]) -> list[Member]:
    """Wait until all hospitals are ready; returns those that take part, in the order of their names.

    `read` decodes a description.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, too few can take part, or two have the same name.
    """
    while len(queries.members) < queries.staying:
        while (here := len(queries.here())) < queries.staying:
            queries.wait(f"only {here} of {queries.staying} hospitals (--hospitals) joined{queries.who()}", ())
        new = sorted(queries.here() - queries.members.keys())
        described = queries.query_once(new, DESCRIBE, encode_empty_request(), read)
        here_now = queries.here()
        known = {**queries.members, **described}
        queries.members = {node: each for node, each in known.items() if node in here_now}
        if silent := queries.here() - queries.members.keys():
            queries.wait("was not ready", [member.name for member in queries.members.values()], silent=silent)
    queries.require_enough()
    return check_names(in_order(queries))


def in_order(queries: SetupQueries) -> list[Member]:
    """The hospitals that take part so far, in the order of their names."""
    return sorted(queries.members.values(), key=lambda member: member.name)


def _read_initial_weights(reply: Message) -> Weights:
    return decode_initial_weights(reply.content)


def check_names(members: list[Member]) -> list[Member]:
    """The members; raises a `RunError` if two have the same name."""
    names = Counter(member.name for member in members)
    if doubled := [name for name, number in names.items() if number > 1]:
        raise RunError(f"two hospitals are named {min(doubled)}; start one of them with another --name")
    return members


def require_same_members(members: Sequence[Member], before: Sequence[Member], dropped: Mapping[str, str]) -> None:
    """Raise a `RunError` if a resumed run has other hospitals than before, or one has other patients."""
    expected = {member.name: member for member in before if member.name not in dropped}
    for member in members:
        known = expected.get(member.name)
        if known is None:
            raise RunError(f"{member.name} was not in the run that is resumed ({', '.join(sorted(expected))} were)")
        if member != known or member.tests_same_patients(known) is False:
            raise RunError(f"{member.name} has other patients than when the run started; give it the same file again")
