"""Who a virtual hospital is: a number of a simulation -> a CSV of a folder, or invented patients."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.data.hospital import FULL_DATASET, Hospital, load_hospital
from fedhealth.data.patients import Patients


@dataclass(frozen=True)
class Place:
    """A hospital's number (from 0) in a simulation, and where its patients come from."""

    number: int
    engine: EngineSettings
    seed: int


def find_place(node_config: Mapping[str, Any], run_config: Mapping[str, Any]) -> Place:
    """What Flower's simulation says of a node; a `RunError` if it is a node of no simulation, and has no data either."""
    number = node_config.get("partition-id")
    if type(number) is not int:
        raise RunError("""a SuperNode has no data; start it with --node-config 'data="/absolute/path/of/its.csv"'""")
    try:
        return Place(number, EngineSettings.from_run_config(run_config), int(run_config.get("seed", 0)))
    except UsageError as error:
        raise RunError(f"the server's settings make no sense: {error}") from None


def load_virtual(place: Place) -> Hospital:
    """The hospital; a `RunError` if there is none of that number or its file is not sound."""
    if not place.engine.data:
        return sample_virtual(place)
    folder = Path(place.engine.data)
    try:
        files = list_hospital_files(folder)
        if place.number >= len(files):
            raise RunError(
                f"partition {place.number} has no hospital: {folder} holds {len(files)} hospitals' CSV files; give "
                f"--federation-config 'num-supernodes={len(files)}' and --run-config 'hospitals={len(files)}'"
            )
        return load_hospital(files[place.number])
    except DataError as error:  # it quotes patients, and this text goes to the server
        faults = len(error.faults)
        raise RunError(f"{files[place.number]}: has {faults} faults; python client.py FILE names them") from None
    except UsageError as error:
        raise RunError(str(error)) from None


def sample_virtual(place: Place) -> Hospital:
    """An invented hospital."""
    from fedhealth.data.sources.synthetic import sample_one

    name, features, labels = sample_one(place.number, place.engine.patients, place.seed)
    return Hospital(name, name, Patients(features, labels), "synthetic", ())


@lru_cache(maxsize=4)
def list_hospital_files(folder: Path) -> list[Path]:
    """The hospitals' CSV files of a folder, client_2 before client_10; never the file that holds them all.

    Raises
    ------
    UsageError
        There is no such folder, or no CSV in it.
    """
    try:
        files = [file for file in folder.iterdir() if file.suffix == ".csv" and file.name != FULL_DATASET]
    except OSError as error:
        raise UsageError(f"--data {folder}: cannot be read ({error.strerror}); give a folder of CSV files") from None
    if not files:
        raise UsageError(f"--data {folder}: holds no hospital's CSV; make some with python create_dataset.py")
    return sorted(files, key=_natural)


def _natural(file: Path) -> list[tuple[int, str]]:
    """Text and numbers apart, so that numbers are in the order of numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", file.name)]
