"""A reply as it arrived: its content is read at once, and it is the same message as ever when somebody asks for it."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedhealth.transport import messages
from fedhealth.transport.incoming import Incoming
from fedhealth.transport.messages import decode_message, encode_message
from fedhealth.transport.protocol.evaluation import EvaluateReply, Histogram
from fedhealth.transport.protocol.training import TrainReply, add_evaluation, encode_train_reply

COUNTS = np.array([3, 0, 1])


@pytest.fixture(autouse=True)
def _server_identity() -> None:
    messages.set_identity(messages.SERVER_NODE_ID)


def trained() -> RecordDict:
    return encode_train_reply(TrainReply({"w": np.array([[0.5, 2]], np.float32), "b": np.ones(1)}, 7, 0.25))


def with_test(validation: bool = False) -> RecordDict:
    histogram = Histogram(8, COUNTS, COUNTS, 1.5, 0.75)
    return add_evaluation(trained(), EvaluateReply(histogram, histogram if validation else None))


def sent(content: RecordDict, message_type: str = "train") -> bytes:
    return encode_message(Message(content, dst_node_id=5, message_type=message_type))


def test_a_train_reply_of_usual_form_is_read_without_flower_s_records() -> None:
    plain = Incoming.read(sent(trained())).plain
    assert plain is not None
    assert [(each.name, each.dtype, each.shape) for each in plain.arrays] == [
        ("w", "float32", (1, 2)),
        ("b", "float64", (1,)),
    ]
    assert [each.data for each in plain.arrays] == [each.data for each in trained()["arrays"].values()]
    assert (plain.metrics, plain.tested, plain.bins) == ((7, 0.25), None, None)


def test_so_is_its_evaluation() -> None:
    plain = Incoming.read(sent(with_test())).plain
    assert plain is not None
    assert plain.tested == (8, 1.5, 0.75)
    assert plain.bins is not None
    assert (plain.bins.name, plain.bins.data) == ("tested", with_test()["bins"]["tested"].data)


OTHERS: dict[str, RecordDict] = {
    "nothing": RecordDict(),
    "a validation set": with_test(validation=True),
    "no loss": encode_train_reply(TrainReply({}, 7, None)),
    "a config": RecordDict({**trained(), "config": ConfigRecord()}),
    "no bins": RecordDict({key: record for key, record in with_test().items() if key != "bins"}),
    "another order": RecordDict(dict(reversed(trained().items()))),
    "other kinds": RecordDict({"arrays": MetricRecord(), "metrics": ArrayRecord()}),
    "a list": RecordDict({**trained(), "metrics": MetricRecord({"num-examples": [7], "train-loss": 0.5})}),
    "another name": RecordDict({**trained(), "metrics": MetricRecord({"num-patients": 7, "train-loss": 0.5})}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_any_other_reply_is_one_of_flower_s_messages_at_once(other: str) -> None:
    assert Incoming.read(sent(OTHERS[other])).plain is None
    assert Incoming.read(sent(OTHERS[other])).message().content == OTHERS[other]


def test_a_message_of_another_type_and_an_error_are_not_plain() -> None:
    assert Incoming.read(sent(trained(), "evaluate")).plain is None
    asked = Message(trained(), dst_node_id=5, message_type="train")
    failed = Incoming.read(encode_message(Message(Error(code=3, reason="x"), reply_to=asked)))
    assert failed.plain is None
    assert failed.message().error.reason == "x"


records = st.dictionaries(
    st.sampled_from(["arrays", "metrics", "tested", "bins", "validation"]),
    st.one_of(
        st.builds(
            lambda names: ArrayRecord({name: Array(np.ones(2)) for name in names}), st.sets(st.sampled_from("wb"))
        ),
        st.dictionaries(
            st.sampled_from(["num-examples", "train-loss", "log-loss", "squared-error"]),
            st.integers(0, 9) | st.floats(0, 1),
        ).map(MetricRecord),
    ),
)


@given(records.map(RecordDict) | st.just(trained()) | st.just(with_test()))
def test_whatever_was_sent_the_message_is_that_of_the_decoder(content: Any) -> None:
    payload = sent(content)
    incoming, decoded = Incoming.read(payload), decode_message(payload)
    assert incoming.message().content == decoded.content
    assert list(incoming.message().content) == list(decoded.content)
    assert vars(incoming.message().metadata) == vars(decoded.metadata)
    metadata = decoded.metadata
    assert (incoming.node_id, incoming.reply_to, incoming.message_type) == (
        metadata.src_node_id,
        metadata.reply_to_message_id,
        metadata.message_type,
    )


def test_bytes_that_are_no_message_are_a_value_error() -> None:
    for payload in (b"", b"\xff", sent(trained())[:-3]):
        with pytest.raises(ValueError, match="not a Flower message"):
            Incoming.read(payload)
