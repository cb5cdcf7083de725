"""The hospitals' real app for tests; all share their trainers, so that each model is compiled once in a test run."""

from collections.abc import Mapping
from pathlib import Path

from flwr.clientapp import ClientApp

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.trainers import Trainers

TRAINERS = Trainers()
USUAL = HospitalLimits()


def make_app(path: Path, name: str | None = None, limits: HospitalLimits = USUAL) -> ClientApp:
    """The app of the hospital of a CSV."""
    return make_client_app(HospitalData.from_csv(path, TRAINERS, name, limits))


def make_apps(hospitals: Mapping[str, Path], limits: HospitalLimits = USUAL) -> dict[str, ClientApp]:
    """Hospital name -> its app."""
    return {name: make_app(path, name, limits) for name, path in hospitals.items()}
