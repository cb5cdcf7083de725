"""Records that are made without Flower's checks equal those of Flower's own constructors and of its own decoder."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.transport import messages
from fedhealth.transport.records import fill, read_records, with_content, write_records


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    messages.set_identity(messages.SERVER_NODE_ID)


def make_content() -> RecordDict:
    return RecordDict(
        {
            "metrics": MetricRecord({"num-examples": 7, "loss": 0.5, "most": 2**64 - 1, "counts": [1, 2], "none": []}),
            "arrays": ArrayRecord({"w": Array(np.arange(6, dtype=np.float32).reshape(2, 3)), "b": Array(np.ones(()))}),
            "config": ConfigRecord(
                {"on": True, "name": "va", "raw": b"\x00", "means": [1.5, 2.5], "names": ["a"], "flags": [True, False]}
            ),
            "empty": ArrayRecord(),
        }
    )


def test_decoded_content_equals_that_of_flower_s_own_decoder() -> None:
    message = Message(make_content(), dst_node_id=5, message_type="train")
    theirs = message_from_proto(message_to_proto(message))
    ours = messages.decode_message(messages.encode_message(message))
    assert ours.content == theirs.content == message.content
    assert list(ours.content) == list(message.content)
    assert vars(ours.metadata) == vars(theirs.metadata)
    for name, array in theirs.content.array_records["arrays"].items():
        np.testing.assert_array_equal(ours.content.array_records["arrays"][name].numpy(), array.numpy())
    assert recorddict_to_proto(ours.content) == recorddict_to_proto(message.content)


def test_a_decoded_error_equals_that_of_flower_s_own_decoder() -> None:
    asked = Message(make_content(), dst_node_id=5, message_type="train")
    message = Message(Error(code=3, reason="x"), reply_to=asked)
    ours, theirs = (
        messages.decode_message(messages.encode_message(message)),
        message_from_proto(message_to_proto(message)),
    )
    assert vars(ours.error) == vars(theirs.error)
    assert not ours.has_content()


def test_decoded_records_can_be_changed_as_others_and_are_checked_from_then_on() -> None:
    content = read_records(recorddict_to_proto(make_content()))
    content["more"] = MetricRecord({"x": 1})
    content["arrays"]["w"].data = b""
    assert content["arrays"]["w"].is_dirty
    with pytest.raises(TypeError):
        content["config"]["bad"] = object()


def test_filled_records_equal_checked_ones() -> None:
    content = make_content()
    assert fill(RecordDict(), content) == content
    assert fill(MetricRecord(), {"a": 1}) == MetricRecord({"a": 1})


numbers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.lists(st.integers(0, 9)), st.lists(st.floats()))


@given(st.dictionaries(st.text(max_size=3), numbers, max_size=3))
def test_encoded_content_is_that_of_flower_s_own_encoder(metrics: dict[str, Any]) -> None:
    content = make_content()
    content["more"] = MetricRecord(metrics)
    theirs = recorddict_to_proto(content).SerializeToString(deterministic=True)
    assert write_records(content).SerializeToString(deterministic=True) == theirs


def test_a_copy_with_other_content_leaves_the_message_as_it_is() -> None:
    message = Message(make_content(), dst_node_id=5, message_type="train")
    other = with_content(message, RecordDict())
    assert message.content == make_content()
    assert len(other.content) == 0
    assert other.metadata is message.metadata
    assert not other.has_error()


def test_a_record_or_a_value_without_a_type_is_a_value_error() -> None:
    for proto in (ProtoRecordDict(), ProtoRecordDict()):
        item = proto.items.add(key="x")
        with pytest.raises(ValueError, match="a record without a type"):
            read_records(proto)
        item.metric_record.items.add(key="y")
        with pytest.raises(ValueError, match="a value without a type"):
            read_records(proto)
