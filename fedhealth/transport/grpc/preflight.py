"""The preflight check of the server: versions, source code, clock, admission, and probe arrays sent there and back.

One unary call with JSON content, for `python -m fedhealth doctor`; it does not change the run. Client and server side.
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
from fedhealth.data.schema import Schema
from fedhealth.transport.grpc.diagnosis import Target, find_reason, translate
from fedhealth.transport.messages import CHECK_METHOD
from fedhealth.transport.tls.identity import Identity

SOURCES = (
    "data/schema.py",
    "data/preprocessing.py",
    "models/keras_models.py",
    "models/local_training.py",
    "models/training.py",
)
"""The modules that define the meaning of the weights; they must be the same on both ends."""
MOST_PROBE_BYTES = 32 * 1024 * 1024
CHECK_SECONDS = 30.0
NO_DECLINE: Mapping[str, str | bytes] = {}


@dataclass(frozen=True)
class Facts:
    """Facts about one end: package versions, and SHA-256 of the modules in `SOURCES`."""

    versions: Mapping[str, str]
    sources: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class ServerCheck:
    """The server's reply.

    `refusal` is why the server would refuse this hospital now (None: it would admit it); `ahead` is how far its clock
    is ahead of ours; `arrays` are the arrays that were sent, plus one; `seconds` is the duration of the call.
    """

    facts: Facts
    run_config: Mapping[str, Any]
    refusal: str | None
    ahead: timedelta
    arrays: Sequence[np.ndarray]
    seconds: float


def own_facts() -> Facts:
    """The facts about this end."""
    versions = {"fedhealth": __version__, "flwr": version("flwr"), "python": platform.python_version()}
    return Facts(versions, {source: _hash_source(source) for source in SOURCES})


def reply_to_check(request: bytes, run_config: Mapping[str, Any], refusal: str | None) -> bytes:
    """The server's reply; raises a `ValueError` if the request is invalid."""
    if len(request) > 2 * MOST_PROBE_BYTES:
        raise ValueError(f"more than {MOST_PROBE_BYTES} bytes of arrays")
    try:
        arrays = [_unpack(packed) + np.float32(1) for packed in json.loads(request)["arrays"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None
    reply = {
        **vars(own_facts()),
        "run_config": dict(run_config),
        "refusal": refusal,
        "time": datetime.now(UTC).isoformat(),
        "arrays": [_pack(array) for array in arrays],
    }
    return json.dumps(reply).encode()


def check_server(
    address: str,
    name: str,
    tls: Identity | None = None,
    arrays: Sequence[np.ndarray] = (),
    proxy: str | None = None,
    *,
    schema: Schema | None = None,
    decline: Mapping[str, str | bytes] = NO_DECLINE,
) -> ServerCheck:
    """Send the preflight check to the server at HOST:PORT, as the hospital `name`; returns its reply.

    `decline` is what `decline_metadata` returns for a run in which the hospital does not take part.

    Raises
    ------
    ServerLostError, UsageError
        As `client.join`.
    """
    from fedhealth.transport.grpc.client import join_metadata, open_channel

    request = json.dumps({"arrays": [_pack(array) for array in arrays]}).encode()
    metadata = {**join_metadata(name, schema), **decline}
    started, began = datetime.now(UTC), time.perf_counter()
    with open_channel(address, tls, proxy) as channel:
        try:
            reply = channel.unary_unary(CHECK_METHOD)(request, metadata=list(metadata.items()), timeout=CHECK_SECONDS)
        except grpc.RpcError as error:
            reason = translate(error)
            raise (
                reason if isinstance(reason, UsageError) else find_reason(reason, Target(address, tls, proxy))
            ) from None
    return _read_reply(reply, started, time.perf_counter() - began)


def _read_reply(reply: bytes, started: datetime, seconds: float) -> ServerCheck:
    try:
        content = json.loads(reply)
        return ServerCheck(
            facts=Facts(dict(content["versions"]), dict(content["sources"])),
            run_config=dict(content["run_config"]),
            refusal=content["refusal"],
            ahead=datetime.fromisoformat(content["time"]) - (started + timedelta(seconds=seconds / 2)),
            arrays=[_unpack(packed) for packed in content["arrays"]],
            seconds=seconds,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise UsageError(
            "the program at that address is not a federation server (unknown reply to the check); check --server"
        ) from None


def _hash_source(source: str) -> str:
    """SHA-256 of a module's source; raises if the module is missing, so that two missing modules are not taken as equal."""
    return hashlib.sha256(resources.files("fedhealth").joinpath(source).read_bytes()).hexdigest()


def _pack(array: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(content.shape), "data": base64.b64encode(content.tobytes()).decode()}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(packed["data"], validate=True), dtype="<f4")
    return flat.reshape([int(size) for size in packed["shape"]])
