"""Audit of a chain of receipts: whether it is intact, and what the hospital has sent.

The file is read line by line, so its size does not matter. Its content is untrusted: it is validated, and escaped when
shown.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedhealth.client.receipts import LONGEST_LINE, NOTHING_BEFORE, decode_line
from fedhealth.common.errors import RunError, UsageError
from fedhealth.common.safe_text import printable
from fedhealth.common.text_table import Line, format_table

MOST_SIDES, LONGEST_SIDE = 32, 2**31
"""Of an array whose numbers are counted."""
Place = tuple[str, str]
"""(kind of message, name of an item in it)."""


@dataclass
class Audit:
    """Summary of a chain. Each counter counts messages unless noted otherwise."""

    path: Path
    lines: int = 0
    runs: set[int] = field(default_factory=set)
    first_time: str = ""
    last_time: str = ""
    last_hash: str = NOTHING_BEFORE
    kinds: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    """Bytes by kind."""
    arrays: Counter[Place] = field(default_factory=Counter)
    statistics: Counter[Place] = field(default_factory=Counter)
    numbers: Counter[Place] = field(default_factory=Counter)
    """Count of numbers over all messages."""
    words: Counter[Place] = field(default_factory=Counter)
    inside: Counter[Place] = field(default_factory=Counter)
    """Numbers behind the masks of secure aggregation, which were not sent in clear."""
    inside_numbers: Counter[Place] = field(default_factory=Counter)
    """Count of them over all messages."""


def audit_receipts(path: Path, noted: str | None = None) -> Audit:
    """Check every line of a chain and summarise it.

    Raises
    ------
    UsageError
        The file cannot be read or is not a chain of receipts.
    RunError
        The chain is broken (the first broken line is named), or no line has the hash `noted`.
    """
    audit, seen = Audit(path), noted is None
    for receipt, line_hash in read_chain(path):
        add_receipt(audit, receipt)
        audit.last_hash = line_hash
        seen |= line_hash == noted
    if not audit.lines:
        raise UsageError(f"{path}: is empty; give a file of receipts, such as receipts/<hospital>.jsonl")
    if not seen:
        raise RunError(
            f"{path}: no line has the noted hash {noted}: since it was noted, the chain was cut off before that line or "
            "rewritten"
        )
    return audit


def read_chain(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each receipt with its hash; raises a `RunError` at the first broken line."""
    previous, line_num = NOTHING_BEFORE, 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                line_num += 1
                receipt = decode_line(line)
                if receipt is None and line_num == 1:
                    raise UsageError(f"{path}: is not a file of receipts; give one, such as receipts/<hospital>.jsonl")
                if fault := find_fault(receipt, whole=line.endswith(b"\n"), line_num=line_num, previous=previous):
                    intact = f"; the {line_num - 1} before it are intact" if line_num > 1 else ""
                    raise RunError(f"{path}: line {line_num} {fault}{intact}")
                previous = hashlib.sha256(line.removesuffix(b"\n")).hexdigest()
                yield receipt or {}, previous
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a file of receipts") from None


def find_fault(receipt: dict[str, Any] | None, *, whole: bool, line_num: int, previous: str) -> str:
    """The fault of a line that follows a line with hash `previous`; empty if there is none."""
    if not whole:
        return "is cut short (the client keeps the rest of it inside a new line when it next starts)"
    if receipt is None:
        return "is not a receipt: it was altered"
    number = receipt["number"]
    if number > line_num:
        return f"is receipt {number}: an earlier receipt is missing or was moved"
    if number < line_num:
        return f"is receipt {number}: it was moved or copied here"
    if receipt["previous"] != previous:
        return "does not contain the hash of the line before it: one of the two was altered"
    return ""


