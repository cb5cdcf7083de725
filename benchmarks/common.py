"""Shared by the benchmarks: printing and saving results, and the description of the machine."""

import contextlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fedhealth
from fedhealth.common.text_table import format_table

RESULTS = Path(__file__).parent / "results"


def report(
    name: str,
    title: str,
    headings: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    note: str = "",
) -> None:
    """Print `rows` as a table and write them to benchmarks/results/<name>.json; `headings` are keys of the rows.

    `note` is printed below the table; the name of the running module is determined automatically.
    """
    print(f"\n{title}\n{describe_machine()}")
    lines = [[format_cell(row.get(heading)) for heading in headings] for row in rows]
    print(format_table(headings, lines, text_columns=1, terminal=sys.stdout.isatty()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    content = {
        "name": name,
        "title": title,
        "module": Path(sys.argv[0]).stem,
        "note": note,
        "headings": list(headings),
        "version": fedhealth.__version__,
        "machine": describe_machine(),
        "when": time.strftime("%Y-%m-%d"),
        "rows": [dict(row) for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def describe_machine() -> str:
    """Cores and memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB memory, Python {sys.version_info.major}.{sys.version_info.minor}"


def summarise(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "median ms": 1000 * statistics.median(ordered),
        "p95 ms": 1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
    }


def format_cell(value: object) -> str:
    """A table's cell: three significant digits for small numbers, integers otherwise."""
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else _whole(value)


def _whole(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(
                int(status.parent.name)
            )
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def free_port() -> int:
    """A port of this machine on which no program listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
