"""One hospital's app, asked directly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedhealth.client.limits import HospitalLimits
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import load_hospital
from fedhealth.data.patients import split_patients
from fedhealth.data.sources.heart import FEATURE_NAMES, TARGET
from fedhealth.data.sources.synthetic import sample_patients
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.protocol.fields import ARRAYS, CONFIG
from tests.support.hospital_apps import USUAL, make_app

Ask = Callable[..., Message]


def write_hospital(path: Path, num_patients: int = 60, chol_known: int | None = None) -> Path:
    """A hospital of the first invented patients; only `chol_known` of its training patients have a cholesterol value."""
    table = sample_patients(400, 3).head(num_patients)[[*FEATURE_NAMES, TARGET]].reset_index(drop=True)
    table[TARGET] = np.arange(num_patients) % 2
    table["chol"] = 200.0 + np.arange(num_patients)
    table.to_csv(path, index=False)
    if chol_known is not None:
        train, _ = split_patients(load_hospital(path).patients, 0.25, 0)
        known = train.features[:chol_known, FEATURE_NAMES.index("chol")]
        table.loc[~table["chol"].isin(known), "chol"] = np.nan
        table.to_csv(path, index=False)
    return path


def make_ask(path: Path, limits: HospitalLimits = USUAL, **run_config: Any) -> Ask:
    """A function that sends one message to the hospital of `path`, called lakeside, and returns its reply."""
    config = {**FederationSettings().to_run_config(), **{k.replace("_", "-"): v for k, v in run_config.items()}}
    return ask_through(InProcessGrid({"lakeside": make_app(path, "lakeside", limits)}, config))


def ask_through(grid: InProcessGrid) -> Ask:
    """A function that sends one message to the only hospital of a grid and returns its reply."""
    (node_id,) = grid.get_node_ids()

    def ask(kind: str, arrays: ArrayRecord | None = None, **config: Any) -> Message:
        records: dict[str, Any] = {CONFIG: ConfigRecord({key.replace("_", "-"): v for key, v in config.items()})}
        if arrays is not None:
            records[ARRAYS] = arrays
        message = Message(RecordDict(records), dst_node_id=node_id, message_type=kind)
        (reply,) = grid.send_and_receive([message])
        return reply

    return ask
