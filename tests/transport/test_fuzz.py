"""Any bytes: to the decoder, to the preflight check, and to the plain and the TLS port while a hospital is connected."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedhealth.data.sources.heart import HEART
from fedhealth.transport import messages
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.diagnosis import HELLO
from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.preflight import reply_to_check
from fedhealth.transport.messages import ProtoMessage, decode_message
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.identity import load_identity
from tests.support.examples import examples
from tests.support.grpc_federation import Federation, double, make_app
from tests.support.processes import PATIENCE

quick = settings(max_examples=examples(300), deadline=None, derandomize=True)
few = settings(
    max_examples=examples(40),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def valid_message() -> bytes:
    messages.set_identity(messages.SERVER_NODE_ID)
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.arange(4, dtype=np.float32))}),
            "metrics": MetricRecord({"num-examples": 7, "counts": [1, 2], "loss": 0.5}),
            "config": ConfigRecord({"name": "va", "on": True, "raw": b"\x00\xff", "means": [1.5]}),
        }
    )
    return messages.encode_message(Message(content, dst_node_id=5, message_type="train"))


def message_or_value_error(payload: bytes) -> None:
    try:
        assert isinstance(decode_message(payload), Message)
    except ValueError as error:
        assert str(error).startswith("not a Flower message (")  # a reason for the log, without any byte of the payload


# --- the decoder -------------------------------------------------------------------------------------------------------


@quick
@given(st.binary(max_size=400))
@example(b"")
def test_any_bytes_are_a_message_or_a_value_error(payload: bytes) -> None:
    message_or_value_error(payload)


@quick
@given(st.data())
def test_a_damaged_message_is_a_message_or_a_value_error(data: st.DataObject) -> None:
    payload = bytearray(valid_message())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip":
                payload[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del payload[at : at + data.draw(st.integers(1, 20))]
            case "insert":
                payload[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "repeat":
                payload[at:at] = payload[at : at + data.draw(st.integers(1, 60))]
        if not payload:
            break
    message_or_value_error(bytes(payload))


names = st.text(max_size=5)
values = st.sampled_from(["double", "sint64", "bool", "string", "bytes", "double_list", "uint64", "sint_list", None])


def fill(value: object, kind: str | None) -> None:
    """Any of the kinds that a record's value may have, in any record."""
    fields = {
        "double": lambda: setattr(value, "double", float("nan")),
        "sint64": lambda: setattr(value, "sint64", -(2**63)),
        "uint64": lambda: setattr(value, "uint64", 2**64 - 1),
        "bool": lambda: setattr(value, "bool", True),
        "string": lambda: setattr(value, "string", "x"),
        "bytes": lambda: setattr(value, "bytes", b"\xff"),
        "double_list": lambda: value.double_list.vals.extend([1.0]),
        "sint_list": lambda: value.sint_list.vals.extend([1]),
    }
    with suppress(AttributeError):
        fields.get(kind, lambda: None)()


@quick
@given(st.data())
def test_a_message_of_odd_parts_is_a_message_or_a_value_error(data: st.DataObject) -> None:
    """Valid protobuf with invalid content: two records of one name, values without type, wrongly declared arrays."""
    proto = ProtoMessage()
    records: ProtoRecordDict = proto.content
    for _ in range(data.draw(st.integers(0, 3))):
        item = records.items.add(key=data.draw(names))
        match data.draw(st.sampled_from(["array", "metric", "config", "nothing"])):
            case "array":
                for _ in range(data.draw(st.integers(0, 2))):
                    array = item.array_record.items.add(key=data.draw(names)).value
                    array.dtype, array.stype = data.draw(names), data.draw(st.sampled_from(["numpy.ndarray", "x"]))
                    array.shape.extend(data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
                    array.data = data.draw(st.binary(max_size=8))
            case "metric":
                item.metric_record.SetInParent()
                fill(item.metric_record.items.add(key=data.draw(names)).value, data.draw(values))
            case "config":
                item.config_record.SetInParent()
                fill(item.config_record.items.add(key=data.draw(names)).value, data.draw(values))
    if data.draw(st.booleans()):
        proto.error.code = data.draw(st.integers(-(2**63), 2**63 - 1))
    if data.draw(st.booleans()):
        proto.metadata.message_type = data.draw(names)
        proto.metadata.ttl = data.draw(st.floats())
        proto.metadata.src_node_id = data.draw(st.integers(0, 2**64 - 1))
    message_or_value_error(proto.SerializeToString())


# --- the preflight check -----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["shape", "data", "x"]), inner),
    max_leaves=8,
)


