"""One archive over http(s) -> its bytes, with a limit on size and on time.

Every failure is a `RunError` of one line. A transfer runs in a thread of its own, because no time limit of httpx covers
the look-up of a name, which a blocked network can stall for half a minute.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedhealth.common.errors import RunError
from fedhealth.common.safe_text import printable

if TYPE_CHECKING:
    import httpx

MAX_DOWNLOAD = 10_000_000
"""Most bytes of an archive; the real one has about 130000."""
WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)

Say = Callable[[str], None]
Advance = Callable[[int, int | None], None]
"""Called with the bytes so far and the total, if the server sent one."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a network."""

    tries: int
    timeout: float
    """Seconds without a connection or a byte."""
    deadline: float
    """Seconds for one whole try."""


STUBBORN = Patience(tries=3, timeout=10, deadline=120)
QUICK = Patience(tries=1, timeout=3, deadline=8)


@dataclass(frozen=True)
class Outcome:
    """What one try gave: the bytes, or a fault and whether another try may help."""

    content: bytes = b""
    fault: str = ""
    worth_another_try: bool = False


def download(url: str, patience: Patience, say: Say, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Bytes of the archive at `url`, with `patience.tries` tries and pauses of 1, 2, 4 ... seconds between them.

    Raises
    ------
    RunError
        One line that names the address and the fault of the last try.
    """
    for try_num in range(1, patience.tries + 1):
        outcome = try_once(url, patience)
        if not outcome.fault:
            return outcome.content
        if not outcome.worth_another_try or try_num == patience.tries:
            break
        pause = 2 ** (try_num - 1)
        say(f"{printable(url)}: {outcome.fault}; trying again in {pause} s")
        sleep(pause)
    raise RunError(
        f"{printable(url)}: {outcome.fault}; check the address and the network, or give --source PATH of a copy"
    )


def try_once(url: str, patience: Patience) -> Outcome:
    """One try, which ends by `patience.deadline` at the latest."""
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    with progress_bar(url) as advance:
        # A daemon thread, so that a stalled look-up of a name does not delay the end of the program.
        threading.Thread(target=lambda: outcomes.put(transfer(url, patience, advance)), daemon=True).start()
        try:
            return outcomes.get(timeout=patience.deadline)
        except queue.Empty:
            return stalled(patience)


def stalled(patience: Patience) -> Outcome:
    """The outcome of a try that outlived its deadline."""
    return Outcome(fault=f"not done within {patience.deadline:g} s", worth_another_try=True)


def transfer(url: str, patience: Patience, advance: Advance) -> Outcome:
    """Fetch `url`, following redirects to http and https only (httpx has no other schemes)."""
    import httpx

    # "identity": a compressed transfer could swell past the limit in one step.
    headers = {"accept-encoding": "identity"}
    try:
        with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=patience.timeout) as response:
            if response.is_success:
                return read_body(response, patience, advance)
            status = f"{response.status_code} {printable(response.reason_phrase, 40)}".strip()
            return Outcome(
                fault=f"the server answered {status}", worth_another_try=response.status_code in WORTH_ANOTHER_TRY
            )
    except httpx.TimeoutException:
        return Outcome(fault=f"no answer within {patience.timeout:g} s", worth_another_try=True)
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        return Outcome(fault=printable(str(error)))
    # ImportError: a SOCKS proxy is set and its package missing; ValueError, OverflowError: an impossible name or port.
    except (httpx.HTTPError, OSError, ImportError, ValueError, OverflowError) as error:
        return Outcome(fault=printable(str(error) or type(error).__name__), worth_another_try=True)


def read_body(response: "httpx.Response", patience: Patience, advance: Advance) -> Outcome:
    """The body as it came over the wire, or a fault when it is too large or too slow."""
    end = time.monotonic() + patience.deadline
    length = response.headers.get("content-length", "")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        advance(len(content), int(length) if length.isdecimal() else None)
        if len(content) > MAX_DOWNLOAD:
            return Outcome(fault=f"more than {MAX_DOWNLOAD // 10**6} MB came, far more than the archive has")
        if time.monotonic() > end:
            return stalled(patience)
    return Outcome(content=bytes(content))


@contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """Draw a bar on stderr while it is open, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda num_bytes, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(title, 60), total=None)
        yield lambda num_bytes, total: progress.update(task, completed=num_bytes, total=total)
