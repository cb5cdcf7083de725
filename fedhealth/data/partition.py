"""Partitions the patients of one table into hospitals: by their own hospital, or anew in four standard ways.

Every patient is in exactly one hospital, and the same seed gives the same partition. All but the natural split are
flwr-datasets' partitioners, which are imported only for them (2 to 5 s).
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from fedhealth.common.errors import UsageError
from fedhealth.data.patients import ENOUGH_PATIENTS, MINIMUM_PATIENTS, UNKNOWN_HOSPITAL
from fedhealth.data.schema import Schema

USUAL_CLIENTS = 4
"""The default of `--clients`."""
DEALING_SPLITS = "iid, label-skew, quantity-skew or feature-skew"
REDRAWS = 20
"""Seeds to try: with each, flwr-datasets repeats a Dirichlet draw 10 times before it raises."""
FEATURE_STRICTNESS = 0.9
"""How strictly feature-skew sorts: correlation 0.99 with the value; seeded noise decides between equal values."""


def deal_out(
    table: pd.DataFrame, schema: Schema, *, split: str, clients: int, alpha: float, seed: int
) -> list[pd.DataFrame]:
    """Divide `table` (columns of the schema, one row per patient) among hospitals, each with its rows in a random order.

    Parameters
    ----------
    split : {"natural", "iid", "label-skew", "quantity-skew", "feature-skew"}
    clients : int
        Number of hospitals; the natural split ignores it: it has one per real hospital.
    alpha : float
        Dirichlet concentration of label-skew and quantity-skew: the smaller, the more uneven.

    Raises
    ------
    UsageError
        The table cannot be dealt out so that each hospital has `ENOUGH_PATIENTS` (natural: `MINIMUM_PATIENTS`).
    """
    shuffled = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    if split == "natural":
        return split_by_hospital(shuffled, schema, clients)
    check_enough_patients(len(table), clients)
    rows_of_hospitals = SPLITS[split](shuffled, schema, clients, alpha, seed)
    return [shuffled.iloc[rows] for rows in rows_of_hospitals]


def split_by_hospital(table: pd.DataFrame, schema: Schema, clients: int) -> list[pd.DataFrame]:
    """One table per hospital of the column, in the order of their names.

    `clients` is only checked: it must be the source's own number, or four, the default of the flag.
    """
    hospitals = sorted(table[schema.hospital].unique(), key=natural_order)
    if UNKNOWN_HOSPITAL in hospitals:
        raise UsageError(
            "--split natural needs to know which hospital each patient is of, and this source does not say it; "
            f"give --split {DEALING_SPLITS}"
        )
    if clients not in (len(hospitals), USUAL_CLIENTS):
        raise UsageError(
            f"--clients is {clients}, but this source has {len(hospitals)} hospitals; "
            f"leave --clients out or give --split {DEALING_SPLITS}"
        )
    parts = [table[table[schema.hospital] == hospital] for hospital in hospitals]
    for hospital, part in zip(hospitals, parts, strict=True):
        if len(part) < MINIMUM_PATIENTS:
            other = f" or --split {DEALING_SPLITS}" if len(table) >= ENOUGH_PATIENTS else ""
            raise UsageError(
                f"hospital {hospital} has {len(part)} patients, fewer than {MINIMUM_PATIENTS}; "
                f"give a larger source (--patients for synthetic ones){other}"
            )
    return parts


def natural_order(hospital: str) -> list[tuple[int, int, str]]:
    """Sort key: by name, with numbers in it by their size."""
    parts = re.findall(r"\d+|\D+", hospital)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def check_enough_patients(num_patients: int, clients: int) -> None:
    """Raise a `UsageError` if there are too few patients for so many hospitals."""
    if num_patients < ENOUGH_PATIENTS:
        raise UsageError(
            f"the source has {num_patients} patients; to be dealt out (--split), a hospital needs at least {ENOUGH_PATIENTS}"
        )
    if num_patients < clients * ENOUGH_PATIENTS:
        raise UsageError(
            f"--clients is {clients}, but {num_patients} patients are enough for at most "
            f"{num_patients // ENOUGH_PATIENTS} hospitals of {ENOUGH_PATIENTS}; give fewer"
        )


def split_evenly(table: pd.DataFrame, schema: Schema, clients: int, alpha: float, seed: int) -> list[list[int]]:
    """Identically distributed hospitals of equal size; the rows of each, as positions in `table` (already shuffled)."""
    partitioners = import_partitioners()
    return rows_of_partitions(partitioners.IidPartitioner(num_partitions=clients), len(table))


def split_labels_unevenly(
    table: pd.DataFrame, schema: Schema, clients: int, alpha: float, seed: int
) -> list[list[int]]:
    """Each class's shares over the hospitals drawn from Dirichlet(alpha) (Yurochkin et al. 2019, arXiv:1905.12022).

    Drawn anew until every hospital has `ENOUGH_PATIENTS`, as the paper's code does.
    """
    partitioners = import_partitioners()
    for attempt in np.random.SeedSequence(seed).generate_state(REDRAWS):
        partitioner = partitioners.DirichletPartitioner(
            num_partitions=clients,
            partition_by=schema.outcome.name,
            alpha=alpha,
            min_partition_size=ENOUGH_PATIENTS,
            self_balancing=False,
            seed=int(attempt),
        )
        try:
            return rows_of_partitions(partitioner, len(table), {schema.outcome.name: table[schema.outcome.name]})
        except ValueError:  # ten draws left a hospital too small
            continue
    raise UsageError(
        f"--split label-skew: with --clients {clients} and --alpha {alpha:g} no draw gave each hospital "
        f"{ENOUGH_PATIENTS} of the {len(table)} patients; give fewer clients or a larger alpha"
    )


def split_sizes_unevenly(table: pd.DataFrame, schema: Schema, clients: int, alpha: float, seed: int) -> list[list[int]]:
    """Identically distributed hospitals, sizes drawn from Dirichlet(alpha) (Li et al. 2022, arXiv:2102.02079).

    The draw deals out what is left after `ENOUGH_PATIENTS` each, so that none is too small.
    """
    partitioners = import_partitioners()
    shares = np.random.default_rng(seed).dirichlet(np.full(clients, alpha))
    ends = np.floor(np.cumsum(shares) * (len(table) - clients * ENOUGH_PATIENTS)).astype(int)
    ends[-1] = len(table) - clients * ENOUGH_PATIENTS  # the sum of the shares may fall a rounding error short of 1
    sizes = ENOUGH_PATIENTS + np.diff(ends, prepend=0)
    return rows_of_partitions(partitioners.SizePartitioner(partition_sizes=sizes.tolist()), len(table))


def split_by_first_number(
    table: pd.DataFrame, schema: Schema, clients: int, alpha: float, seed: int
) -> list[list[int]]:
    """Hospitals of equal size by the first number that all patients have, such as the age, from the smallest values on.

    It is Flower's `ContinuousPartitioner`.
    """
    name = next((column.name for column in schema.numbers if not table[column.name].isna().any()), "")
    if not name:
        raise UsageError("--split feature-skew sorts by a number, but none is known of all patients; give --split iid")
    if table[name].std(ddof=0) < 1e-3:
        raise UsageError(
            f"--split feature-skew sorts by {name}, but all patients have the same {name}; give --split iid"
        )
    partitioners = import_partitioners()
    partitioner = partitioners.ContinuousPartitioner(
        num_partitions=clients, partition_by=name, strictness=FEATURE_STRICTNESS, shuffle=True, seed=seed
    )
    return rows_of_partitions(partitioner, len(table), {name: table[name]})


SPLITS: dict[str, Callable[[pd.DataFrame, Schema, int, float, int], Sequence[list[int]]]] = {
    "iid": split_evenly,
    "label-skew": split_labels_unevenly,
    "quantity-skew": split_sizes_unevenly,
    "feature-skew": split_by_first_number,
}
"""Name -> function of (table, schema, clients, alpha, seed) that gives each hospital's rows as positions in the table."""
SPLITS_WITH_ALPHA = ("label-skew", "quantity-skew")


def import_partitioners() -> Any:
    """flwr-datasets' partitioners, without network, telemetry and log (they need none of these)."""
    for variable, value in (
        ("HF_HUB_OFFLINE", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("FLWR_TELEMETRY_ENABLED", "0"),
    ):
        os.environ[variable] = value
    logging.getLogger("datasets").setLevel(logging.ERROR)
    from flwr_datasets import partitioner

    return partitioner


def rows_of_partitions(
    partitioner: Any, num_patients: int, seen: Mapping[str, "pd.Series[float]"] = MappingProxyType({})
) -> list[list[int]]:
    """The rows of each hospital from a flwr-datasets partitioner, which gets only row numbers and the columns `seen`."""
    from datasets import Dataset

    columns = {name: column.to_numpy() for name, column in seen.items()}
    partitioner.dataset = Dataset.from_dict({"row": np.arange(num_patients), **columns})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns at every redraw; our error says what to change if none succeeds
        return [list(partitioner.load_partition(i)["row"]) for i in range(partitioner.num_partitions)]
