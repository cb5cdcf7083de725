"""Runs of Newton's method in this process, and the pooled rows that they must equal."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedhealth.client.limits import HospitalLimits
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.metrics.odds_ratios import ExactFit
from fedhealth.server.app import federate
from fedhealth.server.checkpoints import ResumeState
from fedhealth.server.events import Event, RunFinished
from fedhealth.server.run_writer import RunWriter
from fedhealth.server.strategies.design import make_design
from fedhealth.transport.in_process import InProcessGrid
from tests.support.hospital_apps import make_apps
from tests.support.pooled_rows import PooledRows, pool_rows

PLAIN: dict[str, Any] = {"missing_indicators": False, "weight_decay": 0.0}
Hospitals = Mapping[str, Path]


def run(
    hospitals: Hospitals,
    *,
    min_count: int = 1,
    limits: HospitalLimits | None = None,
    writer: RunWriter = RunWriter(),  # noqa: B008  # it keeps nothing
    past: ResumeState | None = None,
    **values: Any,
) -> RunFinished:
    common: dict[str, Any] = {"subgroups": False, "importance": False, "min_count": min_count}
    settings = FederationSettings(hospitals=len(hospitals), strategy="newton", **common, **values)
    events: list[Event] = []
    apps = make_apps(hospitals, limits or HospitalLimits(min_count=min_count))
    grid = InProcessGrid(apps, settings.to_run_config())
    federate(grid, settings, events.append, max_wait=1.0, writer=writer, past=past)
    assert isinstance(events[-1], RunFinished)
    return events[-1]


def fit_of(finished: RunFinished) -> ExactFit:
    assert finished.fit is not None
    return finished.fit


def rows_of(hospitals: Hospitals, finished: RunFinished) -> PooledRows:
    assert isinstance(finished.standardisation, Standardisation)
    return pool_rows(hospitals, finished.settings, finished.standardisation)


def fitted_places(finished: RunFinished) -> list[int]:
    """The inputs that an unpenalised fit has."""
    design = make_design(finished.schema, finished.settings.missing_indicators)
    return [place for place in range(len(design.names)) if place not in design.references]


def change(hospitals: Hospitals, folder: Path, edit: Callable[[pd.DataFrame], None]) -> dict[str, Path]:
    """Copies of the hospitals' files after `edit`."""
    paths = {}
    for name, path in hospitals.items():
        table = pd.read_csv(path).drop(columns="num")
        edit(table)
        paths[name] = folder / f"{name}.csv"
        table.to_csv(paths[name], index=False)
    return paths


def robust_of(finished: RunFinished) -> np.ndarray:
    covariance = fit_of(finished).robust_covariance
    assert covariance is not None
    return covariance
