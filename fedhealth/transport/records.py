"""Flower's records without Flower's check of each key and value, which takes longer than all else that decodes a message.

Only for values whose types are known: protobuf has checked them, or they come from other records. Written for flwr 1.42;
`tests/transport/test_records.py` fails if what it relies on changes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.recorddict_pb2 import Array as ProtoArray
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

Record = ArrayRecord | ConfigRecord | MetricRecord
R = TypeVar("R", ArrayRecord, ConfigRecord, MetricRecord, RecordDict)


def fill(record: R, values: Iterable[tuple[str, Any]] | Mapping[str, Any]) -> R:
    """The empty record with these values, which are not checked."""
    record.__dict__["_data"].update(values)
    return record


def with_content(message: Message, content: RecordDict) -> Message:
    """A copy of a message with other content."""
    other = Message.__new__(Message)
    other.__dict__.update(message.__dict__)
    other.content = content
    return other


def read_records(proto: ProtoRecordDict) -> RecordDict:
    """The content of an encoded message, in its order; raises a `ValueError` for a value or record without a type."""
    return fill(RecordDict(), [(item.key, _read_record(item)) for item in proto.items])


def _read_record(item: Any) -> Record:
    match item.WhichOneof("value"):
        case "array_record":
            return fill(ArrayRecord(), [(each.key, _read_array(each.value)) for each in item.array_record.items])
        case "metric_record":
            return fill(MetricRecord(), [(each.key, _read_value(each.value)) for each in item.metric_record.items])
        case "config_record":
            return fill(ConfigRecord(), [(each.key, _read_value(each.value)) for each in item.config_record.items])
    raise ValueError("a record without a type")


def _read_array(proto: ProtoArray) -> Array:
    array = Array.__new__(Array)
    array.__dict__.update(dtype=proto.dtype, shape=tuple(proto.shape), stype=proto.stype, data=proto.data)
    return array


def _read_value(proto: Any) -> Any:
    if (kind := proto.WhichOneof("value")) is None:
        raise ValueError("a value without a type")
    value = getattr(proto, kind)
    return list(value.vals) if kind.endswith("list") else value
