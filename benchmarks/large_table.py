"""A large CSV from the file to the model's inputs, as a client reads it, beside pandas reading the same file unchecked.

Each reading is a process of its own, after its imports, and the ways take turns. CPU seconds are those of all threads, and
comparable even if other programs run at the same time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks.common import report
from fedhealth.cli.demo import ROOT
from fedhealth.cli.terminal import script

TARGET_SECONDS, TARGET_MEMORY = 3.0, 6.0
"""Of the file of numbers: from the file to the model's inputs, and times the values as float64."""
NOTE = (
    f"Target for the file of numbers: {TARGET_SECONDS:g} s, and {TARGET_MEMORY:g} times the values' size as float64. "
    "Memory is the peak above what the process has after its imports, the file's bytes included. Half of the columns "
    "are numbers with up to three decimals, the others codes; one cell in twenty is empty. In the file of words, codes "
    "are written as words. pandas.read_csv only reads: it checks and encodes nothing."
)
Form = Literal["numbers", "words", "decimal commas"]
FORMS: tuple[Form, ...] = ("numbers", "words", "decimal commas")
WORDS = ("north", "south", "west", "east")
CODES = ", ".join(f'{code} = "{word}"' for code, word in enumerate(WORDS, 1))


@dataclass(frozen=True)
class LargeTableSettings:
    """Seconds and memory of reading, checking and encoding one hospital's large CSV.

    Example: python -m benchmarks.large_table --patients 100000 --columns 300
    """

    patients: int = 100_000
    """Rows of the file."""
    columns: int = 300
    """Features of the schema."""
    repeats: int = 5
    """Readings of each kind."""
    quick: bool = False
    """A small file, read once: a check that it works."""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Write the files, read each in turn in new processes, report."""
    settings = tyro.cli(LargeTableSettings, args=argv)
    if settings.quick:
        settings = LargeTableSettings(patients=5_000, columns=40, repeats=1)
    with tempfile.TemporaryDirectory(prefix="fedhealth-large-") as name:
        rows = measure(Path(name), settings)
    title = f"One CSV of {settings.patients:,} patients and {settings.columns} features, from the file to the inputs"
    report("large_table", title, tuple(rows[0]), rows, note=NOTE)


def measure(folder: Path, settings: LargeTableSettings) -> list[dict[str, Any]]:
    """A row of the table for each file and way."""
    (folder / "schema.toml").write_text("\n".join(schema_lines(settings.columns)), encoding="utf-8")
    ways: list[tuple[Form, str]] = []
    for form in FORMS:
        write_csv(folder / f"{form}.csv", settings, form)
        ways += [(form, "ours"), (form, "pandas")]
    found: dict[tuple[Form, str], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(settings.repeats):
        for form, way in ways:
            found[form, way].append(in_new_process(way, folder / f"{form}.csv", folder / "schema.toml"))
    size = 8 * settings.patients * settings.columns
    return [make_row(folder, form, way, found[form, way], size) for form, way in ways]


def make_row(folder: Path, form: Form, way: str, found: Sequence[dict[str, float]], size: int) -> dict[str, Any]:
    """Medians of the readings of one file in one way."""
    middle = {key: statistics.median(each[key] for each in found) for key in found[0]}
    return {
        "file": f"{form}, {'from file to inputs' if way == 'ours' else 'pandas.read_csv alone'}",
        "file MB": (folder / f"{form}.csv").stat().st_size / 1e6,
        "wall s": middle["wall"],
        "CPU s": middle["cpu"],
        "least CPU s": min(each["cpu"] for each in found),
        "peak MB": middle["peak"] / 1e6,
        "x float64": middle["peak"] / size,
    }


def schema_lines(columns: int) -> Iterator[str]:
    """A schema whose columns are numbers, yes/no and categories in turn."""
    yield from ('title = "a test"', 'source = "made up"', "missing-marks = [-9]")
    for place in range(columns):
        yield from ("[[column]]", f'name = "x{place}"', f'meaning = "column {place}"')
        yield from KINDS[place % len(KINDS)]
    yield from ("[[outcome]]", 'name = "dead"', 'meaning = "died"', 'kind = "yes/no"', "positive = [1]")


KINDS = (
    ('kind = "number"', 'unit = "mmol/l"', "range = [0, 500]"),
    ('kind = "yes/no"',),
    ('kind = "number"', "range = [0, 2000]"),
    ('kind = "category"', f"codes = {{ {CODES} }}"),
)


def write_csv(path: Path, settings: LargeTableSettings, form: Form) -> None:
    """Write made-up patients; the same ones in each form."""
    import pandas as pd

    rng = np.random.default_rng(0)
    count = settings.patients
    columns: dict[str, Any] = {}
    for place in range(settings.columns):
        draw: Callable[[], Any] = (
            lambda: rng.normal(130, 20, count).clip(0, 500).round(1),
            lambda: rng.integers(0, 2, count),
            lambda: rng.gamma(4, 60, count).clip(0, 2000).round(3),
            lambda: rng.integers(1, 5, count),
        )[place % 4]
        values = pd.Series(draw())
        if form == "words" and place % 2:
            values = values.map(dict(enumerate(("no", "yes") if place % 4 == 1 else WORDS, 0 if place % 4 == 1 else 1)))
        elif place % 2:
            values = values.astype("Int64")
        columns[f"x{place}"] = values.mask(rng.random(count) < 0.05)
    table = pd.DataFrame({**columns, "dead": rng.integers(0, 2, count)})
    separator, decimal = (";", ",") if form == "decimal commas" else (",", ".")
    table.to_csv(path, index=False, sep=separator, decimal=decimal)


def in_new_process(way: str, file: Path, schema: Path) -> dict[str, float]:
    """Seconds and bytes of one reading."""
    command = [sys.executable, "-m", "benchmarks.reading", way, str(file), str(schema)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
