"""A message as frames of a stream: a small one is one frame, a large one is a head and the bytes of its arrays in chunks.

So neither end holds a large message more than once: the sender cuts each chunk out of the arrays when it is sent, and the
receiver puts the chunks together to the arrays themselves.

A head is the byte `MARK`, the number of arrays and the length of each (big-endian), and the encoded message without the
bytes of its arrays.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from flwr.app import Array, ArrayRecord, Message, RecordDict

from fedhealth.common.array_codec import fill_array
from fedhealth.common.errors import UsageError
from fedhealth.transport import options
from fedhealth.transport.messages import decode_message, encode_content, encode_error, encode_metadata
from fedhealth.transport.records import fill

LARGE_BYTES = 128 * 1024
"""A message with larger arrays is sent in chunks, of this size or more."""
CHUNK_BYTES = 256 * 1024
"""The largest chunk that is sent; a receiver takes any. Larger ones cost less CPU, and gRPC holds one of each stream."""
CHUNKS_BYTES = 12 * 1024 * 1024
"""One chunk of each of the messages that are sent together has at most this size, unless they are more than 96."""
MARK = b"\x00"
"""The first byte of a head; no protobuf message begins with it, since no field has the number 0."""
COUNT, LENGTH = struct.Struct(">I"), struct.Struct(">Q")
Body = tuple[bytes, Sequence[bytes]]
"""The content of a message and the bytes of its arrays; see `Encoded`."""


@dataclass(frozen=True)
class Encoded:
    """A message to be sent: metadata and content, and the bytes of its arrays if they are not in the content."""

    metadata: bytes
    content: bytes
    arrays: Sequence[bytes] = ()
    chunk_bytes: int = CHUNK_BYTES

    @property
    def size(self) -> int:
        """Bytes of all frames together."""
        return sum(map(len, (self._head(), *self.arrays)))

    def frames(self) -> Iterator[bytes]:
        """The frames, each made when it is needed."""
        yield self._head()
        yield from _cut(self.arrays, self.chunk_bytes)

    def _head(self) -> bytes:
        lengths = [LENGTH.pack(len(array)) for array in self.arrays]
        mark = [MARK, COUNT.pack(len(lengths))] if lengths else []
        return b"".join((*mark, *lengths, self.metadata, self.content))


def encode_all(messages: Iterable[Message]) -> list[Encoded]:
    """Messages to be sent; content that several of them share (the global weights) is encoded and held once.

    The concatenation of two encoded protobuf messages is the encoding of both merged (protobuf, "Encoding", section
    "Last One Wins"), so metadata and content are encoded separately.

    Raises what `encode_body` raises.
    """
    together = list(messages)
    chunk_bytes = max(LARGE_BYTES, min(CHUNK_BYTES, CHUNKS_BYTES // max(1, len(together))))
    contents: dict[int, Body] = {}
    encoded = []
    for message in together:
        if message.has_error():
            encoded.append(Encoded(encode_metadata(message), encode_error(message.error)))
            continue
        key = id(message.content)
        if key not in contents:
            contents[key] = encode_body(message.content)
        encoded.append(Encoded(encode_metadata(message), *contents[key], chunk_bytes))
    return encoded


def encode_body(content: RecordDict) -> Body:
    """The encoded content, and the bytes of its arrays if they are large (else none; they are in the content).

    Raises
    ------
    UsageError
        It is longer than `options.MAX_MESSAGE_BYTES`.
    """
    arrays = [array.data for array in _arrays_of(content)]
    is_large = sum(map(len, arrays)) > LARGE_BYTES
    body = (encode_content(_without_bytes(content)), arrays) if is_large else (encode_content(content), ())
    if (size := Encoded(b"", *body).size) > options.MAX_MESSAGE_BYTES:
        limit = f"{size} bytes, and {options.MAX_MESSAGE_BYTES} are allowed"
        raise UsageError(f"a message is larger than the maximum ({limit}); use a smaller model")
    return body


def _arrays_of(content: RecordDict) -> list[Array]:
    return [array for record in content.values() if isinstance(record, ArrayRecord) for array in record.values()]


def _without_bytes(content: RecordDict) -> RecordDict:
    """A copy of the content whose arrays have no bytes."""
    return RecordDict(
        {
            key: fill(
                ArrayRecord(),
                {name: fill_array(each.dtype, each.shape, each.stype, b"") for name, each in record.items()},
            )
            if isinstance(record, ArrayRecord)
            else record
            for key, record in content.items()
        }
    )


def _cut(arrays: Sequence[bytes], chunk_bytes: int) -> Iterator[bytes]:
    """The bytes of all arrays in a row, in chunks."""
    parts: list[memoryview] = []
    room = chunk_bytes
    for array in arrays:
        left = memoryview(array)
        while left:
            parts.append(left[:room])
            left, room = left[room:], room - len(parts[-1])
            if not room:
                yield b"".join(parts)
                parts, room = [], chunk_bytes
    if parts:
        yield b"".join(parts)


# --- receiving ---------------------------------------------------------------------------------------------------------


def begins_transfer(frame: bytes) -> bool:
    """Whether more frames of the same message follow this one."""
    return frame.startswith(MARK)


class Transfer:
    """A large message of which chunk after chunk arrives.

    Attributes
    ----------
    size : bytes of the whole message, as its head declares it.
    missing : bytes of the chunks to come.

    Raises
    ------
    ValueError
        From the constructor and the methods: the head is invalid, the message too long, or a chunk too long or empty.
    """

    def __init__(self, head: bytes) -> None:
        self._lengths, self._message = read_head(head)
        self.missing = sum(self._lengths)
        self.size = len(head) + self.missing
        if self.size > options.MAX_MESSAGE_BYTES:
            raise ValueError(f"it sent a message of {self.size} bytes; the maximum is {options.MAX_MESSAGE_BYTES}")
        self._arrays: list[bytes] = []
        self._array: BytesIO | None = None
        self._room = 0
        self._begin_array()

    def add(self, chunk: bytes) -> None:
        """Add the next chunk."""
        if not 0 < len(chunk) <= self.missing:
            raise ValueError(f"it sent a part of {len(chunk)} bytes where {self.missing} were missing")
        self.missing -= len(chunk)
        left = memoryview(chunk)
        while left:
            if self._array is None:  # not before its first chunk, since a transfer may wait for a long time
                self._array = BytesIO(bytes(self._room))
            part = left[: self._room]
            self._array.write(part)
            left, self._room = left[len(part) :], self._room - len(part)
            if not self._room:
                self._arrays.append(self._array.getvalue())
                self._begin_array()

    def message(self) -> Message:
        """The message, when no chunk is missing."""
        message = decode_message(self._message)
        arrays = _arrays_of(message.content) if message.has_content() else []
        if len(arrays) != len(self._arrays) or any(array.data for array in arrays):
            raise ValueError("not a Flower message (its arrays are not those of its head)")
        for array, received in zip(arrays, self._arrays, strict=True):
            array.data = received
        return message

    def _begin_array(self) -> None:
        """Begin the next array that has bytes.

        A `BytesIO` writes into bytes that nobody else has, and gives them away without a copy. Zeros are memory only when
        they are written to. An array that grew from chunk to chunk would lie between them, and its memory would not go back
        to the system.
        """
        self._array = None
        while len(self._arrays) < len(self._lengths):
            self._room = self._lengths[len(self._arrays)]
            if self._room:
                return
            self._arrays.append(b"")


def read_head(head: bytes) -> tuple[list[int], bytes]:
    """The length of each array, and the encoded message without them; raises a `ValueError` if the head is cut off."""
    try:
        (count,) = COUNT.unpack_from(head, len(MARK))
        start = len(MARK) + COUNT.size
        end = start + count * LENGTH.size
        if end > len(head):
            raise ValueError("it ends too early")
        return [length for (length,) in LENGTH.iter_unpack(head[start:end])], head[end:]
    except (struct.error, ValueError):
        raise ValueError("not a Flower message (its head is cut off)") from None
