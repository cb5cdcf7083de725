"""A look at the server before the run: versions, sources, clock, admission, and toy weights there and back.

One unary call with JSON in it, for `python -m fedhealth doctor`; it never touches the run. Both ends of it stand here.
"""

import base64
import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.metadata import version
from typing import Any

import grpc
import numpy as np

from fedhealth.common.errors import UsageError
from fedhealth.common.version import __version__
from fedhealth.transport.grpc.diagnosis import Target, find_reason, translate
from fedhealth.transport.messages import CHECK_METHOD, agreement
from fedhealth.transport.tls.identity import Identity

SOURCES = (
    "data/schema.py",
    "data/preprocessing.py",
    "models/keras_models.py",
    "models/local_training.py",
    "models/training.py",
)
"""The modules that decide what weights mean; they should be the same on both ends."""
MOST_PROBE_BYTES = 32 * 1024 * 1024
CHECK_SECONDS = 30.0


@dataclass(frozen=True)
class Facts:
    """What one end is: package versions, what the link compares at joining, SHA-256 of the modules in `SOURCES`."""

    versions: Mapping[str, str]
    agreement: Mapping[str, str]
    sources: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class ServerCheck:
    """What the server answered.

    `refusal` says why it would not let this hospital in now (None: it would); `ahead` is how far its clock is ahead of
    ours; `arrays` are those that were sent, plus one; `seconds` the call took.
    """

    facts: Facts
    run_config: Mapping[str, Any]
    refusal: str | None
    ahead: timedelta
    arrays: Sequence[np.ndarray]
    seconds: float


def own_facts() -> Facts:
    """What this end is."""
    versions = {"fedhealth": __version__, "flwr": version("flwr"), "python": platform.python_version()}
    return Facts(versions, agreement(), {source: _hash_source(source) for source in SOURCES})


def answer_check(question: bytes, run_config: Mapping[str, Any], refusal: str | None) -> bytes:
    """The server's answer; a `ValueError` if the question is none."""
    if len(question) > 2 * MOST_PROBE_BYTES:
        raise ValueError(f"more than {MOST_PROBE_BYTES} bytes of weights")
    try:
        arrays = [_unpack(packed) + np.float32(1) for packed in json.loads(question)["arrays"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None
    answer = {
        **vars(own_facts()),
        "run_config": dict(run_config),
        "refusal": refusal,
        "time": datetime.now(UTC).isoformat(),
        "arrays": [_pack(array) for array in arrays],
    }
    return json.dumps(answer).encode()


def check_server(
    address: str,
    name: str,
    tls: Identity | None = None,
    arrays: Sequence[np.ndarray] = (),
    proxy: str | None = None,
) -> ServerCheck:
    """Ask the server at HOST:PORT, as the hospital `name`, what it is and what it thinks of us.

    Raises
    ------
    ServerLostError, UsageError
        As `link.join`.
    """
    from fedhealth.transport.grpc.client import join_metadata, open_channel

    question = json.dumps({"arrays": [_pack(array) for array in arrays]}).encode()
    started, began = datetime.now(UTC), time.perf_counter()
    with open_channel(address, tls, proxy) as channel:
        try:
            answer = channel.unary_unary(CHECK_METHOD)(
                question, metadata=list(join_metadata(name).items()), timeout=CHECK_SECONDS
            )
        except grpc.RpcError as error:
            reason = translate(error)
            raise (
                reason if isinstance(reason, UsageError) else find_reason(reason, Target(address, tls, proxy))
            ) from None
    return _read_answer(answer, started, time.perf_counter() - began)


def _read_answer(answer: bytes, started: datetime, seconds: float) -> ServerCheck:
    try:
        said = json.loads(answer)
        return ServerCheck(
            facts=Facts(dict(said["versions"]), dict(said["agreement"]), dict(said["sources"])),
            run_config=dict(said["run_config"]),
            refusal=said["refusal"],
            ahead=datetime.fromisoformat(said["time"]) - (started + timedelta(seconds=seconds / 2)),
            arrays=[_unpack(packed) for packed in said["arrays"]],
            seconds=seconds,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise UsageError("what answers there is no federation server (not its kind of check); check --server") from None


def _hash_source(source: str) -> str:
    """SHA-256 of a module's source; a module that is not there is an error here, and never equal to nothing there."""
    return hashlib.sha256(resources.files("fedhealth").joinpath(source).read_bytes()).hexdigest()


def _pack(array: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(content.shape), "data": base64.b64encode(content.tobytes()).decode()}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(packed["data"], validate=True), dtype="<f4")
    return flat.reshape([int(size) for size in packed["shape"]])
