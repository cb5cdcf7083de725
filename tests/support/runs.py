"""Whole federations in this process."""

from pathlib import Path

from fedhealth.config.federation import FederationSettings
from fedhealth.server.app import make_server_app
from fedhealth.server.events import Event
from fedhealth.transport.in_process import InProcessGrid
from tests.support.hospital_apps import make_apps

QUICK = {"rounds": 3, "local-epochs": 1}


def run_federation(hospitals: dict[str, Path], **run_config: object) -> list[Event]:
    config = {**FederationSettings(hospitals=len(hospitals)).to_run_config(), **QUICK}
    config.update({key.replace("_", "-"): value for key, value in run_config.items()})
    events: list[Event] = []
    grid = InProcessGrid(make_apps(hospitals), config)
    make_server_app(events.append)(grid, grid.context)
    return events
