"""The setup of a run with secure aggregation: the hospitals' names, their keys, and the roster that all of them accept."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.schema import Schema
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.server.masked_grid import MaskedGrid, Patience
from fedhealth.server.records import TOGETHER, Member
from fedhealth.server.reply_validation import readable
from fedhealth.server.setup import collect_members
from fedhealth.server.setup_queries import Read, SetupQueries, T
from fedhealth.transport.protocol import roster as rosters
from fedhealth.transport.protocol.roster import KEY, ROSTER, KeyRoster
from fedhealth.transport.protocol.setup import Who, decode_who
from fedhealth.transport.protocol.sum_messages import SumMessages


@dataclass(frozen=True)
class Secured:
    """The hospitals of a run with secure aggregation.

    Attributes
    ----------
    grid : all hospitals as one.
    single : the grid of the single hospitals.
    roster : their keys.
    members : the single hospitals, of which only names and sources are known.
    left_out : hospital -> why it does not take part.
    """

    grid: MaskedGrid
    single: Grid
    roster: KeyRoster
    members: Sequence[Member]
    left_out: dict[str, str]


def secure(
    grid: Grid,
    queries: SetupQueries,
    settings: FederationSettings,
    schema: Schema,
    *,
    patience: Patience,
    before: KeyRoster | None,
) -> Secured:
    """Wait for the hospitals and let them agree on keys; a resumed run keeps the roster that it had `before`.

    Raises
    ------
    RunError
        Hospitals are missing or too few, they are not those of before, or one of them does not accept the roster.
    """
    members = collect_members(queries, lambda reply: _read_who(reply, schema))
    if len(members) < rosters.FEWEST:
        reasons = "; ".join(f"{name} {reason}" for name, reason in sorted(queries.left_out.items()))
        raise RunError(
            f"--secure-aggregation needs {rosters.FEWEST} hospitals or more; only {len(members)} take part: {reasons}"
        )
    names = [member.name for member in members]
    if before and list(before.names) != names:
        raise RunError(
            f"the run that is resumed sums over {', '.join(before.names)}, and {', '.join(names)} are here; start a new run"
        )
    roster = before or _ask_keys(queries)
    accepted = _ask_everybody(queries, ROSTER, rosters.encode_roster(roster), _read_acceptance)
    if any(digest != roster.digest for digest in accepted):
        raise RunError("a hospital has accepted another roster than the one that was sent")
    source = "+".join(sorted({member.source for member in members}))
    nodes = {member.name: member.node_id for member in members}
    messages = SumMessages(settings, schema, NUM_BINS, list_groups(schema))
    masked = MaskedGrid(grid, roster, nodes, messages, Who(TOGETHER, source, schema.fingerprint), patience=patience)
    return Secured(masked, grid, roster, members, queries.left_out)


def _ask_keys(queries: SetupQueries) -> KeyRoster:
    run_id = secrets.token_bytes(rosters.RUN_ID_BYTES)
    entries = _ask_everybody(queries, KEY, rosters.encode_key_request(run_id), lambda reply: _read_key(reply, queries))
    return KeyRoster(run_id, tuple(sorted(entries, key=lambda entry: entry.name)))


def _ask_everybody(queries: SetupQueries, kind: str, content: RecordDict, read: Read[T]) -> list[T]:
    """Every hospital's reply: without one of them there is no sum."""
    before = queries.left_out
    replies = queries.query(queries.members, kind, content, read)
    lost = {name: reason for name, reason in queries.left_out.items() if name not in before}
    if lost:
        listed = "; ".join(f"{name} {reason}" for name, reason in sorted(lost.items()))
        raise RunError(f"the hospitals have not agreed on a roster: {listed}")
    return replies


def _read_who(reply: Message, schema: Schema) -> Member:
    who = decode_who(reply.content)
    if who.schema != schema.fingerprint:
        raise ValueError(f"its schema is {readable(who.schema)}, the server's is {schema.fingerprint}")
    return Member(reply.metadata.src_node_id, readable(who.name), readable(who.source), 0, 0, 0)


def _read_key(reply: Message, queries: SetupQueries) -> rosters.Entry:
    entry, member = rosters.decode_key_reply(reply.content), queries.members[reply.metadata.src_node_id]
    if entry.name != member.name:
        raise ValueError(f"its key is that of {readable(entry.name)}")
    return entry


def _read_acceptance(reply: Message) -> bytes:
    return rosters.decode_acceptance(reply.content)
