"""The hospitals of a simulation: each has a number, and its patients are one CSV of a folder or synthetic."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import SIMULATED_LIMITS, HospitalLimits
from fedhealth.client.privacy.noise import NoiseSource
from fedhealth.client.trainers import Trainers
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.data.hospital import FULL_DATASET, Hospital, load_hospital
from fedhealth.data.patients import Patients
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema

KEPT_HOSPITALS = 1024
"""Number of prepared hospitals that one process keeps."""


class VirtualSource:
    """The source of the patients of a simulation's hospitals: the CSV files of a folder, or the generator."""

    def __init__(self, engine: EngineSettings, seed: int, trainers: Trainers) -> None:
        self._engine = engine
        self._seed = seed
        self._trainers = trainers

    def make(self, number: int, limits: HospitalLimits = SIMULATED_LIMITS) -> HospitalData:
        """The hospital with this number (from 0); its ledger is in memory.

        Raises
        ------
        RunError
            There is no hospital with that number, or its file is invalid.
        """
        # Patients of a file may be real and need unpredictable noise; for synthetic patients the noise is reproducible.
        noise_source = NoiseSource(None if self._engine.data else [self._seed, number])
        return HospitalData(self.load(number), self._trainers, limits, noise_source=noise_source)

    def load(self, number: int) -> Hospital:
        """The patients, name and source of the hospital with this number; errors as in `make`."""
        if not self._engine.data:
            return sample_hospital(number, self._engine.patients, self._seed)
        try:
            files = self._files
        except UsageError as error:
            raise RunError(str(error)) from None
        if number >= len(files):
            raise RunError(
                f"partition {number} has no hospital: {self._engine.data} holds {len(files)} hospitals' CSV files; give "
                f"--federation-config 'num-supernodes={len(files)}' and --run-config 'hospitals={len(files)}'"
            )
        try:
            return load_hospital(files[number], schema=self._schema)
        except DataError as error:  # its text contains patients' values, and ours is sent to the server
            count = len(error.faults)
            found = f"{count} fault{'s' * (count > 1)}; python client.py FILE lists {'them' if count > 1 else 'it'}"
            raise RunError(f"{files[number]}: has {found}") from None
        except UsageError as error:
            raise RunError(str(error)) from None

    @cached_property
    def _schema(self) -> Schema:
        return load_schema(Path(self._engine.schema) if self._engine.schema else None)

    @cached_property
    def _files(self) -> list[Path]:
        return list_hospital_files(Path(self._engine.data))


class VirtualHospitals(Mapping[str, ClientApp]):
    """Hospital name -> its app; created when first used, and the `KEPT_HOSPITALS` used last are kept."""

    def __init__(self, count: int, source: VirtualSource) -> None:
        self._source = source
        self._numbers = {name: number for number, name in enumerate(virtual_names(count))}
        self._apps = BoundedCache[str, ClientApp](KEPT_HOSPITALS)

    def __getitem__(self, name: str) -> ClientApp:
        """The app of this hospital; raises a `RunError` if its file is invalid."""
        number = self._numbers[name]
        return self._apps.get(name, lambda: make_client_app(self._source.make(number)))

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._numbers)

    def __len__(self) -> int:
        """Number of hospitals."""
        return len(self._numbers)


def virtual_names(count: int) -> list[str]:
    """The names of a simulation's hospitals in a grid, before they have given their own; client_1.csv is hospital 1."""
    return [f"hospital {number}" for number in range(1, count + 1)]


def read_partition(node_config: Mapping[str, Any]) -> int:
    """The number of a node of Flower's simulation; raises a `RunError` if the node has neither a number nor data."""
    number = node_config.get("partition-id")
    if type(number) is not int:
        raise RunError("""a SuperNode has no data; start it with --node-config 'data="/absolute/path/of/its.csv"'""")
    return number


def sample_hospital(number: int, num_patients: int, seed: int) -> Hospital:
    """A hospital of synthetic patients."""
    from fedhealth.data.sources.heart import HEART
    from fedhealth.data.sources.synthetic import sample_one

    name, features, labels = sample_one(number, num_patients, seed)
    return Hospital(name, name, Patients(features, labels), HEART, "synthetic", ())


def check_hospital_files(folder: Path, count: int, schema: Schema) -> None:
    """Read the files of the first `count` hospitals of a folder, to find their faults before a run.

    Raises
    ------
    UsageError
        A file cannot be read, or (as `DataError`) has faults: all lines of all files.
    """
    faults: list[str] = []
    for file in list_hospital_files(folder)[:count]:
        try:
            load_hospital(file, schema=schema)
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(faults)


def list_hospital_files(folder: Path) -> list[Path]:
    """The hospitals' CSV files of a folder, client_2 before client_10, without the file of the full data set.

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
        raise UsageError(f"--data {folder}: contains no hospital's CSV; make some with python create_dataset.py")
    return sorted(files, key=_natural)


def _natural(file: Path) -> list[tuple[int, str]]:
    """Sort key that compares numbers in a name by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", file.name)]
