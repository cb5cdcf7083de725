"""How often a program says what it waits for."""

from fedhealth.common.reminders import Reminder


def times(*, until: int, what: object = "a hospital", changes_at: int | None = None) -> list[int]:
    """The seconds at which something is said, if that is asked for every second."""
    now = 0
    reminder, said = Reminder(lambda: float(now)), []
    while now <= until:
        if reminder.is_due("another" if changes_at is not None and now >= changes_at else what):
            said.append(now)
        now += 1
    return said


def test_the_same_thing_is_said_at_once_and_then_at_pauses_that_double_up_to_ten_minutes() -> None:
    assert times(until=2500) == [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430]


def test_a_night_of_waiting_is_less_than_a_hundred_lines() -> None:
    assert len(times(until=12 * 3600)) == 77


def test_something_else_is_said_within_ten_seconds_and_the_pauses_begin_again() -> None:
    assert times(until=200, changes_at=75) == [0, 10, 30, 70, 80, 90, 110, 150]
    assert times(until=100, changes_at=60) == [0, 10, 30, 60, 70, 90]
