"""Who takes part, and how its patients are split in this federation; kept by what it depends on, so nothing is read twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Context

from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import Hospital, load_hospital
from fedhealth.data.patients import (
    FEWEST_TO_TEST,
    FEWEST_TO_TRAIN,
    Patients,
    enough_patients,
    hold_validation,
    split_patients,
    split_patients_apart,
)

if TYPE_CHECKING:
    from fedhealth.client.virtual import Place

KEPT_HOSPITALS = 1024
"""How many hospitals one process keeps prepared (a client has one; simulations have many)."""

IN_MEMORY: "dict[str, tuple[Hospital, Patients, Patients, Sequence[int] | None]]" = {}
"""Hospitals without a file, by what stands for its path in their node config: see `hold_in_memory`."""


@dataclass(frozen=True, eq=False)
class Participant:
    """One hospital's part in one federation."""

    hospital: Hospital
    settings: FederationSettings
    train: Patients
    """Those who are really trained on."""
    test: Patients
    validation: Patients | None = None
    """Held out of those to train on, for choices during the run; none if nothing is chosen."""

    @property
    def fewest_of_a_class(self) -> int:
        """How many patients of the rarer kind are tested, ill or healthy."""
        ill = int(self.test.labels.sum())
        return min(ill, len(self.test) - ill)


def hold_in_memory(
    key: str, hospital: Hospital, train: Patients, test: Patients, noise_seed: Sequence[int] | None = None
) -> None:
    """Let the node config `data = key` mean these patients, split like this, instead of a CSV's path (for studies).

    `noise_seed` makes the noise of differential privacy repeatable, and so worth nothing but as a study.
    """
    IN_MEMORY[key] = (hospital, train, test, noise_seed)


def forget_in_memory(key: str) -> None:
    """Undo `hold_in_memory`; a key must not be used again for other patients."""
    del IN_MEMORY[key]


def read_settings(run_config: Mapping[str, Any]) -> FederationSettings:
    """The federation's settings, parsed once for many messages; a `UsageError` if they make no sense."""
    # With types: to Python 1, 1.0 and True are one key, to the settings they are not.
    entries = tuple((key, type(value), value) for key, value in run_config.items())
    try:
        return _parse_settings(entries)
    except TypeError:  # a list cannot be looked up; parsing says which setting it is
        return FederationSettings.from_run_config(run_config)


@lru_cache(maxsize=16)
def _parse_settings(entries: tuple[tuple[str, type, Any], ...]) -> FederationSettings:
    return FederationSettings.from_run_config({key: value for key, _, value in entries})


def find_participant(context: Context) -> Participant:
    """Who takes part here, by the node config and the run config; a `RunError` if its settings make no sense."""
    name = context.node_config.get("name")
    try:
        settings = read_settings(context.run_config)
    except UsageError as error:
        raise RunError(f"the server's settings make no sense: {error}") from None
    if "data" not in context.node_config:
        from fedhealth.client.virtual import find_place

        return _take_virtual_part(find_place(context.node_config, context.run_config), settings)
    return _take_part(str(context.node_config["data"]), None if name is None else str(name), settings)


@lru_cache(maxsize=KEPT_HOSPITALS)
def read_hospital(path: str, name: str | None = None) -> Hospital:
    """The hospital of a CSV, read and checked once in a process: what was checked is what is trained on."""
    return load_hospital(Path(path), name)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _take_part(path: str, name: str | None, settings: FederationSettings) -> Participant:
    if path in IN_MEMORY:
        return _take_parts(IN_MEMORY[path][0], settings, *IN_MEMORY[path][1:3])
    return _split(read_hospital(path, name), settings)


@lru_cache(maxsize=KEPT_HOSPITALS)
def _take_virtual_part(place: "Place", settings: FederationSettings) -> Participant:
    """A hospital of a simulation."""
    from fedhealth.client.virtual import load_virtual

    return _split(load_virtual(place), settings)


def _split(hospital: Hospital, settings: FederationSettings) -> Participant:
    if settings.private:  # noise stands for every patient, so no number of them is too small
        return Participant(
            hospital, settings, *split_patients_apart(hospital.patients, settings.test_share, settings.seed)
        )
    train, test = split_patients(hospital.patients, test_share=settings.test_share, seed=settings.seed)
    if not enough_patients(train, test):
        raise RunError(
            f"too few patients for --test-share {settings.test_share:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to test on, and sums and counts would tell of each of them"
        )
    return _take_parts(hospital, settings, train, test)


def _take_parts(hospital: Hospital, settings: FederationSettings, train: Patients, test: Patients) -> Participant:
    """What the split has left, and if something is to be chosen, the validation patients out of those to train on."""
    if not settings.validation_share:
        return Participant(hospital, settings, train, test)
    kept, validation = hold_validation(train, settings.validation_share, settings.seed)
    if not enough_patients(kept, validation):
        raise RunError(
            f"too few patients for --validation {settings.validation:g}: fewer than {FEWEST_TO_TRAIN} would be left to "
            f"train on or fewer than {FEWEST_TO_TEST} to choose on, and sums and counts would tell of each of them"
        )
    return Participant(hospital, settings, kept, test, validation)
