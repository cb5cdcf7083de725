"""Train replies that are here at the same time: those without a fault are checked and summed in a few NumPy calls.

The checks are those of `reply_validation` for single replies, and the results are equal. A reply that fails one, or has
another form, is left to the single way, which says what is wrong with it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fedhealth.common.array_codec import NUMPY, header_of
from fedhealth.common.fixed_point import MOST_EXAMPLES
from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.histogram import ScoreHistogram, are_possible_sums
from fedhealth.server.exact_sums import ExactSum, find_within
from fedhealth.server.participation import IncomingReplies, Roster
from fedhealth.server.records import Member
from fedhealth.server.reply_messages import ReadEvaluation, Trained
from fedhealth.transport.incoming import Incoming
from fedhealth.transport.protocol.evaluation import TESTED
from fedhealth.transport.protocol.plain_replies import PlainArray, PlainReply

MOST_TOGETHER_BYTES = 1024 * 1024
"""Bytes of the weights that are handled together, at most; those of a single reply may be more."""
BIN_TYPES = ("uint8", "uint16")
"""The types in which all counts are possible ones."""


class Expected(NamedTuple):
    """An array of the model, and the bytes before its values and of all of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    header: bytes
    num_bytes: int

    @classmethod
    def of(cls, name: str, dtype: str, shape: tuple[int, ...]) -> "Expected":
        """With the bytes of such an array."""
        header = header_of(dtype, shape)
        return cls(name, dtype, shape, header, len(header) + np.dtype(dtype).itemsize * math.prod(shape))

    def fits(self, sent: PlainArray) -> bool:
        """Whether it is such an array."""
        return (
            (sent.name, sent.dtype, sent.shape, sent.stype) == (self.name, self.dtype, self.shape, NUMPY)
            and len(sent.data) == self.num_bytes
            and sent.data.startswith(self.header)
        )


BINS = {kind: Expected.of(TESTED, kind, (2, NUM_BINS)) for kind in BIN_TYPES}


def choose_taker(
    roster: Roster,
    arrays: ArrayRecord,
    total: ExactSum | None,
    trained: IncomingReplies[Trained],
    evaluated: IncomingReplies[ReadEvaluation] | None,
) -> Callable[[list[Incoming]], list[Incoming]]:
    """The function that takes what can be taken together of a group of replies, and returns the others.

    Nothing can where there is no `total` for the weights, or where updates are clipped one by one.
    """
    if total is None or roster.policy.max_update_norm:
        return list
    return ReplyGroups(roster.members, arrays, total, trained, evaluated).take


class ReplyGroups:
    """Takes the train replies of one round in groups.

    Parameters
    ----------
    members : by node.
    arrays : the global weights.
    total : the sum to which the weights of valid replies are added.
    trained, evaluated : the replies of the round; no evaluation was asked for if `evaluated` is None.
    """

    def __init__(
        self,
        members: Mapping[int, Member],
        arrays: ArrayRecord,
        total: ExactSum,
        trained: IncomingReplies[Trained],
        evaluated: IncomingReplies[ReadEvaluation] | None,
    ) -> None:
        self._members = members
        self._total = total
        self._trained = trained
        self._evaluated = evaluated
        self._model = [Expected.of(name, array.dtype, tuple(array.shape)) for name, array in arrays.items()]
        size = sum(each.num_bytes for each in self._model)
        self._most_together = max(1, MOST_TOGETHER_BYTES // max(1, size))

    def take(self, group: Sequence[Incoming]) -> list[Incoming]:
        """Take the valid replies of usual form; returns the others, in their order."""
        usual = [reply for reply in group if reply.plain and self._fits(reply.node_id, reply.plain)]
        taken: set[Incoming] = set()
        for start in range(0, len(usual), self._most_together):
            taken |= self._take(usual[start : start + self._most_together])
        return [reply for reply in group if reply not in taken]

    def _fits(self, node: int, sent: PlainReply) -> bool:
        """Whether all is valid but the values of the arrays, which are checked together."""
        if not self._trained.awaits(node) or (sent.tested is None) != (self._evaluated is None):
            return False
        member = self._members[node]
        if member.epsilon is not None or member.validation_patients or len(sent.arrays) != len(self._model):
            return False
        num_examples, loss = sent.metrics
        return (
            num_examples == member.train_patients
            and math.isfinite(loss)
            and all(map(Expected.fits, self._model, sent.arrays))
            and (self._evaluated is None or (self._evaluated.awaits(node) and _fits_declared(sent, member)))
        )

    def _take(self, replies: Sequence[Incoming]) -> set[Incoming]:
        """Take those whose arrays are valid, too; returns them."""
        sent = [reply.plain for reply in replies if reply.plain]
        members = [self._members[reply.node_id] for reply in replies]
        patients = np.array([member.train_patients for member in members])
        if self._total.num_examples + patients.sum() >= MOST_EXAMPLES:
            return set()
        weights = {
            each.name: _stack(each, [reply.arrays[place] for reply in sent]) for place, each in enumerate(self._model)
        }
        is_valid = find_within(weights, len(replies))
        bins = _stack_bins(sent) if self._evaluated else None
        if bins is not None:
            declared = np.array([(member.test_ill, member.test_patients - member.test_ill) for member in members])
            is_valid &= np.all(bins.sum(axis=2) == declared, axis=1)
        if not is_valid.any():
            return set()
        if not is_valid.all():
            weights, patients = {name: each[is_valid] for name, each in weights.items()}, patients[is_valid]
        self._total.add_many(weights, patients)
        for place in np.flatnonzero(is_valid).tolist():
            reply, each = replies[place], sent[place]
            self._trained.accept(reply.node_id, Trained(None, None, *each.metrics))
            if self._evaluated and bins is not None and each.tested:
                histogram = ScoreHistogram(bins[place, 0], bins[place, 1], *each.tested[1:])
                self._evaluated.accept(reply.node_id, (histogram, None))
        return {reply for reply, valid in zip(replies, is_valid.tolist(), strict=True) if valid}


def _fits_declared(sent: PlainReply, member: Member) -> bool:
    """Whether the evaluation is of the declared number of patients, in the usual form."""
    return (
        sent.tested is not None
        and sent.bins is not None
        and sent.tested[0] == member.test_patients
        and sent.bins.dtype in BINS
        and BINS[sent.bins.dtype].fits(sent.bins)
        and are_possible_sums(*sent.tested)
    )


def _stack(expected: Expected, sent: Sequence[PlainArray]) -> NDArray[Any]:
    """The values of an array of several replies (num_replies, *shape), which fit."""
    rows = np.frombuffer(b"".join([each.data for each in sent]), np.uint8).reshape(len(sent), expected.num_bytes)
    return rows[:, len(expected.header) :].view(expected.dtype).reshape(len(sent), *expected.shape)


def _stack_bins(sent: Sequence[PlainReply]) -> NDArray[np.int64]:
    """Counts of ill and of healthy patients by bin (num_replies, 2, NUM_BINS)."""
    counts = np.empty((len(sent), 2, NUM_BINS), np.int64)
    for kind, expected in BINS.items():
        places = [place for place, reply in enumerate(sent) if reply.bins and reply.bins.dtype == kind]
        counts[places] = _stack(expected, [reply.bins for reply in sent if reply.bins and reply.bins.dtype == kind])
    return counts
