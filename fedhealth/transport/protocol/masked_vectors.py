"""Vectors of secure aggregation: the numbers of a reply as words modulo 2^64, and the record that carries them masked.

A vector starts with 1, so that the sum has the number of hospitals there, and with a number that only replies to the same
request share. Then come the numbers of the reply: counts as they are, weights and real numbers as in
`common.fixed_point`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from flwr.app import ArrayRecord, RecordDict
from numpy.typing import NDArray

from fedhealth.common import fixed_point
from fedhealth.common.array_codec import make_array, read_array
from fedhealth.common.fixed_point import REAL_WORDS
from fedhealth.common.pairwise_masks import Words, digest, join_parts
from fedhealth.transport.protocol.fields import UNREADABLE, take_records

MASKED, WORDS = "masked", "words"
PREFIX = 2
"""Words before the reply's own."""
Kind = Literal["count", "weight", "real"]
Values = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """A part of a vector: so many numbers of one kind."""

    name: str
    kind: Kind
    size: int

    @property
    def num_words(self) -> int:
        """Its number of words."""
        return self.size * (REAL_WORDS if self.kind == "real" else 1)


@dataclass(frozen=True)
class Layout:
    """The parts of the vector of one message, in order."""

    parts: tuple[Part, ...]

    @cached_property
    def num_words(self) -> int:
        """The number of words of the vector."""
        return PREFIX + sum(part.num_words for part in self.parts)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of names, kinds and sizes."""
        return digest(*(f"{part.name} {part.kind} {part.size}".encode() for part in self.parts))

    def join(self, values: Mapping[str, Values], context: bytes) -> Words:
        """The vector of one hospital's numbers by part.

        Raises
        ------
        ValueError
            A part is missing or has another size, or a number is too large.
        """
        words = [np.array([1, check_word(context)], np.uint64)]
        for part in self.parts:
            numbers = values.get(part.name)
            if numbers is None or np.size(numbers) != part.size:
                raise ValueError(f"its {part.name} are not {part.size} numbers")
            flat = np.ravel(numbers)
            if part.kind == "real":
                words.append(fixed_point.split_reals(flat).ravel())
            else:
                words.append(np.ascontiguousarray(flat, np.int64).view(np.uint64))
        return np.concatenate(words)

    def join_nothing(self, pad: Words) -> Words:
        """The vector of a hospital that cannot compute its numbers: it counts as none, and `pad` makes the sum random."""
        return np.concatenate([np.zeros(PREFIX, np.uint64), pad[PREFIX:]])

    def split(self, total: Words, context: bytes, num_hospitals: int) -> dict[str, Values]:
        """The summed numbers by part: int64 for counts and weights, float64 for real numbers.

        Raises
        ------
        ValueError
            The vectors were not replies to the same request by so many hospitals, or one of them has no numbers, so the sum
            means nothing.
        """
        replied = int(total[0])
        expected = np.array([1, check_word(context)], np.uint64) * total[:1]
        if len(total) != self.num_words or replied > num_hospitals or not np.array_equal(total[:PREFIX], expected):
            raise ValueError("the masks do not cancel: a hospital was asked something else, or sent something else")
        if replied < num_hospitals:
            failed = f"{num_hospitals - replied} of the {num_hospitals} hospitals"
            raise ValueError(f"{failed} cannot compute it; only their own clients print why")
        values, start = dict[str, Values](), PREFIX
        for part in self.parts:
            words = total[start : start + part.num_words]
            start += part.num_words
            if part.kind == "real":
                values[part.name] = np.array(fixed_point.join_reals(words.reshape(-1, REAL_WORDS)))
            else:
                values[part.name] = words.view(np.int64)
        return values


def check_word(context: bytes) -> np.uint64:
    """The second word of a vector under this context."""
    return np.uint64(int.from_bytes(hashlib.sha256(join_parts(b"check", context)).digest()[:8], "big"))


def context_of(roster: bytes, run_config: Mapping[str, Any], kind: str, request: RecordDict, layout: Layout) -> bytes:
    """What a sum is about: the roster, the settings, the whole request, and the vector's layout.

    A hospital that was asked anything else has another context, so that its masks do not cancel.
    """
    told = json.dumps(dict(run_config), sort_keys=True).encode()
    return digest(roster, told, kind.encode(), digest_content(request), layout.digest)


def digest_content(content: RecordDict) -> bytes:
    """SHA-256 of a message's content, the same before and after its transport."""
    parts = []
    for key in sorted(content):
        record = content[key]
        parts += [type(record).__name__.encode(), key.encode()]
        if isinstance(record, ArrayRecord):
            for name, array in record.items():
                parts += [json.dumps([name, array.dtype, list(array.shape), array.stype]).encode(), array.data]
        else:
            parts.append(json.dumps(dict(record), sort_keys=True, default=lambda value: {"hex": value.hex()}).encode())
    return digest(*parts)


def encode_masked(words: Words) -> RecordDict:
    """The reply of one hospital."""
    return RecordDict({MASKED: ArrayRecord({WORDS: make_array(words)})})


def decode_masked(content: RecordDict, layout: Layout) -> Words:
    """The words of one hospital, read-only."""
    (record,) = take_records(content, {MASKED: ArrayRecord})
    try:
        words = read_array(record[WORDS])
    except UNREADABLE:
        raise ValueError("its masked numbers cannot be read") from None
    if len(record) != 1 or words.dtype != np.uint64 or words.shape != (layout.num_words,):
        raise ValueError(f"it must send exactly {layout.num_words} masked numbers")
    return words
