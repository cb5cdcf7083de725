"""Repeated attempts of a hospital to reach its server."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from fedhealth.common.errors import RunError, UsageError

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between attempts to reach the server: doubled each time, with jitter, up to the longest."""
WELCOME_SECONDS, LEAST_PATIENCE = 20.0, 5.0
"""Longest and shortest wait for the server's welcome in one attempt, if less than `max_wait` seconds are left."""


ADVICE = "start the server, check --server, or wait longer with --max-wait"


class ServerLostError(Exception):
    """The server cannot be reached or the connection was lost; trying again or following `advice` may help."""

    def __init__(self, reason: str, advice: str = ADVICE) -> None:
        super().__init__(reason)
        self.advice = advice


class NameTakenError(UsageError):
    """A hospital of this name is already connected; it may be this hospital's own broken connection."""


@dataclass
class Attempt:
    """One attempt: how many seconds to wait for the server's welcome, and whether it came."""

    patience: float
    joined: bool = False


def keep_trying(
    take_part: Callable[[Attempt], None],
    address: str,
    max_wait: float,
    on_pause: Callable[[int, float, float, str], None],
) -> None:
    """Call `take_part` until it ends without `ServerLostError`, with growing pauses, for `max_wait` seconds at most.

    A welcome resets the time and the pauses: a hospital may take part for hours before it loses the server. After the
    first welcome, `NameTakenError` is retried as well. `on_pause(attempts, pause, seconds_left, reason)` is called
    before each pause.
    """
    attempts, pause, was_in, deadline = 0, FIRST_PAUSE, False, time.monotonic() + max_wait
    while True:
        attempts += 1
        attempt = Attempt(min(WELCOME_SECONDS, max(LEAST_PATIENCE, deadline - time.monotonic())))
        try:
            return take_part(attempt)
        except (ServerLostError, NameTakenError) as error:
            reason, advice, now = str(error), getattr(error, "advice", ADVICE), time.monotonic()
            was_in |= attempt.joined
            if isinstance(error, NameTakenError) and not was_in:
                raise
        if attempt.joined:
            attempts, pause, deadline = 1, FIRST_PAUSE, now + max_wait
        if now >= deadline:
            raise RunError(
                f"no connection to {address} within {max_wait:g} s ({attempts} attempt{'s' * (attempts != 1)}; {reason}); "
                f"{advice}"
            )
        pause = min(pause * random.uniform(0.8, 1.2), deadline - now)  # noqa: S311  # jitter, no secret
        on_pause(attempts, pause, deadline - now, reason)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
