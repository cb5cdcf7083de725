"""Before round 1, from a hospital's own computer: whether this client could take part, and if not, what is to be done.

Each step is a question with a one-line answer. Nothing of a patient leaves: the probe arrays that are sent to the
server and back are toy numbers in the shape of the model's weights.
"""

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from fedhealth.client.app import make_client_app
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.trainers import Trainers
from fedhealth.common.addresses import split_address
from fedhealth.common.errors import FedHealthError, RunError
from fedhealth.common.runtime_env import silenced_stderr
from fedhealth.config.commands import DoctorSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.data.hospital import Hospital, load_hospital
from fedhealth.data.preprocessing import reference_standardisation
from fedhealth.transport.grpc.http_proxy import connect, explain_unused, find_proxy
from fedhealth.transport.grpc.preflight import ServerCheck, check_server, own_facts
from fedhealth.transport.grpc.retry import ServerLostError
from fedhealth.transport.in_process import InProcessGrid
from fedhealth.transport.protocol.evaluation import EVALUATE, EvaluateRequest, encode_evaluate_request
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.setup import DESCRIBE, INITIAL_WEIGHTS, decode_initial_weights, encode_empty_request
from fedhealth.transport.protocol.training import TRAIN, TrainRequest, decode_train_reply, encode_train_request
from fedhealth.transport.tls.identity import Identity, load_identity

CONNECT_SECONDS = 10.0
LARGEST_SKEW = 60.0
"""Seconds between the two clocks from which certificates' dates and logs become hard to compare."""


@dataclass(frozen=True)
class Finding:
    """The answer to one question. `skipped`: it was not asked, and is not `good`."""

    question: str
    answer: str
    good: bool
    warnings: tuple[str, ...] = ()
    skipped: bool = False


