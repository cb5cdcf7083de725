"""Preflight checks on a hospital's computer before a run: whether this client can take part, and if not, what to do.

Each check gives one line. No patient data is sent: the probe arrays sent to the server and back are made-up numbers in
the shape of the model's weights.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.reachability import open_port, resolve
from fedhealth.client.trainers import Trainers
from fedhealth.common.errors import FedHealthError, RunError
from fedhealth.common.runtime_env import silenced_stderr
from fedhealth.config.commands import DoctorSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import Hospital, load_hospital
from fedhealth.data.preprocessing import local_standardisation
from fedhealth.data.readers.read_any import load_options
from fedhealth.data.schema_file import load_schema
from fedhealth.transport.grpc.preflight import ServerCheck, check_server, own_facts
from fedhealth.transport.grpc.retry import ServerLostError
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.protocol.evaluation import EVALUATE, EvaluateRequest, encode_evaluate_request
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.newton import COEFFICIENTS
from fedhealth.transport.protocol.setup import DESCRIBE, INITIAL_WEIGHTS, decode_initial_weights, encode_empty_request
from fedhealth.transport.protocol.training import TRAIN, TrainRequest, decode_train_reply, encode_train_request
from fedhealth.transport.tls.identity import Identity, load_identity

LARGEST_SKEW = 60.0
"""Seconds; with a larger difference between the clocks, valid certificates may be rejected."""


@dataclass(frozen=True)
class Finding:
    """The result of one check, as one line of text; a `skipped` check has not `passed`."""

    check: str
    text: str
    passed: bool
    warnings: tuple[str, ...] = ()
    skipped: bool = False


class Preflight:
    """Runs the checks in order; later checks use earlier results, and a check that depends on a failed one is skipped.

    `hospital`, `identity` and `server` are None until their check has passed.
    """

    def __init__(self, settings: DoctorSettings, trainers: Trainers | None = None) -> None:
        self.settings = settings
        self.trainers = trainers or Trainers()
        self.schema = load_schema(settings.schema)
        self.hospital: Hospital | None = None
        self.identity: Identity | None = None
        self.server: ServerCheck | None = None
        self._warnings: list[str] = []

    def findings(self) -> Iterator[Finding]:
        """The results of all checks, as each is finished."""
        steps: Mapping[str, Callable[[], str]] = {
            "file": self._read_file,
            "receipts": self._check_receipts,
            "certificate": self._load_identity,
            "name": partial(resolve, self.settings.server, self.settings.proxy),
            "port": partial(open_port, self.settings.server, self.settings.proxy),
            "server": self._check_server,
            "versions": self._compare_versions,
            "code": self._compare_code,
            "clock": self._compare_clocks,
            "admission": self._check_admission,
            "training": self._train,
        }
        failed = set[str]()
        needs = {
            "port": {"name"},
            "server": {"port", "certificate"},
            **{check: {"server"} for check in ("versions", "code", "clock", "admission")},
            "training": {"file", "server"},
        }
        for check, step in steps.items():
            if missing := needs.get(check, set()) & failed:
                failed.add(check)
                yield Finding(check, f"needs the {min(missing)} check", passed=False, skipped=True)
                continue
            self._warnings = []
            try:
                yield Finding(check, step(), passed=True, warnings=tuple(self._warnings))
            except FedHealthError as error:
                failed.add(check)
                yield Finding(check, str(error), passed=False)

    def _read_file(self) -> str:
        settings = self.settings
        options = load_options(self.schema, settings.sheet, settings.decimal, settings.mapping)
        self.hospital = load_hospital(settings.data, schema=self.schema, options=options)
        self._warnings += self.hospital.warnings
        ill = int(self.hospital.patients.labels.sum())
        return (
            f"{self.settings.data}: {len(self.hospital.patients)} patients, {ill} ill; columns and units fit the schema"
        )

    def _check_receipts(self) -> str:
        folder = self.settings.data.parent
        if not os.access(folder, os.W_OK):
            raise RunError(f"{folder} cannot be written to; give client.py another folder with --receipts")
        return f"{folder} can be written to"

    def _load_identity(self) -> str:
        if self.settings.tls is None:
            return "none given (--tls); without one, only a server on this machine can be joined"
        self.identity = load_identity(self.settings.tls)
        self._warnings += self.identity.warnings
        return f"{self.identity.name}, valid until {self.identity.not_after:%Y-%m-%d}"

    def _check_server(self) -> str:
        probe = probe_arrays()
        try:
            self.server = check_server(
                self.settings.server, self._name(), self.identity, probe, self.settings.proxy, schema=self.schema
            )
        except ServerLostError as error:
            raise RunError(f"does not reply ({error}); ask the coordinator whether it is running") from None
        for sent, received in zip(probe, self.server.arrays, strict=True):
            if not np.array_equal(sent + 1, received):
                raise RunError("probe arrays came back changed; something between here and the server alters messages")
        size = sum(array.nbytes for array in probe)
        return f"replies; {size} bytes of probe arrays came back intact in {self.server.seconds * 1000:.0f} ms"

    def _name(self) -> str:
        if self.identity:
            return self.identity.name
        return self.hospital.name if self.hospital else self.settings.data.stem

    def _compare_versions(self) -> str:
        ours, theirs = own_facts(), self._reply().facts
        for package in ("fedhealth", "flwr"):
            if ours.versions[package] != theirs.versions.get(package):
                raise RunError(
                    f"{package} is {ours.versions[package]} here and {theirs.versions.get(package)} there; "
                    "install the same on both"
                )
        if ours.versions["python"] != theirs.versions.get("python"):
            there = theirs.versions.get("python")
            self._warnings.append(f"Python is {ours.versions['python']} here and {there} there; this may work")
        return ", ".join(f"{package} {number}" for package, number in ours.versions.items())

    def _compare_code(self) -> str:
        ours, theirs = own_facts().sources, self._reply().facts.sources
        if different := [source for source in ours if ours[source] != theirs.get(source)]:
            raise RunError(
                f"{', '.join(different)} is not the same code here and there; install the same version on both"
            )
        return f"the same on both ends: {', '.join(ours)}"

    def _compare_clocks(self) -> str:
        ahead = self._reply().ahead.total_seconds()
        if abs(ahead) > LARGEST_SKEW:
            raise RunError(
                f"the server's clock is {ahead:+.0f} s from this one, so valid certificates may be rejected; "
                "synchronise both clocks (NTP)"
            )
        return f"within {max(abs(ahead), 1):.0f} s of the server's"

    def _check_admission(self) -> str:
        if refusal := self._reply().refusal:
            raise RunError(f"the server would refuse {self._name()}: {refusal}")
        return f"the server would admit {self._name()}"

    def _train(self) -> str:
        started = time.perf_counter()
        with silenced_stderr():
            self.trainers.load()
        imported = time.perf_counter()
        if self.hospital is None:
            raise RunError("the file could not be read")
        hospital = dataclasses.replace(self.hospital, name=self._name())
        train_once(hospital, FederationSettings.from_run_config(self._reply().run_config), self.trainers)
        return (
            f"TensorFlow is installed ({imported - started:.0f} s to load); one local round on this file took "
            f"{time.perf_counter() - imported:.1f} s; nothing of it was sent"
        )

    def _reply(self) -> ServerCheck:
        if self.server is None:
            raise RunError("the server did not reply")
        return self.server


def probe_arrays() -> list[NDArray[np.float32]]:
    """Made-up arrays in the shapes of a model's weights."""
    return [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for shape in ((32, 16), (16,), (16, 1), (1,))]


