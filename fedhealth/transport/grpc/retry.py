"""How long and how often a hospital tries to reach its server."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from fedhealth.common.errors import RunError, UsageError

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between attempts to reach the server: doubled each time, with jitter, up to the longest."""
WELCOME_SECONDS, LEAST_PATIENCE = 20.0, 5.0
"""How long one attempt waits for the server's welcome: the rest of the whole wait within these bounds."""


ADVICE = "start the server, check --server, or wait longer with --max-wait"


class ServerLostError(Exception):
    """The server cannot be reached, or not any more; trying again may help, and so may what `advice` says."""

    def __init__(self, reason: str, advice: str = ADVICE) -> None:
        super().__init__(reason)
        self.advice = advice


class NameTakenError(UsageError):
    """A hospital of this name is there already. It may be this one's own broken connection, which the server still holds."""


@dataclass
class Attempt:
    """One attempt: how many seconds the server has for its welcome, and whether it gave one."""

    patience: float
    joined: bool = False


def keep_trying(
    take_part: Callable[[Attempt], None],
    address: str,
    max_wait: float,
    on_pause: Callable[[int, float, float, str], None],
) -> None:
    """Call `take_part` until it ends without `ServerLostError`, with growing pauses, for `max_wait` seconds at most.

    A welcome resets the clock and the pauses: a hospital may take part for hours before it loses the server. Once it was
    in, a taken name is waited for as well. `on_pause(attempts, pause, seconds_left, reason)` is called before each pause.
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
