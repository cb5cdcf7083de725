"""Real hospitals under secure aggregation in this process, and a server that can ask each of them anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import Context, Message, RecordDict

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.masking_party import MaskingParty
from fedhealth.client.masking_state import MaskingState, masking_path
from fedhealth.client.trainers import Trainers
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import encoded_names, reference_standardisation
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART, TARGET
from fedhealth.data.sources.synthetic import sample_patients
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.models.numpy_training import NumpyTrainer
from fedhealth.transport.messages import RUN_ID, SERVER_NODE_ID, node_id_of, set_identity
from fedhealth.transport.protocol import roster as rosters
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.masked_vectors import Values, context_of, decode_masked
from fedhealth.transport.protocol.roster import Entry, KeyRoster
from fedhealth.transport.protocol.sum_messages import SumMessages
from fedhealth.transport.protocol.training import TrainRequest, encode_train_request
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.identity import Identity, load_identity

RUN = b"run of the tests"
NAMES = ("cleveland", "hungary", "va")
QUICK = Trainers(NumpyTrainer)
USUAL = HospitalLimits()


def write_files(folder: Path, names: tuple[str, ...] = NAMES, patients: int = 80) -> dict[str, Path]:
    """One CSV of invented patients for each hospital, of different numbers of patients; name -> path."""
    table: pd.DataFrame = sample_patients(4 * patients * len(names), 3)[[*FEATURE_NAMES, TARGET]]
    folder.mkdir(parents=True, exist_ok=True)
    paths, start = {}, 0
    for place, name in enumerate(names):
        stop = start + patients + 7 * place
        table.iloc[start:stop].to_csv(paths.setdefault(name, folder / f"{name}.csv"), index=False)
        start = stop
    return paths


def issue(out: Path, *names: str, days: int = 365) -> dict[str, Identity]:
    """Identities of one certificate authority, with the server's; name -> identity."""
    issue_certificates(out, names, ("localhost",), days=days, ca_days=3650, force=False)
    return {name: load_identity(out / name) for name in (*names, "server")}


def make_hospital(
    path: Path, identity: Identity | None = None, limits: HospitalLimits = USUAL, **masking: Any
) -> HospitalData:
    """The hospital of a CSV, as after a start of its client: its state is the file beside the CSV."""
    state = MaskingState(masking_path(path))
    party = MaskingParty(state, identity, **{"is_local": identity is None, **masking})
    return HospitalData.from_csv(path, QUICK, path.stem, limits, masking=party)


def make_settings(**settings: Any) -> FederationSettings:
    """Settings of a short run with secure aggregation."""
    usual = {"hospitals": len(NAMES), "rounds": 2, "local_epochs": 1, "secure_aggregation": True}
    return FederationSettings(**{**usual, **settings})


def train_request(bias: float = 0.0, round_num: int = 1, *, evaluates: bool = False) -> RecordDict:
    """The request to train a logistic model whose weights are 0 but for the bias."""
    known = reference_standardisation(HEART)
    weights = {
        "logistic/log_odds/kernel": np.zeros((len(encoded_names(HEART, True)), 1), np.float32),
        "logistic/log_odds/bias": np.array([bias], np.float32),
    }
    scale = Scale(known.means, known.stds)
    return encode_train_request(TrainRequest(weights, round_num, scale, evaluates=evaluates))


@dataclass
class AskingServer:
    """A server that asks single hospitals what it likes; a hospital's refusal is raised as the `RunError` that it is."""

    hospitals: Mapping[str, HospitalData]
    settings: FederationSettings

    def ask(self, name: str, kind: str, content: RecordDict, *, run: bytes | None = RUN, **changes: Any) -> RecordDict:
        """One hospital's reply; `changes` are other settings than the others were sent."""
        set_identity(SERVER_NODE_ID)
        node, group = node_id_of(name), "" if run is None else run.hex()
        config = {**self.settings.to_run_config(), **{key.replace("_", "-"): value for key, value in changes.items()}}
        message = Message(content, dst_node_id=node, message_type=kind, group_id=group)
        app = make_client_app(self.hospitals[name])
        return app(message, Context(RUN_ID, node, {}, RecordDict(), config)).content

    def collect(self, run: bytes = RUN, *names: str) -> KeyRoster:
        """The keys of these hospitals (default: all)."""
        keys = [
            rosters.decode_key_reply(self.ask(name, rosters.KEY, rosters.encode_key_request(run)))
            for name in sorted(names or self.hospitals)
        ]
        return KeyRoster(run, tuple(keys))

    def send_roster(self, name: str, roster: KeyRoster) -> bytes:
        """The digest that the hospital accepts."""
        return rosters.decode_acceptance(self.ask(name, rosters.ROSTER, rosters.encode_roster(roster)))

    def agree(self, run: bytes = RUN) -> KeyRoster:
        """The roster of all hospitals, accepted by each."""
        roster = self.collect(run)
        for name in self.hospitals:
            assert self.send_roster(name, roster) == roster.digest
        return roster

    @property
    def messages(self) -> SumMessages:
        """What is summed."""
        return SumMessages(self.settings, HEART, NUM_BINS, list_groups(HEART))

    def add_up(
        self, kind: str, request: RecordDict, replies: Mapping[str, RecordDict], roster: KeyRoster
    ) -> dict[str, Values]:
        """The sums that the server can read of these replies if all were replies to `request`."""
        layout = self.messages.layout(kind, request)
        context = context_of(roster.digest, self.settings.to_run_config(), kind, request, layout)
        total = sum((decode_masked(reply, layout) for reply in replies.values()), np.zeros(layout.num_words, np.uint64))
        return layout.split(total, context, len(roster.names))


def with_entry(roster: KeyRoster, *entries: Entry) -> KeyRoster:
    """The roster with these entries instead of those of the same names."""
    by_name = {**{each.name: each for each in roster.entries}, **{each.name: each for each in entries}}
    return KeyRoster(roster.run_id, tuple(by_name[name] for name in sorted(by_name)))
