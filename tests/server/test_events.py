"""Listeners are called with every event, and cannot change a run."""

import logging

import numpy as np
import pytest

from fedhealth.config.federation import FederationSettings
from fedhealth.server.app import federate
from fedhealth.server.events import Event, Listeners, RunFinished
from tests.support.run_events import make_began, make_round
from tests.support.toy_hospitals import three_hospitals


class Broken:
    """A listener that raises."""

    def __init__(self) -> None:
        self.asked = 0

    def show(self, event: Event) -> None:
        self.asked += 1
        raise UnicodeEncodeError("ascii", "Zürich", 1, 2, "ordinal not in range(128)")


def finish(*listeners: Broken) -> RunFinished:
    events: list[Event] = []
    settings = FederationSettings(hospitals=3, rounds=3, strategy="fedavg")
    federate(three_hospitals().grid, settings, *(each.show for each in listeners), events.append, max_wait=0.05)
    assert isinstance(events[-1], RunFinished)
    return events[-1]


def test_a_listener_that_raises_is_logged_once_and_the_run_ends_as_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, alone = Broken(), finish()
    with caplog.at_level(logging.WARNING, logger="fedhealth.server.events"):
        beside_it = finish(broken)
    assert broken.asked == 1 + 3 + 1
    (line,) = (record.getMessage() for record in caplog.records if record.name == "fedhealth.server.events")
    assert line.startswith("Broken.show failed (UnicodeEncodeError: ")
    assert line.endswith("; the run continues")
    np.testing.assert_array_equal(beside_it.weights["w"].numpy(), alone.weights["w"].numpy())
    assert [record.pooled for record in beside_it.rounds] == [record.pooled for record in alone.rounds]


def test_the_other_listeners_get_every_event_and_each_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Event] = []
    first, second = Broken(), Broken()
    listeners = Listeners(first.show, heard.append, second.show)
    events = [make_began(), make_round(1), make_round(2)]
    with caplog.at_level(logging.WARNING, logger="fedhealth.server.events"):
        for event in events:
            listeners.inform(event)
    assert heard == events
    assert (first.asked, second.asked, len(caplog.records)) == (3, 3, 2)


def test_ctrl_c_in_a_listener_is_not_swallowed() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Listeners(interrupted).inform(make_round())
