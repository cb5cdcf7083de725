"""Many light hospitals of a run with secure aggregation, in one process: real streams and messages, no training, no keys.

Their masks are random numbers that add up to zero, drawn before the first round instead of derived from keys for every
message, so that the server is measured although both run on the same machine.
"""

import asyncio
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde_utils import metadata_to_proto

from benchmarks.light_hospitals import TEST_PATIENTS, TRAIN_PATIENTS, big_weights, contents, default_weights, reply_to
from fedhealth.common.pairwise_masks import Words
from fedhealth.config.federation import FederationSettings
from fedhealth.data.schema_file import heart_disease
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import list_groups
from fedhealth.transport.frames import Encoded, Transfer, begins_transfer, encode_body
from fedhealth.transport.messages import METHOD, agreement, decode_message
from fedhealth.transport.options import client_options
from fedhealth.transport.protocol import roster, setup
from fedhealth.transport.protocol.evaluation import EVALUATE
from fedhealth.transport.protocol.fields import ARRAYS, CONFIG, encode_arrays
from fedhealth.transport.protocol.finalization import FINISH
from fedhealth.transport.protocol.masked_vectors import Layout, Values, context_of, encode_masked
from fedhealth.transport.protocol.sum_messages import SumMessages
from fedhealth.transport.protocol.training import EVALUATES, TRAIN

NAMES = "hospital {}"


@contextmanager
def masked_hospitals(
    address: str, settings: FederationSettings, big: bool = False
) -> Iterator[tuple[Any, "Connection[str, str]"]]:
    """All hospitals of the settings in one process, ready to join `address`; (process, pipe): send `join` to the pipe."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(address, settings, big, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield process, ours
    finally:
        process.kill()
        process.join()


class Crowd:
    """The replies of all hospitals: a request is read once, and its numbers are masked for each of them."""

    def __init__(self, settings: FederationSettings, big: bool) -> None:
        self.settings, self.count = settings, settings.hospitals
        schema = heart_disease()
        self._messages = SumMessages(settings, schema, NUM_BINS, list_groups(schema))
        self._plain = contents(big_weights() if big else default_weights())
        self._plain[setup.COUNTS_SUM] = setup.encode_description(
            setup.Description("x", "synthetic", schema.fingerprint, TRAIN_PATIENTS, TEST_PATIENTS, TEST_PATIENTS // 2)
        )
        self._generator = np.random.default_rng(0)
        self._masks: dict[bytes, Words] = {}
        self._sums = [0] * self.count
        self._last: tuple[int, Words] = 0, np.zeros(0, np.uint64)
        """The number of the sum that was asked for last, and each hospital's vector."""
        self._roster = b""

    def reply(self, hospital: int, message: Message) -> Encoded | None:
        """The encoded reply to a hospital's message; None to a welcome."""
        kind = message.metadata.message_type
        if kind == setup.WELCOME:
            return None
        return reply_to(
            metadata_to_proto(message.metadata), encode_body(self._content(hospital, kind, message.content))
        )

    def _content(self, hospital: int, kind: str, request: RecordDict) -> RecordDict:
        name = NAMES.format(f"{hospital:04}")
        if kind == setup.DESCRIBE:
            return setup.encode_who(setup.Who(name, "synthetic", heart_disease().fingerprint))
        if kind == roster.KEY:
            return roster.encode_key_reply(roster.Entry(name, hospital.to_bytes(roster.KEY_BYTES, "big")))
        if kind == roster.ROSTER:
            self._roster = self._roster or roster.decode_roster(request).digest
            return roster.encode_acceptance(self._roster)
        if kind in (setup.INITIAL_WEIGHTS, FINISH):
            return self._plain[kind]
        self._sums[hospital] += 1  # all hospitals get the requests for sums in the same order
        if self._last[0] != self._sums[hospital]:
            self._last = self._sums[hospital], self._join(kind, request)
        vector = self._last[1]
        return encode_masked(vector + self._mask(hospital, len(vector)))

    def _join(self, kind: str, request: RecordDict) -> Words:
        """The vector of one hospital, the same for all."""
        layout = self.layout(kind, request)
        context = context_of(self._roster, self.settings.to_run_config(), kind, request, layout)
        return layout.join(self.numbers(kind, request), context)

    def layout(self, kind: str, request: RecordDict) -> Layout:
        """The layout of a reply."""
        return self._messages.layout(kind, request)

    def numbers(self, kind: str, request: RecordDict) -> dict[str, Values]:
        """One hospital's numbers."""
        content = self._plain[kind]
        if kind == TRAIN and request.config_records[CONFIG].get(EVALUATES):
            content = RecordDict({**content, **self._plain[EVALUATE]})
        return self._messages.take_numbers(kind, content)

    def train_request(self) -> RecordDict:
        """A request of a round, which also asks for the evaluation of the round before."""
        config = ConfigRecord({EVALUATES: True, "server-round": 2})
        return RecordDict({ARRAYS: encode_arrays(default_weights()), CONFIG: config})

    def _mask(self, hospital: int, size: int) -> Words:
        """The masks of all hospitals add up to zero: each has a random number, and the last one what is left."""
        key = size.to_bytes(8, "big")
        if key not in self._masks:
            self._masks[key] = self._generator.integers(0, 2**63, self.count, dtype=np.uint64)
            self._masks[key][-1:] = -self._masks[key][:-1].sum(dtype=np.uint64, keepdims=True)
        return self._masks[key][hospital : hospital + 1]


def _run(address: str, settings: FederationSettings, big: bool, pipe: "Connection[str, str]") -> None:
    """Main function of the process: get ready, wait for `join`, reply until the server ends the run."""
    crowd = Crowd(settings, big)
    pipe.send("ready")
    try:
        pipe.recv()
        asyncio.run(_live(address, crowd))
    except (EOFError, KeyboardInterrupt, grpc.aio.AioRpcError):
        return  # the parent process or the server has ended


async def _live(address: str, crowd: Crowd) -> None:
    await asyncio.gather(*(_answer(address, crowd, hospital) for hospital in range(crowd.count)))


async def _answer(address: str, crowd: Crowd, hospital: int) -> None:
    """One hospital, from joining to the end of the run."""
    metadata = (*agreement(heart_disease()).items(), ("hospital-bin", NAMES.format(f"{hospital:04}").encode()))
    async with grpc.aio.insecure_channel(address, options=client_options()) as channel:
        stream = channel.stream_stream(METHOD)(metadata=metadata, wait_for_ready=True)
        while message := await _read(stream):
            if reply := crowd.reply(hospital, message):
                for frame in reply.frames():
                    await stream.write(frame)


async def _read(stream: Any) -> Message | None:
    """The next message; None at the end of the stream."""
    frame = await stream.read()
    if frame is grpc.aio.EOF:
        return None
    if not begins_transfer(frame):
        return decode_message(frame)
    transfer = Transfer(frame)
    while transfer.missing:
        transfer.add(await stream.read())
    return transfer.message()


def names_of(count: int) -> Sequence[str]:
    """The hospitals' names."""
    return [NAMES.format(f"{number:04}") for number in range(count)]
