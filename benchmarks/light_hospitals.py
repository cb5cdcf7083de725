"""Many light hospitals in one process: real gRPC streams and real messages, but no training, no data, no TensorFlow.

They use as little time as possible (a reply is encoded once, and only its metadata are new each time), so that the
server is measured although both run on the same machine. They use the protocol of `fedhealth.transport.grpc.client`,
each over a TCP connection of its own, on one event loop instead of one thread each.
"""

import asyncio
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import grpc
import numpy as np
from flwr.app import RecordDict
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from numpy.typing import NDArray

from fedhealth.data.preprocessing import encoded_names
from fedhealth.data.schema_file import heart_disease
from fedhealth.metrics.histogram import score_histogram
from fedhealth.transport.frames import Body, Encoded, begins_transfer, encode_body, read_head
from fedhealth.transport.messages import METHOD, RUN_ID, agreement
from fedhealth.transport.options import client_options
from fedhealth.transport.protocol import finalization, setup
from fedhealth.transport.protocol.evaluation import EVALUATE, EvaluateReply, Histogram, encode_evaluate_reply
from fedhealth.transport.protocol.training import EVALUATES, TRAIN, TrainReply, encode_train_reply

Weights = Mapping[str, NDArray[np.float32]]

TRAIN_PATIENTS, TEST_PATIENTS = 150, 50
BIG_SHAPES = {f"layer_{number}/kernel": (1000, 1250) for number in range(4)}
"""20 MB of float32 in a few big arrays."""


@dataclass(frozen=True)
class HospitalProcesses:
    """Processes with hospitals that wait for `join`."""

    processes: Sequence[SpawnProcess]
    pipes: Sequence["Connection[str, str]"]

    def join(self) -> None:
        """Let all hospitals join at once."""
        for pipe in self.pipes:
            pipe.send("join")


@contextmanager
def light_hospitals(address: str, count: int, big: bool = False, num_processes: int = 1) -> Iterator[HospitalProcesses]:
    """`count` hospitals in `num_processes` processes, ready to join the server at `address`; all are ended at the end."""
    spawn = multiprocessing.get_context("spawn")
    shares = [list(range(count))[first::num_processes] for first in range(num_processes)]
    with ExitStack() as stack:
        processes, pipes = [], []
        for share in shares:
            ours, theirs = spawn.Pipe()
            processes.append(spawn.Process(target=_run, args=(address, share, big, theirs), daemon=True))
            processes[-1].start()
            stack.callback(_end, processes[-1])
            theirs.close()  # so that the pipe ends if the process dies
            pipes.append(ours)
        for pipe in pipes:
            pipe.recv()
        yield HospitalProcesses(processes, pipes)


def _end(process: SpawnProcess) -> None:
    process.kill()
    process.join()


def _run(address: str, numbers: Sequence[int], big: bool, pipe: "Connection[str, str]") -> None:
    """Main function of a process of hospitals: get ready, wait for `join`, reply until the server ends the run."""
    common = encode_contents(big_weights() if big else default_weights())
    hospitals = [common | {setup.DESCRIBE: encode_body(description(f"hospital {number}"))} for number in numbers]
    pipe.send("ready")
    try:
        pipe.recv()
        asyncio.run(_live(address, [f"hospital {number}" for number in numbers], hospitals))
    except (EOFError, KeyboardInterrupt, grpc.aio.AioRpcError):
        return  # the parent process or the server has ended


async def _live(address: str, names: Sequence[str], contents: Sequence[Mapping[str, Body]]) -> None:
    agreed = agreement(heart_disease())  # once: the schema is read from its file
    await asyncio.gather(*(_answer(address, name, agreed, each) for name, each in zip(names, contents, strict=True)))


async def _answer(address: str, name: str, agreed: Mapping[str, str], contents: Mapping[str, Body]) -> None:
    """One hospital, from joining to the end of the run."""
    options = client_options()
    metadata = (*agreed.items(), ("hospital-bin", name.encode()))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stream = channel.stream_stream(METHOD)(metadata=metadata, wait_for_ready=True)
        while (request := await _read_request(stream)) is not None:
            metadata, evaluates = request
            if metadata.message_type != setup.WELCOME:
                for frame in reply_to(metadata, contents[f"{metadata.message_type}{EVALUATES * evaluates}"]).frames():
                    await stream.write(frame)


