"""The beginning of a run, new or resumed: its hospitals, their agreement, and the grid over which the server reaches them."""

from dataclasses import dataclass, replace

from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.server.admission import OPEN, Admission
from fedhealth.server.checkpoints import Checkpoint, ResumeState
from fedhealth.server.events import Dropped, Event, OnEvent, Waiting
from fedhealth.server.exact_sums import uses_only_the_mean
from fedhealth.server.finalization import FinalQueries, MaskedQueries, Queries
from fedhealth.server.masked_grid import Patience
from fedhealth.server.masked_setup import Secured, secure
from fedhealth.server.setup import Setup, require_same_members
from fedhealth.server.setup_queries import SetupQueries
from fedhealth.server.strategies.newton import Newton
from fedhealth.server.strategies.registry import make_strategy
from fedhealth.transport.protocol.fields import Scale


@dataclass(frozen=True)
class Begun:
    """A run whose hospitals are ready.

    Attributes
    ----------
    grid : the hospitals; under secure aggregation all of them as one.
    state : the state before the next round.
    secured : the single hospitals under secure aggregation; None without it.
    """

    grid: Grid
    state: ResumeState
    secured: Secured | None = None


def final_queries(
    grid: Grid, secured: Secured | None, settings: FederationSettings, checkpoint: Checkpoint, *, grace: float
) -> Queries:
    """The queries of the finalization, of a run with this `grid`; `grace` as in `FinalQueries`."""
    remaining = [member for member in checkpoint.members if member.name not in checkpoint.dropped]
    scale, timeout = to_scale(checkpoint.standardisation), settings.round_timeout
    if secured is None:
        return FinalQueries(grid, remaining, scale, timeout, grace)
    sums = FinalQueries(grid, remaining, scale, timeout, are_sums=True)
    single = FinalQueries(secured.single, secured.members, scale, timeout, grace, group=secured.grid.group)
    return MaskedQueries(sums, single)


def begin_run(
    grid: Grid,
    settings: FederationSettings,
    schema: Schema,
    past: ResumeState | None,
    strategy: Strategy | None,
    *,
    max_wait: float,
    inform: OnEvent,
    admission: Admission,
) -> Begun:
    """Wait for the hospitals and let them agree on the start; the parameters are those of `federate`.

    Raises
    ------
    RunError
        Hospitals are missing after `max_wait` seconds, two have the same name, or too few can take part.
    """

    def agree(setup: Setup, past: ResumeState | None, admission: Admission) -> ResumeState:
        members = setup.collect_members()
        if past:
            require_same_members(members, past.checkpoint.members, past.checkpoint.dropped)
            return past.without(setup.left_out)
        admission.admit_only(member.name for member in members)
        return ResumeState(first_checkpoint(setup, settings, strategy, schema))

    dropped = past.checkpoint.dropped if past else {}
    for name, reason in dropped.items():
        admission.expel(name, reason)
        inform(Dropped(name, reason))
    wanted = settings.hospitals - len(dropped)
    if not settings.secure_aggregation:
        setup = Setup(grid, settings, wanted, max_wait, inform, schema=schema, admission=admission)
        return Begun(grid, agree(setup, past, admission))
    require_sums_enough(strategy)
    queries = SetupQueries(grid, settings, wanted, max_wait, inform, admission=admission)
    before = past.checkpoint.roster if past else None
    if before and dropped.keys() & set(before.names):  # --without: the others form another roster
        before = None
    secured = secure(grid, queries, settings, schema, patience=Patience(max_wait, inform), before=before)
    if past is None:
        admission.admit_only(secured.roster.names)
    setup = Setup(secured.grid, settings, 1, max_wait, counting_each(secured, inform), schema=schema)
    if past and before is None:  # other hospitals together have other counts
        past = replace(past, checkpoint=replace(past.checkpoint, members=setup.collect_members()))
    state = agree(setup, past, OPEN)
    start = replace(state.checkpoint, roster=secured.roster)
    state = replace(state, checkpoint=start).without(secured.left_out)
    return Begun(secured.grid, state, secured)


def counting_each(secured: Secured, inform: OnEvent) -> OnEvent:
    """`inform`, with the number of single hospitals in the events of waiting for all of them together."""

    def show(event: Event) -> None:
        if isinstance(event, Waiting):
            here = {member.node_id for member in secured.members} & set(secured.single.get_node_ids())
            event = replace(event, here=len(here), wanted=len(secured.members), answered=())
        inform(event)

    return show


def require_sums_enough(strategy: Strategy | None) -> None:
    """Raise a `RunError` if a strategy given as an object needs more than sums over all hospitals."""
    if strategy is not None and not (uses_only_the_mean(strategy) or isinstance(strategy, Newton)):
        raise RunError(
            f"secure aggregation and the strategy {type(strategy).__name__} exclude each other: it may need the weights of "
            "single hospitals"
        )


def first_checkpoint(
    setup: Setup, settings: FederationSettings, strategy: Strategy | None, schema: Schema
) -> Checkpoint:
    """The state of a new run before its first round, including the hospitals that are left out."""
    standardisation, class_weights, weights = setup.agree()
    return Checkpoint(
        round_num=0,
        standardisation=standardisation,
        class_weights=class_weights,
        weights=weights,
        strategy=strategy or make_strategy(settings, len(setup.members), schema),
        members=setup.members,
        strikes={},
        dropped=setup.left_out,
    )


def to_scale(standardisation: Standardisation | None) -> Scale | None:
    """The standardisation in the protocol's form; None if each hospital uses its own."""
    return Scale(**vars(standardisation)) if standardisation else None
