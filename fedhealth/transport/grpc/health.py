"""The standard health service (grpc.health.v1) on the federation's port, for load balancers and monitoring.

Source: gRPC Health Checking Protocol, https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICES = ("", "fedhealth.Federation")
"""The server as a whole, and the service that hospitals join."""


async def add_health(server: Any) -> None:
    """Add the health service to a `grpc.aio` server that has not started; it reports SERVING as long as the server runs."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service in SERVICES:
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
