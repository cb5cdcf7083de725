"""Large messages in chunks: the same message comes out, shared weights are held once, and nothing invalid is taken."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import UsageError
from fedhealth.transport import messages, options
from fedhealth.transport.frames import (
    CHUNK_BYTES,
    CHUNKS_BYTES,
    LARGE_BYTES,
    MARK,
    Encoded,
    Transfer,
    begins_transfer,
    encode_all,
)
from fedhealth.transport.messages import encode_message
from tests.support.examples import examples

SIZES = {"empty": 0, "one": 1, "large": CHUNK_BYTES, "larger": 3 * CHUNK_BYTES // 4, "last": 7}
"""Numbers of float32 values, four bytes each."""


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    messages.set_identity(messages.SERVER_NODE_ID)


def make_content(sizes: Sequence[int] = tuple(SIZES.values())) -> RecordDict:
    arrays = {f"w{place}": Array(np.arange(size, dtype=np.float32)) for place, size in enumerate(sizes)}
    first, second = dict(list(arrays.items())[:2]), dict(list(arrays.items())[2:])
    return RecordDict(
        {
            "config": ConfigRecord({"means": [1.5], "on": True}),
            "arrays": ArrayRecord(first),
            "metrics": MetricRecord({"num-examples": 7}),
            "others": ArrayRecord(second),
        }
    )


def make_message(content: RecordDict, node: int = 5) -> Message:
    return Message(content, dst_node_id=node, message_type="train")


def frames_of(message: Message) -> list[bytes]:
    (encoded,) = encode_all([message])
    return list(encoded.frames())


def receive(frames: Sequence[bytes]) -> Message:
    head, *chunks = frames
    transfer = Transfer(head)
    for chunk in chunks:
        transfer.add(chunk)
    assert not transfer.missing
    return transfer.message()


def test_a_small_message_is_one_frame_with_the_bytes_of_the_message() -> None:
    for message in (
        make_message(make_content((3, 4))),
        Message(Error(code=3, reason="x"), reply_to=make_message(make_content())),
    ):
        (frame,) = frames_of(message)
        assert frame == encode_message(message)
        assert not begins_transfer(frame)


def test_a_large_message_comes_out_of_its_chunks_as_it_was() -> None:
    message = make_message(make_content())
    messages.set_message_id(message, "42")
    frames = frames_of(message)
    assert begins_transfer(frames[0])
    assert len(frames[0]) < 2000
    assert [len(frame) for frame in frames[1:-1]] == [CHUNK_BYTES] * (len(frames) - 2), "small arrays share a chunk"
    received = receive(frames)
    assert received.content == message.content
    assert (received.metadata.message_id, received.metadata.dst_node_id) == ("42", 5)
    assert sum(map(len, frames)) == encode_all([message])[0].size < len(encode_message(message)) + 200


@settings(deadline=None, max_examples=examples(20))
@given(cuts=st.sets(st.integers(1, 3 * CHUNK_BYTES), max_size=5))
def test_chunks_may_be_cut_anywhere(cuts: set[int]) -> None:
    message = make_message(make_content((0, 5, CHUNK_BYTES // 2, 0, CHUNK_BYTES // 4, 0)))
    head, *chunks = frames_of(message)
    body = b"".join(chunks)
    ends = [*sorted(cut for cut in cuts if cut < len(body)), len(body)]
    assert (
        receive([head, *(body[start:end] for start, end in zip([0, *ends], ends, strict=False))]).content
        == message.content
    )


def test_weights_that_many_hospitals_get_are_held_once_and_not_copied() -> None:
    shared = make_content()
    many = encode_all([make_message(shared, node) for node in range(5, 55)])
    held = {id(array) for encoded in many for array in encoded.arrays}
    assert held == {id(array.data) for key in ("arrays", "others") for array in shared[key].values()}
    assert len({id(encoded.content) for encoded in many}) == 1
    assert [receive(list(encoded.frames())).metadata.dst_node_id for encoded in many[:3]] == [5, 6, 7]


@pytest.mark.parametrize(
    ("hospitals", "chunk"), [(1, CHUNK_BYTES), (50, CHUNKS_BYTES // 50), (96, LARGE_BYTES), (1000, LARGE_BYTES)]
)
def test_chunks_for_many_hospitals_are_smaller(hospitals: int, chunk: int) -> None:
    shared = make_content()
    encoded = encode_all([make_message(shared, node) for node in range(5, 5 + hospitals)])[-1]
    frames = list(encoded.frames())
    assert [len(frame) for frame in frames[1:-1]] == [chunk] * (len(frames) - 2)
    assert receive(frames).content == shared


def test_small_content_that_many_hospitals_get_is_encoded_once() -> None:
    shared = make_content((3, 4))
    many = encode_all([make_message(shared, node) for node in range(5, 55)])
    assert len({id(encoded.content) for encoded in many}) == 1


def test_sending_takes_the_memory_of_a_chunk_and_receiving_that_of_the_message() -> None:
    size = 40 * CHUNK_BYTES
    message = make_message(RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(size // 4, np.float32))})}))
    tracemalloc.start()
    try:
        (encoded,) = encode_all([message])
        frames = encoded.frames()
        transfer = Transfer(next(frames))
        for chunk in frames:
            transfer.add(chunk)
        received = transfer.message()
        assert tracemalloc.get_traced_memory()[1] < 1.2 * size
    finally:
        tracemalloc.stop()
    assert received.content == message.content


def test_a_message_that_has_not_begun_to_come_takes_no_memory() -> None:
    head = next(Encoded(b"", b"", [bytes(40 * CHUNK_BYTES)] * 2).frames())
    tracemalloc.start()
    try:
        transfers = [Transfer(head) for _ in range(50)]
        assert tracemalloc.get_traced_memory()[1] < CHUNK_BYTES
    finally:
        tracemalloc.stop()
    assert {transfer.missing for transfer in transfers} == {80 * CHUNK_BYTES}


def test_a_message_above_the_maximum_is_one_line_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "MAX_MESSAGE_BYTES", 2 * CHUNK_BYTES)
    expected = rf"larger than the maximum \(\d+ bytes, and {2 * CHUNK_BYTES} are allowed\); use a smaller model"
    with pytest.raises(UsageError, match=expected):
        encode_all([make_message(make_content())])


# --- what a stranger may send --------------------------------------------------------------------------------------------


def test_a_message_whose_head_declares_too_much_is_refused_before_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    head, *_ = frames_of(make_message(make_content()))
    monkeypatch.setattr(options, "MAX_MESSAGE_BYTES", 2 * CHUNK_BYTES)
    with pytest.raises(ValueError, match=rf"it sent a message of \d+ bytes; the maximum is {2 * CHUNK_BYTES}"):
        Transfer(head)


@pytest.mark.parametrize("chunk", [b"", b"x" * 11])
def test_a_chunk_that_is_empty_or_too_long_is_refused(chunk: bytes) -> None:
    transfer = Transfer(next(Encoded(b"", b"", [b"0123456789"]).frames()))
    with pytest.raises(ValueError, match=rf"it sent a part of {len(chunk)} bytes where 10 were missing"):
        transfer.add(chunk)


@pytest.mark.parametrize("arrays", [[b"1"], [b"1", b"2", b"3"]])
def test_arrays_that_are_not_those_of_the_head_are_refused(arrays: list[bytes]) -> None:
    bare = RecordDict({"arrays": ArrayRecord({name: Array("float32", (), "numpy.ndarray", b"") for name in "ab"})})
    message = make_message(bare)
    content = messages.encode_content(message.content)
    with pytest.raises(ValueError, match="its arrays are not those of its head"):
        receive(list(Encoded(messages.encode_metadata(message), content, arrays).frames()))


@settings(deadline=None, max_examples=examples(200))
@given(rest=st.binary(max_size=60))
@example(b"")
@example(b"\xff" * 40)
@example(b"\x00\x00\x00\x01" + b"\xff" * 8)
@example(b"\x00\x00\x00\x00")
def test_any_head_is_a_transfer_or_a_value_error(rest: bytes) -> None:
    try:
        transfer = Transfer(MARK + rest)
    except ValueError:
        return
    with pytest.raises(ValueError, match="not a Flower message"):
        transfer.message()