class Examination:
    """Asks everything that can be asked; what one step finds the next ones use, and what depends on a failure is left out.

    `hospital`, `identity` and `server` are None until their step succeeded.
    """

    def __init__(self, settings: DoctorSettings, trainers: Trainers | None = None) -> None:
        self.settings = settings
        self.trainers = trainers or Trainers()
        self.hospital: Hospital | None = None
        self.identity: Identity | None = None
        self.server: ServerCheck | None = None
        self._warnings: list[str] = []

    def findings(self) -> Iterator[Finding]:
        """All answers, one by one."""
        steps: Mapping[str, Callable[[], str]] = {
            "file": self._read_file,
            "receipts": self._try_receipts,
            "certificate": self._load_identity,
            "name": self._resolve,
            "port": self._connect,
            "server": self._ask_server,
            "versions": self._compare_versions,
            "code": self._compare_code,
            "clock": self._compare_clocks,
            "admission": self._ask_admission,
            "training": self._train,
        }
        failed = set[str]()
        needs = {
            "port": {"name"},
            "server": {"port", "certificate"},
            **{question: {"server"} for question in ("versions", "code", "clock", "admission")},
            "training": {"file", "server"},
        }
        for question, step in steps.items():
            if missing := needs.get(question, set()) & failed:
                failed.add(question)
                yield Finding(question, f"needs the {min(missing)} check", good=False, skipped=True)
                continue
            self._warnings = []
            try:
                yield Finding(question, step(), good=True, warnings=tuple(self._warnings))
            except FedHealthError as error:
                failed.add(question)
                yield Finding(question, str(error), good=False)

    def _read_file(self) -> str:
        self.hospital = load_hospital(self.settings.data)
        self._warnings += self.hospital.warnings
        ill = int(self.hospital.patients.labels.sum())
        return f"{self.settings.data}: {len(self.hospital.patients)} patients, {ill} ill, in the schema's columns and units"

    def _try_receipts(self) -> str:
        folder = self.settings.data.parent
        if not os.access(folder, os.W_OK):
            raise RunError(f"{folder} cannot be written to; give client.py another place for its --receipts")
        return f"{folder} can be written to"

    def _load_identity(self) -> str:
        if self.settings.tls is None:
            return "none given (--tls); without one only a server on this machine can be joined"
        self.identity = load_identity(self.settings.tls)
        self._warnings += self.identity.warnings
        return f"{self.identity.name}, good until {self.identity.not_after:%Y-%m-%d}"

    def _resolve(self) -> str:
        host, port = split_address(self.settings.server)
        if proxy := find_proxy(self.settings.server, self.settings.proxy):
            return f"{host} is left to {proxy}, which connects to it"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise RunError(
                f"{host} is unknown here ({error.strerror}); check --server, or ask for the address as a number"
            ) from None
        return f"{host} is {found[0][4][0]}"

    def _connect(self) -> str:
        host, port = split_address(self.settings.server)
        proxy = find_proxy(self.settings.server, self.settings.proxy)
        try:
            with connect(self.settings.server, proxy, CONNECT_SECONDS):
                return f"{port} is open" + (f", through {proxy}" if proxy else "")
        except ServerLostError as error:
            raise RunError(f"{port} at {host} is not reached: {error}; {error.advice}") from None
        except OSError as error:
            unused = explain_unused(self.settings.server, self.settings.proxy)
            raise RunError(
                f"{port} at {host} takes no connection ({error.strerror or error}); is the server running, "
                f"and does the firewall let this port out?{f' {unused}' if unused else ''}"
            ) from None

    def _ask_server(self) -> str:
        probe = probe_arrays()
        try:
            self.server = check_server(self.settings.server, self._name(), self.identity, probe, self.settings.proxy)
        except ServerLostError as error:
            raise RunError(f"gives no answer ({error}); ask the coordinator whether it is running") from None
        for sent, came in zip(probe, self.server.arrays, strict=True):
            if not np.array_equal(sent + 1, came):
                raise RunError("toy weights came back changed; something between here and the server alters messages")
        size = sum(array.nbytes for array in probe)
        return f"answers; {size} bytes of toy weights went there and came back whole in {self.server.seconds * 1000:.0f} ms"

    def _name(self) -> str:
        if self.identity:
            return self.identity.name
        return self.hospital.name if self.hospital else self.settings.data.stem

    def _compare_versions(self) -> str:
        ours, theirs = own_facts(), self._answer().facts
        for package in ("fedhealth", "flwr"):
            if ours.versions[package] != theirs.versions.get(package):
                raise RunError(
                    f"{package} is {ours.versions[package]} here and {theirs.versions.get(package)} there; "
                    "install the same on both"
                )
        if ours.versions["python"] != theirs.versions.get("python"):
            there = theirs.versions.get("python")
            self._warnings.append(f"Python is {ours.versions['python']} here and {there} there; that may be well")
        return ", ".join(f"{package} {number}" for package, number in ours.versions.items())

    def _compare_code(self) -> str:
        ours, theirs = own_facts().sources, self._answer().facts.sources
        if different := [room for room in ours if ours[room] != theirs.get(room)]:
            raise RunError(
                f"{', '.join(different)} is not the same code here and there; install the same version on both"
            )
        return f"the same on both ends: {', '.join(ours)}"

    def _compare_clocks(self) -> str:
        ahead = self._answer().ahead.total_seconds()
        if abs(ahead) > LARGEST_SKEW:
            raise RunError(f"the server's clock is {ahead:+.0f} s from this one; certificates may fail: set it (NTP)")
        return f"within {max(abs(ahead), 1):.0f} s of the server's"

    def _ask_admission(self) -> str:
        if refusal := self._answer().refusal:
            raise RunError(f"the server would refuse {self._name()}: {refusal}")
        return f"the server would let {self._name()} in"

    def _train(self) -> str:
        started = time.perf_counter()
        with silenced_stderr():
            self.trainers.load()
        imported = time.perf_counter()
        if self.hospital is None:
            raise RunError("the file could not be read")
        hospital = dataclasses.replace(self.hospital, name=self._name())
        train_once(hospital, FederationSettings.from_run_config(self._answer().run_config), self.trainers)
        return (
            f"TensorFlow is here ({imported - started:.0f} s to load); one local round on this file took "
            f"{time.perf_counter() - imported:.1f} s, and its result stays here"
        )

    def _answer(self) -> ServerCheck:
        if self.server is None:
            raise RunError("the server gave no answer")
        return self.server


def probe_arrays() -> list[NDArray[np.float32]]:
    """Toy weights of about a model's size."""
    return [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for shape in ((32, 16), (16,), (16, 1), (1,))]


def train_once(hospital: Hospital, settings: FederationSettings, trainers: Trainers) -> None:
    """One round of the hospital's own app in this process, on reference scaling, with its result thrown away.

    Raises
    ------
    RunError
        The hospital could not answer a message; with which message and why.
    """
    # Nothing is sent, so nothing is charged to the patients' privacy ledger.
    plain = dataclasses.replace(settings, dp_epsilon=0.0, dp_noise=0.0)
    app = make_client_app(HospitalData(hospital, trainers))
    grid = InProcessGrid({hospital.name: app}, plain.to_run_config())
    (node,) = grid.get_node_ids()

    def ask(kind: str, content: RecordDict) -> RecordDict:
        (reply,) = grid.send_and_receive([Message(content, dst_node_id=node, message_type=kind)])
        if reply.has_error():
            raise RunError(f"{kind} fails here: {reply.error.reason}")
        return reply.content

    scale = Scale(**vars(reference_standardisation()))
    ask(DESCRIBE, encode_empty_request())
    weights = decode_initial_weights(ask(INITIAL_WEIGHTS, encode_empty_request()))
    trained = decode_train_reply(ask(TRAIN, encode_train_request(TrainRequest(weights, 1, scale))))
    ask(EVALUATE, encode_evaluate_request(EvaluateRequest(trained.weights, 1, scale)))
