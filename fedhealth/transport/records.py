"""Flower's records without Flower's check of each key and value, which takes longer than all else that decodes a message.

Only for values whose types are known: protobuf has checked them, or they come from other records. Written for flwr 1.42;
`tests/transport/test_records.py` fails if what it relies on changes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import config_record_to_proto, metric_record_to_proto
from flwr.proto.recorddict_pb2 import Array as ProtoArray
from flwr.proto.recorddict_pb2 import ArrayRecord as ProtoArrayRecord
from flwr.proto.recorddict_pb2 import MetricRecord as ProtoMetricRecord
from flwr.proto.recorddict_pb2 import MetricRecordValue as ProtoNumber
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from fedhealth.common.array_codec import fill_array

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


def write_records(content: RecordDict) -> ProtoRecordDict:
    """The content in protobuf's form, the same as Flower makes."""
    return ProtoRecordDict(items=[_write_record(key, record) for key, record in content.items()])


def _write_record(key: str, record: Record) -> Any:
    if isinstance(record, ArrayRecord):
        arrays = [
            ProtoArrayRecord.Item(
                key=name, value=ProtoArray(dtype=each.dtype, shape=each.shape, stype=each.stype, data=each.data)
            )
            for name, each in record.items()
        ]
        return ProtoRecordDict.Item(key=key, array_record=ProtoArrayRecord(items=arrays))
    if isinstance(record, MetricRecord) and all(map(_is_single_number, record.values())):
        numbers = [ProtoMetricRecord.Item(key=name, value=_write_number(value)) for name, value in record.items()]
        return ProtoRecordDict.Item(key=key, metric_record=ProtoMetricRecord(items=numbers))
    if isinstance(record, MetricRecord):
        return ProtoRecordDict.Item(key=key, metric_record=metric_record_to_proto(record))
    return ProtoRecordDict.Item(key=key, config_record=config_record_to_proto(record))


def _write_number(value: Any) -> ProtoNumber:
    return ProtoNumber(double=value) if type(value) is float else ProtoNumber(sint64=value)


def _is_single_number(value: object) -> bool:
    """Whether it is a float or an int of 64 bits with a sign."""
    return type(value) is float or (type(value) is int and -(2**63) <= value < 2**63)


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
    return fill_array(proto.dtype, tuple(proto.shape), proto.stype, proto.data)


def _read_value(proto: Any) -> Any:
    if (kind := proto.WhichOneof("value")) is None:
        raise ValueError("a value without a type")
    value = getattr(proto, kind)
    return list(value.vals) if kind.endswith("list") else value
