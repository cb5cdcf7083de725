"""Train replies of the usual form, read from protobuf at once: a server of a thousand hospitals gets nothing else.

Such a reply has weights, a number of patients and a loss, and perhaps the histogram of the test patients; every other
reply is decoded by `training.py` and `evaluation.py`, which also say what is wrong with an invalid one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fedhealth.transport.protocol.evaluation import BINS, LOG_LOSS, SQUARED_ERROR, TESTED
from fedhealth.transport.protocol.fields import ARRAYS, METRICS, NUM_EXAMPLES
from fedhealth.transport.protocol.training import TRAIN_LOSS

TRAINED = (ARRAYS, METRICS)
TRAINED_AND_TESTED = (*TRAINED, TESTED, BINS)
KINDS = {ARRAYS: "array_record", METRICS: "metric_record", TESTED: "metric_record", BINS: "array_record"}
NUMBERS = {
    METRICS: [(NUM_EXAMPLES, "sint64"), (TRAIN_LOSS, "double")],
    TESTED: [(NUM_EXAMPLES, "sint64"), (LOG_LOSS, "double"), (SQUARED_ERROR, "double")],
}
"""The names and kinds of the values of a record of numbers."""


class PlainArray(NamedTuple):
    """An array as it was sent: name, type, shape, Flower's serialisation type and bytes. Nothing is checked."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: bytes


class PlainReply(NamedTuple):
    """A train reply; nothing but the names and kinds of its records is checked.

    Attributes
    ----------
    metrics : number of patients and training loss.
    tested : number of test patients, sum of log loss and of squared error; None if nothing was evaluated.
    bins : the histogram of the test patients.
    """

    arrays: Sequence[PlainArray]
    metrics: tuple[int, float]
    tested: tuple[int, float, float] | None = None
    bins: PlainArray | None = None


def read_plain(content: Any) -> PlainReply | None:
    """The reply in the protobuf content of a message; None if it is of another form."""
    records = {item.key: item for item in content.items}
    if tuple(records) not in (TRAINED, TRAINED_AND_TESTED) or len(records) != len(content.items):
        return None
    if any(item.WhichOneof("value") != KINDS[key] for key, item in records.items()):
        return None
    metrics = _read_numbers(METRICS, records[METRICS])
    if TESTED not in records:
        return metrics and PlainReply(_read_arrays(records[ARRAYS]), metrics)
    tested, bins = _read_numbers(TESTED, records[TESTED]), _read_arrays(records[BINS])
    if metrics is None or tested is None or [array.name for array in bins] != [TESTED]:
        return None
    return PlainReply(_read_arrays(records[ARRAYS]), metrics, tested, bins[0])


def _read_numbers(key: str, record: Any) -> Any:
    """The values of a record of numbers; None if it has others."""
    items, wanted = record.metric_record.items, NUMBERS[key]
    if [(item.key, item.value.WhichOneof("value")) for item in items] != wanted:
        return None
    return tuple(getattr(item.value, kind) for item, (_, kind) in zip(items, wanted, strict=True))


def _read_arrays(record: Any) -> list[PlainArray]:
    return [
        PlainArray(item.key, value.dtype, tuple(value.shape), value.stype, value.data)
        for item in record.array_record.items
        for value in (item.value,)
    ]
