"""The events of a run, for listeners that show or forward them. A listener cannot change the run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.metrics.odds_ratios import ExactFit, OddsRatios
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups
from fedhealth.server.feasibility_record import Feasibility
from fedhealth.server.records import Histograms, Member, ModelSelection, RoundRecord
from fedhealth.transport.protocol.roster import KeyRoster


@dataclass(frozen=True)
class Waiting:
    """During setup: hospitals are not connected yet, or connected hospitals have not replied yet.

    `answered` lists the known names of those that have replied.
    """

    here: int
    wanted: int
    seconds_left: float
    answered: Sequence[str] = ()


@dataclass(frozen=True)
class RunStarted:
    """All hospitals that take part are ready; the rounds begin, or continue after round `done` of an interrupted run."""

    settings: FederationSettings
    schema: Schema
    members: Sequence[Member]
    dataset: str
    done: int = 0
    objects: Mapping[str, str] = field(default_factory=dict)
    """Setting -> name of the object that replaces it (a strategy or a model passed to `api.simulate`)."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Hospital -> why it could not take part from the beginning; these are not members."""
    rounds: Sequence[RoundRecord] = ()
    """The rounds up to `done`."""
    roster: KeyRoster | None = None
    """The hospitals under secure aggregation; `members` is then all hospitals together."""

    @property
    def names(self) -> Sequence[str]:
        """The hospitals, also of a run with secure aggregation."""
        return self.roster.names if self.roster else [member.name for member in self.members]


@dataclass(frozen=True)
class Paused:
    """Too few hospitals trained in this round, which waits for missing hospitals to come back."""

    round_num: int
    trained: int
    needed: int
    missing: Mapping[str, str]
    """Hospital -> why it is missing."""
    seconds_left: float
    needed_for: str = "--min-hospitals"
    """The flags that require this number."""


@dataclass(frozen=True)
class Dropped:
    """A hospital is out of the run: it could not take part, or it sent too many invalid replies."""

    name: str
    reason: str


@dataclass(frozen=True)
class RunFinished:
    """The run is over, and the final model has been sent to every connected hospital."""

    settings: FederationSettings
    schema: Schema
    members: Sequence[Member]
    dataset: str
    weights: ArrayRecord
    standardisation: Standardisation | None
    rounds: Sequence[RoundRecord]
    seconds: float
    """Of this start, and of the rounds of earlier starts if the run was interrupted."""
    histograms: Histograms = field(default_factory=dict, repr=False)
    """Of the test patients under the final model."""
    choices: ModelSelection | None = None
    """None if the final model is that of the last round, uncorrected."""
    subgroups: Subgroups | None = None
    """Counts by subgroup; None if they were not requested."""
    importance: Importance | None = None
    """Permutation importance; None if it was not requested."""
    comparisons: Mapping[str, Mapping[str, PairedComparison]] = field(default_factory=dict)
    """Hospital -> model (global, personal) -> its comparison with the local-only model, of hospitals that share it."""
    objects: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Both as in `RunStarted`."""
    fit: ExactFit | None = field(default=None, repr=False)
    """Coefficients and covariance in float64; None unless the strategy is newton."""
    odds_ratios: OddsRatios | None = None
    """The table of the fit."""
    roster: KeyRoster | None = None
    """As in `RunStarted`."""
    unreached: Sequence[str] = ()
    """The hospitals that were absent at the end and have not received the final model."""

    @property
    def final(self) -> RoundRecord:
        """The evaluation of the final model."""
        return self.choices.evaluation if self.choices else self.rounds[-1]


Event = Waiting | RunStarted | Paused | Dropped | RoundRecord | RunFinished | Feasibility
OnEvent = Callable[[Event], None]


class Listeners:
    """The listeners of a run, called one after the other.

    A listener that raises is logged once; the other listeners are still called, and the run continues.
    """

    def __init__(self, *listeners: OnEvent) -> None:
        self._listeners = listeners
        self._failed: set[OnEvent] = set()

    def inform(self, event: Event) -> None:
        """Call all listeners with the event."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # no error of a listener may end the run
                self._log_once(listener, error)

    def _log_once(self, listener: OnEvent, error: Exception) -> None:
        if listener not in self._failed:
            self._failed.add(listener)
            name = getattr(listener, "__qualname__", type(listener).__name__)
            logging.getLogger(__name__).warning(
                "%s failed (%s: %s); the run continues", name, type(error).__name__, error
            )
