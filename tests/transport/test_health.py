"""The standard health service on the federation's port."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fedhealth.transport.grpc.grid import GrpcGrid
from fedhealth.transport.grpc.service import ServiceGrid
from fedhealth.transport.options import client_options
from fedhealth.transport.tls.authority import issue_certificates
from fedhealth.transport.tls.identity import load_identity
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.enable_socket
SERVING = health_pb2.HealthCheckResponse.SERVING


def ask(channel: grpc.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status


@pytest.mark.parametrize("service", ["", "fedhealth.Federation"])
def test_a_run_and_a_service_between_runs_are_serving(service: str) -> None:
    for grid in (GrpcGrid({}, 1, lambda what, who: None), ServiceGrid(1, lambda what, who: None)):
        with grid.listening("127.0.0.1:0") as address, grpc.insecure_channel(address) as channel:
            assert ask(channel, service) == SERVING


def test_another_service_is_unknown() -> None:
    with (
        GrpcGrid({}, 1, lambda what, who: None).listening("127.0.0.1:0") as address,
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        ask(channel, "another")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_with_tls_a_certificate_of_the_federation_is_needed(tmp_path: Path) -> None:
    issue_certificates(tmp_path, ("cleveland",), ("localhost",), days=90, ca_days=900, force=False)
    hospital = load_identity(tmp_path / "cleveland")
    grid = GrpcGrid({}, 1, lambda what, who: None, load_identity(tmp_path / "server"))
    with grid.listening("localhost:0") as address:
        proved = grpc.ssl_channel_credentials(hospital.ca, hospital.key, hospital.cert)
        with grpc.secure_channel(address, proved, options=client_options()) as channel:
            assert ask(channel, "") == SERVING
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(hospital.ca)) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                ask(channel, "")
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
