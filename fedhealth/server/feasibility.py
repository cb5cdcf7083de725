"""A run with --feasibility: each hospital is asked once what it has, and the run ends. No model, no rounds."""

from functools import partial

from flwr.app import Message

from fedhealth.common.errors import RunError
from fedhealth.data.schema import Schema
from fedhealth.metrics.subgroups import suppress_small_cells
from fedhealth.server.feasibility_record import Feasibility, HospitalFeasibility
from fedhealth.server.reply_validation import readable
from fedhealth.server.setup_queries import SetupQueries
from fedhealth.transport.protocol.feasibility import (
    ALL_BUT_FEW,
    FEASIBILITY,
    FEW,
    FeasibilityReply,
    decode_feasibility,
)
from fedhealth.transport.protocol.setup import encode_empty_request

Report = tuple[str, HospitalFeasibility]
"""A hospital's name and what it has."""


def ask_feasibility(queries: SetupQueries, schema: Schema, least: int) -> Feasibility:
    """What every hospital has; a hospital may leave once it has replied.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, too few can reply, or two have the same name.
    """
    reports: dict[int, Report] = {}
    while len(reports) < queries.staying:
        while (here := len(queries.here() | reports.keys())) < queries.staying:
            queries.wait(f"only {here} of {queries.staying} hospitals (--hospitals) joined", ())
        new = sorted(queries.here() - reports.keys())
        read = partial(read_report, schema, least)
        reports |= queries.query_once(new, FEASIBILITY, encode_empty_request(), read)
        if silent := queries.here() - reports.keys():
            queries.wait("did not reply", [name for name, _ in reports.values()], silent=silent)
    hospitals = dict(sorted(reports.values(), key=lambda report: report[0]))
    if len(hospitals) < len(reports):
        raise RunError("two hospitals have the same name; start one of them with another --name")
    return Feasibility(schema.fingerprint, schema.outcome.name, hospitals, queries.left_out)


def read_report(schema: Schema, least: int, reply: Message) -> Report:
    """The decoded reply; a `ValueError` if it is of other columns, or discloses a count of few patients."""
    sent = decode_feasibility(reply.content)
    if sent.schema != schema.fingerprint:
        raise ValueError(f"its schema is {sent.schema}, the server's is {schema.fingerprint}")
    if len(sent.missing) != len(schema.features):
        raise ValueError(f"it sent {len(sent.missing)} counts, but there are {len(schema.features)} features")
    if sent.min_count < least:
        raise ValueError(f"its --min-count is {sent.min_count}, below {least}")
    exact = [count for count in (sent.ill, *sent.missing) if count not in (FEW, ALL_BUT_FEW)]
    if not all(all(suppress_small_cells([count, sent.patients - count], sent.min_count)) for count in exact):
        raise ValueError(f"it sent a count of fewer than {sent.min_count} patients")
    missing = dict(zip(schema.feature_names, (count_or_bound(sent, count) for count in sent.missing), strict=True))
    outcome = count_or_bound(sent, sent.ill)
    return readable(sent.name), HospitalFeasibility(readable(sent.source), sent.patients, outcome, missing)


def count_or_bound(sent: FeasibilityReply, count: int) -> int | str:
    """The count, or what is known of one that is not disclosed."""
    bounds = {FEW: f"<{sent.min_count}", ALL_BUT_FEW: f">{sent.patients - sent.min_count}"}
    return bounds.get(count, count)
