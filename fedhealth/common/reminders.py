"""How often a program says again what it waits for: soon at first, then more and more rarely."""

import time
from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0
"""Seconds between two lines about the same thing: doubled each time, up to the longest."""


class Reminder:
    """Decides when to say what is waited for; something else is said after the first pause at the latest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, first_pause: float = FIRST_PAUSE) -> None:
        self._first = self._pause = first_pause
        self._clock = clock
        self._said_at = float("-inf")
        self._said: object = None

    def is_due(self, what: object) -> bool:
        """Whether to say now that `what` is waited for; True counts as said."""
        now, is_new = self._clock(), what != self._said
        if now < self._said_at + (self._first if is_new else self._pause):
            return False
        self._pause = self._first if is_new else min(2 * self._pause, LONGEST_PAUSE)
        self._said_at, self._said = now, what
        return True
