"""The port of a server: gRPC's own, or that of the TLS proxy in front of it."""

from collections.abc import Mapping

import grpc

from fedhealth.common.errors import UsageError
from fedhealth.transport.grpc.callers import Callers
from fedhealth.transport.grpc.health import add_health
from fedhealth.transport.options import server_options
from fedhealth.transport.tls.identity import Identity
from fedhealth.transport.tls.proxy import LOOPBACK_HOST, TlsProxy


class Port:
    """A port in plain text (`tls` is None) or with TLS."""

    def __init__(self, tls: Identity | None, callers: Callers) -> None:
        self._tls = tls
        self._callers = callers
        self._server: grpc.aio.Server
        self._proxy: TlsProxy | None = None

    async def open(
        self, address: str, service: str, handlers: Mapping[str, grpc.RpcMethodHandler], most_calls: int
    ) -> int:
        """Open the port of HOST:PORT for these methods of the service, and return its number.

        Raises
        ------
        UsageError
            The port is in use, or the host is not this machine.
        """
        self._server = grpc.aio.server(options=server_options(), maximum_concurrent_rpcs=most_calls)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        await add_health(self._server)
        try:
            port: int = self._server.add_insecure_port(f"{LOOPBACK_HOST}:0" if self._tls else address)
            await self._server.start()
            if self._tls:
                host, _, outer_port = address.rpartition(":")
                self._proxy = TlsProxy(self._tls.server_context(), self._callers.report_refusal)
                self._callers.proxy = self._proxy
                port = await self._proxy.open(host, int(outer_port), inner_port=port)
        except (RuntimeError, OSError):
            await self._server.stop(None)
            raise UsageError(
                f"cannot listen on {address}: the port is in use or the host is not this machine; "
                "give another one with --address"
            ) from None
        return port

    def stop_listening(self) -> None:
        """Accept no more connections with TLS; those that are open continue."""
        if self._proxy:
            self._proxy.stop_listening()

    async def shut(self, grace: float) -> None:
        """Wait for the calls to end, at most so many seconds, and close everything."""
        await self._server.stop(grace)
        if self._proxy:
            await self._proxy.shut(min(grace, 1.0))