def add_receipt(audit: Audit, receipt: dict[str, Any]) -> None:
    """Add one receipt to the summary."""
    kind = printable(receipt["kind"])
    audit.lines += 1
    audit.runs.add(receipt["run"])
    audit.first_time, audit.last_time = audit.first_time or printable(receipt["time"]), printable(receipt["time"])
    audit.kinds[kind] += 1
    size = receipt.get("bytes", 0)
    audit.bytes[kind] += size if type(size) is int else 0
    for name, array in entries(receipt.get("arrays")):
        facts = dict(array) if isinstance(array, dict) else {}
        audit.arrays[kind, f"{name} {printable(facts.get('shape'))} {printable(facts.get('dtype'))}"] += 1
    for name, value in entries(receipt.get("statistics")):
        audit.statistics[kind, name] += 1
        audit.numbers[kind, name] += count_numbers(value)
    inside = receipt.get("inside")
    add_inside(audit, kind, inside if isinstance(inside, dict) else {})
    for part in ("config", "told", "error", "cut"):
        for name, _ in entries({part: receipt.get(part)}):
            audit.words[kind, name] += 1


def add_inside(audit: Audit, kind: str, inside: dict[str, Any]) -> None:
    """Add what was behind the masks of a message."""
    for name, array in entries(inside.get("arrays")):
        shape = array.get("shape") if isinstance(array, dict) else None
        audit.inside[kind, name] += 1
        audit.inside_numbers[kind, name] += count_elements(shape)
    for name, value in entries(inside.get("statistics")):
        audit.inside[kind, name] += 1
        audit.inside_numbers[kind, name] += count_numbers(value)


def count_elements(shape: Any) -> int:
    """How many numbers an array of this shape has; 0 if it is no shape."""
    sides = shape if isinstance(shape, list) else [0]
    sound = len(sides) <= MOST_SIDES and all(type(side) is int and 0 <= side < LONGEST_SIDE for side in sides)
    return math.prod(sides) if sound else 0


def count_numbers(value: Any) -> int:
    """How many numbers a value of a receipt has: one, or those of a list, which may hold lists."""
    return sum(map(count_numbers, value)) if isinstance(value, list) else 1


def entries(records: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every item in nested records, down to arrays and values."""
    for key, value in records.items() if isinstance(records, dict) else ():
        name = f"{before}{printable(key)}"
        if isinstance(value, dict) and "dtype" not in value:
            yield from entries(value, f"{name}.")
        elif value is not None:
            yield name, value


def audit_text(audit: Audit, terminal: bool) -> str:
    """The summary as text."""
    kinds = [(kind, str(count), str(audit.bytes[kind])) for kind, count in audit.kinds.items()]
    arrays = [(*place, str(count)) for place, count in audit.arrays.items()]
    statistics = [(*place, str(count), str(audit.numbers[place])) for place, count in audit.statistics.items()]
    inside = [(*place, str(count), str(audit.inside_numbers[place])) for place, count in audit.inside.items()]
    words = [(*place, str(count)) for place, count in audit.words.items()]
    tables: list[tuple[int, Line, Sequence[Line]]] = [
        (1, ("sent", "messages", "bytes"), kinds),
        (2, ("message", "array", "messages"), arrays),
        (2, ("message", "numbers in clear", "messages", "numbers"), statistics),
        (2, ("message", "words in clear", "messages"), words),
        (2, ("message", "behind the masks, not sent in clear", "messages", "numbers"), inside),
    ]
    runs = f"{len(audit.runs)} run{'s' * (len(audit.runs) != 1)}"
    return "\n\n".join(
        [
            f"{audit.path}: intact, {audit.lines} lines of {runs}, {audit.first_time} to {audit.last_time}",
            *(
                format_table(headings, lines, text_columns=text_columns, terminal=terminal)
                for text_columns, headings, lines in tables
                if lines
            ),
            f"last hash: {audit.last_hash}\n"
            "Note it elsewhere: only a noted hash (--noted) can show that the end was cut off or the chain rewritten.",
        ]
    )
