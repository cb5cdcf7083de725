"""How the hospitals reached the server, for every stretch of rounds of a run that was resumed."""

from collections.abc import Sequence
from itertools import groupby

from fedhealth.reporting.html.run_reader import RunRecord
from fedhealth.server.records import Start

WORDS = {"plain text": "plain text, unencrypted (no TLS)"}


def describe_link(run: RunRecord) -> str:
    """Such as `TLS`, or with several links `rounds 1 to 12: TLS; round 13: plain text, unencrypted (no TLS)`."""
    stretches = find_stretches(run.settings.known_starts, len(run.history))
    links = {WORDS.get(link, link) for link, _ in stretches}
    if len(links) < 2:
        return min(links, default="not recorded")
    return "; ".join(f"{which}: {WORDS.get(link, link)}" for link, which in stretches)


def find_stretches(starts: Sequence[Start], done: int) -> list[tuple[str, str]]:
    """(link, its rounds in words), of the first `done` rounds.

    Rounds that were lost, because no checkpoint of them could be read, belong to the start that repeated them. A start of
    which no round is left sent messages, too: it is listed if no round had its link.
    """
    links = [""] * done
    for start in starts:
        links[start.done :] = [start.link] * (done - start.done)
    stretches = [(link, [number for number, _ in each]) for link, each in groupby(enumerate(links, 1), lambda x: x[1])]
    empty = {start.link: start.done for start in starts if start.link not in links}
    return [
        *((link, _rounds(numbers[0], numbers[-1])) for link, numbers in stretches if link),
        *((link, f"a start after round {last}, without a complete round") for link, last in empty.items()),
    ]


def _rounds(first: int, last: int) -> str:
    return f"rounds {first} to {last}" if last > first else f"round {first}"
