"""What happens in a run, for those who show it or pass it on. Events inform; nothing that a listener does changes the run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.paired_comparison import PairedComparison
from fedhealth.metrics.permutation_importance import Importance
from fedhealth.metrics.subgroups import Subgroups
from fedhealth.server.records import Histograms, Member, ModelSelection, RoundRecord


@dataclass(frozen=True)
class Waiting:
    """Not all hospitals are here, or not all who are have answered the question that comes before the rounds.

    `answered` names those who have, once they have said who they are.
    """

    here: int
    wanted: int
    seconds_left: float
    answered: Sequence[str] = ()


@dataclass(frozen=True)
class RunStarted:
    """All who take part are ready; the rounds begin, or go on after round `done` of a run that was interrupted."""

    settings: FederationSettings
    members: Sequence[Member]
    dataset: str
    done: int = 0
    objects: Mapping[str, str] = field(default_factory=dict)
    """Setting -> name of the object that was given in its place (api.simulate: a strategy or a model of the caller's)."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Hospital -> why it takes no part, of those that could not from the beginning; none of them is a member."""


@dataclass(frozen=True)
class Paused:
    """Too few hospitals trained in this round: it is finished when those who are missing have come back."""

    round_num: int
    trained: int
    needed: int
    missing: Mapping[str, str]
    """Hospital -> why it is missing."""
    seconds_left: float
    needed_for: str = "--min-hospitals"
    """The flags that ask for so many."""


@dataclass(frozen=True)
class Dropped:
    """A hospital is out of the run: it could not take part, or it gave unsound answers once too often."""

    name: str
    reason: str


@dataclass(frozen=True)
class RunFinished:
    """The run is over, and every hospital that was here has the final model."""

    settings: FederationSettings
    members: Sequence[Member]
    dataset: str
    weights: ArrayRecord
    standardisation: Standardisation | None
    rounds: Sequence[RoundRecord]
    seconds: float
    histograms: Histograms = field(default_factory=dict, repr=False)
    """Of the tested patients under the final model."""
    choices: ModelSelection | None = None
    """None where the final model is simply that of the last round."""
    subgroups: Subgroups | None = None
    """Counts by sex and age band, if they were asked for."""
    importance: Importance | None = None
    """Permutation importance; None if nobody was asked."""
    verdicts: Mapping[str, Mapping[str, PairedComparison]] = field(default_factory=dict)
    """Hospital -> model (global, personal) -> what it is worth there, of the hospitals that sent it."""
    objects: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Both as in `RunStarted`."""
    unreached: Sequence[str] = ()
    """The hospitals that were away at the end, and have no final model."""

    @property
    def final(self) -> RoundRecord:
        """The evaluation of the final model."""
        return self.choices.evaluation if self.choices else self.rounds[-1]


Event = Waiting | RunStarted | Paused | Dropped | RoundRecord | RunFinished
OnEvent = Callable[[Event], None]


class Listeners:
    """Those who are informed of a run, one after the other.

    A listener that raises is named in the log once; the others are informed, and the run goes on.
    """

    def __init__(self, *listeners: OnEvent) -> None:
        self._listeners = listeners
        self._failed: set[OnEvent] = set()

    def inform(self, event: Event) -> None:
        """Pass the event on to all of them."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # whatever a screen or another project's package raises
                self._log_once(listener, error)

    def _log_once(self, listener: OnEvent, error: Exception) -> None:
        if listener not in self._failed:
            self._failed.add(listener)
            name = getattr(listener, "__qualname__", type(listener).__name__)
            logging.getLogger(__name__).warning(
                "%s failed (%s: %s); the run goes on", name, type(error).__name__, error
            )