@quick
@given(st.binary(max_size=100) | st.builds(lambda arrays: json.dumps({"arrays": arrays}).encode(), json_values))
@example(b'{"arrays": [{"shape": [Infinity], "data": ""}]}')
@example(b'{"arrays": [{"shape": [-1], "data": "AAAA"}]}')
@example(b"[" * 5000)
def test_any_preflight_request_gets_a_reply_or_a_value_error(question: bytes) -> None:
    with suppress(ValueError):
        assert json.loads(reply_to_check(question, {}, None))["refusal"] is None


# --- the ports ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["plain", "tls"])
def fed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation with one connected hospital, which random bytes must not disturb."""
    server, hospital = None, None
    if request.param == "tls":
        out = tmp_path_factory.mktemp("fuzz")
        issue_certificates(out, ["va"], ["127.0.0.1"], days=365, ca_days=3650, force=False)
        server, hospital = load_identity(out / "server"), load_identity(out / "va")
    started = Federation()
    started.grid = GrpcGrid({}, 4, started._on_change, server)
    started.hospital = hospital

    def take_part() -> None:
        with join(started.address, "va", {"name": "va"}, tls=hospital) as connection:
            connection.serve(make_app(double), lambda message, reply: None, lambda error: None)

    with started.grid.listening("127.0.0.1:0") as started.address:
        started.pool.submit(take_part)
        started.wait_for("joined", "va")
        yield started
    started.pool.shutdown(wait=True)


def goes_on(fed: Federation) -> None:
    assert fed.grid.get_node_ids() == (messages.node_id_of("va"),)
    assert not fed.ask(fed.grid.get_node_ids())[0].has_error()
    assert [what for what, who in fed.changes if who == "va"] == ["joined"]


TLS_HELLO = bytes.fromhex("160301 0005 01 000001 00")
noise = st.binary(min_size=1, max_size=300)
beginnings = st.sampled_from([b"", HELLO, HELLO[:10], TLS_HELLO, b"\x16\x03\x01\x40\x00", b"GET / HTTP/1.1\r\n\r\n"])


@pytest.mark.enable_socket
@few
@given(beginning=beginnings, payload=noise)
def test_noise_at_the_port_disturbs_nobody(fed: Federation, beginning: bytes, payload: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(fed.address.rpartition(":")[2]))) as sock:
        sock.settimeout(PATIENCE)
        with suppress(ConnectionError):
            sock.sendall(beginning + payload)
    goes_on(fed)


@pytest.mark.enable_socket
@pytest.mark.parametrize("fed", ["tls"], indirect=True)
@few
@given(payload=noise)
def test_noise_behind_a_good_certificate_disturbs_nobody(fed: Federation, payload: bytes) -> None:
    address = ("127.0.0.1", int(fed.address.rpartition(":")[2]))
    with (
        socket.create_connection(address, timeout=PATIENCE) as sock,
        fed.hospital.client_context().wrap_socket(sock, server_hostname="127.0.0.1") as stream,
        suppress(ConnectionError),
    ):
        stream.sendall(HELLO + payload)
    goes_on(fed)


REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,  # another protocol
    grpc.StatusCode.PERMISSION_DENIED,  # not the certificate's name
    grpc.StatusCode.INVALID_ARGUMENT,  # no name, or (without TLS) in, and then no message
}


@pytest.mark.enable_socket
@few
@given(name=st.binary(max_size=120), payload=noise, protocol=st.text("0123abc", max_size=3))
def test_odd_calls_are_refused_and_disturb_nobody(fed: Federation, name: bytes, payload: bytes, protocol: str) -> None:
    tls = fed.hospital
    metadata = [*{**messages.agreement(HEART), "protocol": protocol}.items(), ("hospital-bin", name)]
    channel = (
        grpc.secure_channel(fed.address, grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert))
        if tls
        else grpc.insecure_channel(fed.address)
    )
    with channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(messages.METHOD)(iter([payload]), metadata=metadata))
    assert caught.value.code() in REFUSALS
    goes_on(fed)
