"""`python -m experiments.tables`: write a public table of patients as CSV, for docs/own-table.md.

The patients come from installed packages; none is in this repository.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from experiments.settings import TableName, TableSettings
from fedhealth.cli.terminal import parse_flags, say, script
from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.data.patients import MINIMUM_PATIENTS

DAYS = 365
"""The outcome of the lung cancer table is death within these days."""
Lines = list[str]


def breast_cancer(settings: TableSettings) -> tuple[pd.DataFrame, Lines]:
    """scikit-learn's Wisconsin breast cancer data, as they are."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame, []


def lung_cancer(settings: TableSettings) -> tuple[pd.DataFrame, Lines]:
    """The NCCTG lung cancer trial from lifelines, and who is left out.

    The outcome of patients who were last seen alive before a year was over is not known. Institutions with too few patients
    to take part in a run are left out, or are one hospital together.
    """
    trial = pd.read_csv(package_folder("lifelines") / "datasets" / "lung.csv")
    known = trial[(trial["status"] == 1) | (trial["time"] >= DAYS)]
    named = known[known["inst"].notna()]
    institution = named["inst"].astype(int).astype(str)
    small = institution.groupby(institution).transform("size") < MINIMUM_PATIENTS
    of_small = (
        f"{small.sum()} patients of {institution[small].nunique()} institutions with fewer than {MINIMUM_PATIENTS} each"
    )
    table = named.drop(columns=["time", "status", "inst"]).assign(
        dead=((named["status"] == 1) & (named["time"] <= DAYS)).astype(int), inst=institution.mask(small, "others")
    )
    return table if settings.others else table[~small], [
        f"left out: {len(trial) - len(known)} of {len(trial)} patients, last seen alive before day {DAYS}",
        f"left out: {len(known) - len(named)} patient whose institution is missing",
        f"{'together in the hospital others' if settings.others else 'left out'}: {of_small}",
    ]


TABLES: Mapping[TableName, Callable[[TableSettings], tuple[pd.DataFrame, Lines]]] = {
    "breast-cancer": breast_cancer,
    "lung-cancer": lung_cancer,
}


def package_folder(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{name} is not installed; pip install --no-deps -r requirements-tables.txt")
    return Path(spec.submodule_search_locations[0])


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Write the table, and print how many patients it has and who is left out."""
    settings = parse_flags(TableSettings, argv, program="python -m experiments.tables")
    table, lines = TABLES[settings.table](settings)
    path = settings.out / f"{settings.table}.csv"
    write_file(path, table.to_csv(index=False, lineterminator="\n").encode())
    for line in lines:
        say(line)
    say(f"wrote {path}: {len(table)} patients")


if __name__ == "__main__":
    sys.exit(main())
