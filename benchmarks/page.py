"""docs/performance.md from the latest results: run the benchmarks first, then `python -m benchmarks.page`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, format_cell

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
INTRODUCTION = """# Performance

All figures are measured: `make bench` (or `make bench-quick`) runs every benchmark below on your machine, and
`python -m benchmarks.page` writes this page from the results. The machine below is small and shared, so compare
ratios within one table, which is from one run, rather than single milliseconds.
"""


def main() -> None:
    """Write the page from all existing results."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    PAGE.write_text("\n".join([INTRODUCTION, *map(describe, results)]), encoding="utf-8")


def describe(result: Mapping[str, Any]) -> str:
    """One benchmark: its title, machine, command and table."""
    headings = result["headings"]
    lines = [
        f"## {result['title']}",
        "",
        f"`python -m benchmarks.{result['module']}`, {result['machine']}, version {result['version']}, {result['when']}",
        "",
        f"| {' | '.join(headings)} |",
        f"| {' | '.join(['---', *['---:'] * (len(headings) - 1)])} |",
        *(f"| {' | '.join(format_cell(row.get(heading)) for heading in headings)} |" for row in result["rows"]),
        "",
        *([result["note"], ""] if result.get("note") else []),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
