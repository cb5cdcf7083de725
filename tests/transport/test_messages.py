"""The flwr internals that the gRPC link uses: these tests fail if one of them changes."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.common.errors import RunError
from fedhealth.transport import messages
from fedhealth.transport.messages import decode_message, encode_message, node_id_of


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    messages.set_identity(messages.SERVER_NODE_ID)


def make_content() -> RecordDict:
    weights = ArrayRecord({"hidden/kernel": Array(np.arange(6, dtype=np.float32).reshape(2, 3))})
    metrics = MetricRecord({"num-examples": 7, "positives": [1, 2], "loss": 0.5})
    return RecordDict(
        {"arrays": weights, "metrics": metrics, "config": ConfigRecord({"means": [1.5, 2.5], "on": True})}
    )


def test_a_message_is_decoded_as_it_was_encoded() -> None:
    message = Message(make_content(), dst_node_id=5, message_type="train")
    messages.set_message_id(message, "42")
    received = decode_message(encode_message(message))
    assert received.metadata.message_id == "42"
    assert (received.metadata.src_node_id, received.metadata.dst_node_id) == (messages.SERVER_NODE_ID, 5)
    assert received.metadata.message_type == "train"
    np.testing.assert_array_equal(
        received.content.array_records["arrays"]["hidden/kernel"].numpy(), [[0, 1, 2], [3, 4, 5]]
    )
    assert dict(received.content.metric_records["metrics"]) == {"num-examples": 7, "positives": [1, 2], "loss": 0.5}
    assert dict(received.content.config_records["config"]) == {"means": [1.5, 2.5], "on": True}


def test_a_reply_refers_to_its_message() -> None:
    asked = Message(make_content(), dst_node_id=5, message_type="train")
    messages.set_message_id(asked, "9")
    reply = decode_message(encode_message(Message(RecordDict(), reply_to=asked)))
    assert reply.metadata.reply_to_message_id == "9"
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (5, messages.SERVER_NODE_ID)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_a_value_error(payload: bytes) -> None:
    try:
        decode_message(payload)
    except ValueError as error:
        assert "not a Flower message" in str(error)


def test_node_ids_are_stable_distinct_and_fit_flowers_numbers() -> None:
    assert node_id_of("cleveland") == node_id_of("cleveland")
    ids = {node_id_of(f"hospital {i}") for i in range(10_000)}
    assert len(ids) == 10_000
    assert all(messages.SERVER_NODE_ID < node < 2**63 for node in ids)


def test_a_failed_app_sends_the_errors_type_and_never_its_text() -> None:
    asked = Message(make_content(), dst_node_id=5, message_type="train")
    secret = ValueError("row 3: age is 71")
    assert messages.failure_reply(asked, secret).error.reason == "ValueError"
    assert messages.failure_reply(asked, RunError("training diverged")).error.reason == "training diverged"
