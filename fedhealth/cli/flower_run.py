"""The `ServerApp` for `flwr run`: settings, console and run folder of a run that Flower's SuperLink starts.

The SuperLink runs it in a separate process, whose output `flwr run --stream` prints.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedhealth.cli.terminal import escape_unencodable, say, warn
from fedhealth.common.errors import FedHealthError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import load_schema
from fedhealth.reporting.console.screen import ServerConsole
from fedhealth.server.app import MAX_WAIT, federate
from fedhealth.server.run_directory import new_run_folder
from fedhealth.server.run_writer import FolderWriter


@dataclass(frozen=True)
class FlowerRun:
    """A run on Flower's engines: its settings, console and writer of the run folder."""

    settings: FederationSettings
    schema: Schema
    console: ServerConsole
    writer: FolderWriter


@contextlib.contextmanager
def opened_flower_run(grid: Grid, run_config: Mapping[str, Any]) -> Iterator[FlowerRun]:
    """Check the settings and open the run folder; an error is shown as one line."""
    escape_unencodable()
    try:
        settings, engine = read_run_config(run_config)
        require_nodes(grid, settings)
        schema = load_schema(Path(engine.schema) if engine.schema else None)
        out = Path(engine.out) if engine.out else flower_home() / "fedhealth-runs" / time.strftime("%Y-%m-%d_%H-%M-%S")
        with new_run_folder(out) as folder, contextlib.closing(ServerConsole(say)) as console:
            # No checkpoints: Flower starts a failed run anew and cannot resume it.
            yield FlowerRun(settings, schema, console, FolderWriter(folder, 0, MAX_WAIT, warn, link="Flower"))
        more = (
            ""
            if settings.feasibility
            else f" (python -m fedhealth report {folder} makes report.html and MODEL_CARD.md)"
        )
        say(f"run folder: {folder}{more}")
    except FedHealthError:
        sys.tracebacklimit = 0  # Flower would print a long traceback; this leaves the line with the error
        raise


def read_run_config(run_config: Mapping[str, Any]) -> tuple[FederationSettings, EngineSettings]:
    """Both kinds of settings from Flower's run config; raises a `UsageError` for an unknown key or a wrong value."""
    return FederationSettings.from_run_config(run_config), EngineSettings.from_run_config(run_config)


def require_nodes(grid: Grid, settings: FederationSettings) -> None:
    """Raise a `UsageError` if a simulation, whose nodes all exist from the start, has another number of nodes.

    Its nodes have no files for the keys of secure aggregation.
    """
    from flwr.superlink.grid import InMemoryGrid

    if not isinstance(grid, InMemoryGrid):
        return
    if settings.secure_aggregation:
        raise UsageError(
            "secure-aggregation needs hospitals that keep their keys: SuperNodes with data and tls (docs/deployment.md), or "
            "python -m fedhealth simulate --secure-aggregation"
        )
    nodes, hospitals = len(list(grid.get_node_ids())), settings.hospitals
    if nodes != hospitals:
        raise UsageError(
            f"{nodes} simulated SuperNodes, but {hospitals} hospitals; give --federation-config 'num-supernodes={hospitals}' "
            f"or --run-config 'hospitals={nodes}'"
        )


def flower_home() -> Path:
    """Flower's own folder, where its programs may write."""
    return Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr").absolute()


app = ServerApp()
"""The app that `flwr run` starts."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation with the settings of Flower's run config."""
    with opened_flower_run(grid, context.run_config) as run:
        federate(grid, run.settings, run.console.show, writer=run.writer, schema=run.schema)
