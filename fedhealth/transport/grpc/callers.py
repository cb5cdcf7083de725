"""Who calls the server, and how a caller is refused. Used only on the event loop of the gRPC link."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import grpc

from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.common.reminders import Reminder
from fedhealth.transport.grpc.admission import Caller, RefusedError, read_name
from fedhealth.transport.tls.proxy import TlsProxy

MOST_REFUSALS = 1000
"""Of how many hosts and reasons the server knows when it has reported a refusal."""


class Callers:
    """The callers of a server, in plain text or behind its TLS proxy (`proxy`); `report` is called with a refusal's text."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.proxy: TlsProxy | None = None
        self._report = report
        self._refusals = BoundedCache[tuple[str, str], Reminder](MOST_REFUSALS)

    def read(self, context: Any) -> Caller:
        """Who calls; raises a `RefusedError` if the call did not come through the TLS proxy."""
        metadata = dict(context.invocation_metadata() or ())
        peer = unquote(context.peer()).removeprefix("ipv4:").removeprefix("ipv6:")
        if self.proxy is None:
            return Caller(peer, read_name(metadata), None, metadata)
        verified = self.proxy.peer(int(peer.rpartition(":")[2]))
        if verified is None:
            # Another program on this machine found the port behind the proxy.
            raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, f"{peer} did not come through the TLS proxy")
        return Caller(verified.peer, read_name(metadata), verified.name, metadata)

    async def refuse(self, context: Any, refusal: RefusedError, peer: str = "") -> None:
        """End the call; reported, unless no run is on: then hospitals try again and again."""
        if refusal.code != grpc.StatusCode.UNAVAILABLE:
            self.report_refusal(peer, str(refusal))
        await context.abort(refusal.code, str(refusal))

    def report_refusal(self, peer: str, why: str) -> None:
        """Report a refusal; a host that tries again and again for the same reason is reported more and more rarely."""
        host = peer.rpartition(":")[0]
        if self._refusals.get((host, why), Reminder).is_due(why):
            self._report(f"{peer}: {why}" if peer else why)
