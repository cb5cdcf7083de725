"""The live page: a small web server on its own thread that shows a run in progress.

It must never slow or stop the run: events go into a bounded queue, which the page's thread empties four times a second; it
renders only while a browser is connected. It listens on loopback only and accepts no input.
"""

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from fedhealth.common.errors import UsageError
from fedhealth.reporting.dashboard.metrics import render_metrics
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.reporting.html.pages import live_fragment, live_page

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from fedhealth.server.events import Event

MAX_QUEUED = 10_000
"""Events that can wait to be shown; further ones are dropped, so that the run never waits."""
FRAME_SECONDS = 0.25
LAST_FRAME_SECONDS = 2
"""How long the end of a run may wait for the browsers to receive the last frame."""
KEEPALIVE_SECONDS = 15.0
"""After this long without an event a comment is sent, so that a closed connection is noticed."""
LOOPBACK_HOSTS = ["127.0.0.1", "localhost"]


class Dashboard:
    """An event listener that shows a run on `http://127.0.0.1:PORT/`; port 0 takes a free one."""

    def __init__(self, port: int, name: str = "") -> None:
        self._port = port
        self._run = LiveRun(name)
        self._updates: queue.Queue[Callable[[], None]] = queue.Queue(MAX_QUEUED)
        self._ending = threading.Event()

    def begin(self, name: str) -> None:
        """Show another run from now on: the next one of a service."""

        def change() -> None:
            self._run = LiveRun(name, version=self._run.version + 1)

        self._enqueue(change)

    def show(self, event: "Event") -> None:
        """Queue an event of the run (called on the run's thread; returns at once, raises nothing)."""
        self._enqueue(lambda: self._run.on_event(event))

    def show_link(self, what: str, who: str) -> None:
        """Queue who joined, left or was refused (called on the link's thread)."""
        self._enqueue(lambda: self._run.on_link(what, who))

    def _enqueue(self, update: Callable[[], None]) -> None:
        with contextlib.suppress(queue.Full):
            self._updates.put_nowait(update)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve the page while the block runs; yields its address. Raises a `UsageError` if the port is taken."""
        import uvicorn

        with _listen(self._port) as listener:
            config = uvicorn.Config(
                self._app(), log_config=None, log_level="critical", timeout_graceful_shutdown=LAST_FRAME_SECONDS
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=_run_quietly, args=(server, listener), name="dashboard", daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
            finally:
                self._ending.set()
                server.should_exit = True
                thread.join(LAST_FRAME_SECONDS + 1)

    def _app(self) -> "Starlette":
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route

        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/events", self._events),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
            ],
            lifespan=self._updating,
            # Against DNS rebinding: another site could point a name of its own at 127.0.0.1.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)],
        )

    @contextlib.asynccontextmanager
    async def _updating(self, app: "Starlette") -> AsyncIterator[None]:
        """Apply queued updates for as long as the app lives, also while no browser is connected."""

        async def update() -> None:
            while True:
                self._apply_updates()
                await asyncio.sleep(FRAME_SECONDS)

        task = asyncio.create_task(update())
        yield
        task.cancel()

    def _apply_updates(self) -> None:
        """Apply the queued updates; skip one that fails."""
        for _ in range(self._updates.qsize()):
            with contextlib.suppress(Exception):
                self._updates.get_nowait()()

    async def _page(self, request: "Request") -> "Response":
        from starlette.responses import HTMLResponse

        self._apply_updates()
        page, policy = live_page(self._run)
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(page, headers=headers)

    async def _events(self, request: "Request") -> "Response":
        from starlette.responses import StreamingResponse

        return StreamingResponse(self._frames(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _health(self, request: "Request") -> "Response":
        """200 while the server runs: for monitoring."""
        from starlette.responses import JSONResponse

        self._apply_updates()
        return JSONResponse({"status": "ok", "run": self._run.name, "phase": self._run.phase})

    async def _metrics(self, request: "Request") -> "Response":
        """The run's numbers for Prometheus; 501 with the reason without its package."""
        from starlette.responses import PlainTextResponse, Response

        self._apply_updates()
        try:
            text, kind = render_metrics(self._run)
        except UsageError as error:
            return PlainTextResponse(str(error), status_code=501)
        return Response(text, media_type=kind)

    async def _frames(self) -> AsyncIterator[str]:
        """The page's content as server-sent events: one now, one after each change, and a last one."""
        shown, silent = -1, 0.0
        while True:
            ending = self._ending.is_set()
            self._apply_updates()
            if self._run.version != shown:
                shown, silent = self._run.version, 0.0
                yield _sse("run", live_fragment(self._run))
            elif silent >= KEEPALIVE_SECONDS:
                silent = 0.0
                yield ": keep-alive\n\n"
            if ending:
                yield _sse("end", self._run.phase)
                return
            await asyncio.sleep(FRAME_SECONDS)
            silent += FRAME_SECONDS


def _sse(event: str, text: str) -> str:
    """One server-sent event; every line of its text gets its own `data:`."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {event}\n{lines}\n"


@contextlib.contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    """A listening socket on loopback; bound here, so that a taken port is an error before the run."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()  # from here on a browser waits until the server accepts it, and is not refused
        except (OSError, OverflowError):
            raise UsageError(f"--dashboard {port}: this port is not available; give another one") from None
        yield listener


def _run_quietly(server: "uvicorn.Server", listener: socket.socket) -> None:
    """Run the web server; if it fails, the page ends and the run continues."""
    with contextlib.suppress(Exception, SystemExit):
        server.run(sockets=[listener])