def train_once(hospital: Hospital, settings: FederationSettings, trainers: Trainers) -> None:
    """Run one round of the hospital's app in this process, with the hospital's own means; the result is discarded.

    Raises
    ------
    RunError
        The app failed; the text says at which message and why.
    """
    # Nothing is sent, so nothing is charged to the patients' privacy ledger. A run for feasibility alone would not train.
    plain = dataclasses.replace(settings, dp_epsilon=0.0, dp_noise=0.0, feasibility=False, secure_aggregation=False)
    app = make_client_app(HospitalData(hospital, trainers))
    grid = InProcessGrid({hospital.name: app}, plain.to_run_config())
    (node,) = grid.get_node_ids()

    def send(kind: str, content: RecordDict) -> RecordDict:
        (reply,) = grid.send_and_receive([Message(content, dst_node_id=node, message_type=kind)])
        if reply.has_error():
            raise RunError(f"{kind} fails here: {reply.error.reason}")
        return reply.content

    scale = Scale(**vars(local_standardisation(hospital.schema, hospital.patients.features)))
    send(DESCRIBE, encode_empty_request())
    weights = decode_initial_weights(send(INITIAL_WEIGHTS, encode_empty_request()))
    is_newton = settings.strategy == "newton"  # trains no weights: it replies with sums at these coefficients
    flat = np.concatenate([array.ravel() for array in weights.values()]).astype(np.float64) if is_newton else None
    request = TrainRequest(weights if flat is None else {COEFFICIENTS: flat}, 1, scale)
    trained = decode_train_reply(send(TRAIN, encode_train_request(request)))
    send(EVALUATE, encode_evaluate_request(EvaluateRequest(weights if is_newton else trained.weights, 1, scale)))