async def _read_request(stream: Any) -> tuple[ProtoMetadata, bool] | None:
    """The metadata of a message, and whether it asks for an evaluation besides a training; None at the end of the stream.

    Nothing else, so that no hospital holds a large model.
    """
    payload = await stream.read()
    if payload is grpc.aio.EOF:
        return None
    if begins_transfer(payload):
        lengths, payload = read_head(payload)
        missing = sum(lengths)
        while missing:
            missing -= len(await stream.read())
    message, metadata = ProtoMessage.FromString(payload), ProtoMetadata()
    metadata.CopyFrom(message.metadata)
    return metadata, any(
        value.key == EVALUATES for record in message.content.items for value in record.config_record.items
    )


def reply_to(request: ProtoMetadata, body: Body) -> Encoded:
    """An encoded reply: new metadata, and the content that was encoded once."""
    metadata = ProtoMetadata(
        run_id=RUN_ID,
        message_id=f"{request.dst_node_id}-{request.message_id}",
        src_node_id=request.dst_node_id,
        dst_node_id=request.src_node_id,
        reply_to_message_id=request.message_id,
        ttl=request.ttl,
        message_type=request.message_type,
        created_at=request.created_at,
    )
    return Encoded(ProtoMessage(metadata=metadata).SerializeToString(), *body)


# --- replies -----------------------------------------------------------------------------------------------------------


def default_weights() -> Weights:
    """Weights with the names and shapes of the default model's."""
    num_inputs = len(encoded_names(heart_disease(), missing_indicators=True))
    shapes = {
        "logistic/log_odds/kernel": (num_inputs, 1),
        "logistic/log_odds/bias": (1,),
    }
    return _random_weights(shapes)


def big_weights() -> Weights:
    """20 MB of weights in four arrays."""
    return _random_weights(BIG_SHAPES)


def _random_weights(shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def contents(weights: Weights) -> dict[str, RecordDict]:
    """A hospital's reply to each type of message (except `DESCRIBE`, whose reply contains its name)."""
    generator = np.random.default_rng(0)
    labels = np.arange(TEST_PATIENTS) % 2
    histogram = score_histogram(np.clip(generator.normal(0.35 + 0.3 * labels, 0.2), 0, 1), labels)
    # These, and the subgroup below, of fewer patients than any hospital of the benchmarks declares.
    numbers = len(heart_disease().numbers)
    moments = setup.encode_moments(setup.MomentSums((10,) * numbers, (500.0,) * numbers))
    return {
        setup.FIRST_MOMENTS: moments,
        setup.SECOND_MOMENTS: moments,
        setup.INITIAL_WEIGHTS: setup.encode_initial_weights(weights),
        TRAIN: encode_train_reply(TrainReply(weights, TRAIN_PATIENTS, 0.5)),
        EVALUATE: encode_evaluate_reply(EvaluateReply(Histogram(histogram.num_examples, **vars(histogram)))),
        finalization.IMPORTANCE: finalization.encode_importance(None),
        finalization.SUBGROUPS: finalization.encode_subgroups({"age 60 and over": (5, 0, 0, 0)}),
        finalization.FINISH: finalization.encode_finish_reply({}),
    }


def encode_contents(weights: Weights) -> dict[str, Body]:
    """`contents`, each encoded, and a train reply with an evaluation."""
    replies = contents(weights)
    replies[f"{TRAIN}{EVALUATES}"] = RecordDict({**replies[TRAIN], **replies[EVALUATE]})
    return {message_type: encode_body(content) for message_type, content in replies.items()}


def description(name: str) -> RecordDict:
    """The reply to `DESCRIBE` of a hospital with that name."""
    counts = (TRAIN_PATIENTS, TEST_PATIENTS, TEST_PATIENTS // 2)
    return setup.encode_description(setup.Description(name, "synthetic", heart_disease().fingerprint, *counts))
