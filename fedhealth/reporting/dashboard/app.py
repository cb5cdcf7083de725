"""The live page: a small web server on a thread of its own that shows a run while it is on.

It must never slow or stop the run: what happens is put into a bounded queue and forgotten. Four times a second the page's own
thread takes it from there, and draws only if somebody looks. Only this machine may look, and a page can be asked for but
nothing can be told to it.
"""

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from fedhealth.common.errors import UsageError
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.reporting.html.pages import live_fragment, live_page

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from fedhealth.server.events import Event

MOST_WAITING = 10_000
"""Events that wait to be shown; more are dropped, for the run goes first."""
FRAME_SECONDS = 0.25
LAST_FRAME_SECONDS = 2
"""How long the end of a run may wait for the last frame to reach those who look."""
SILENCE_SECONDS = 15.0
"""After so long without news a comment is sent, by which a dead viewer is found out."""
LOOPBACK_HOSTS = ["127.0.0.1", "localhost"]


class Dashboard:
    """A listener of a run that shows it on `http://127.0.0.1:PORT/`; port 0 takes a free one."""

    def __init__(self, port: int, name: str = "") -> None:
        self._port = port
        self._run = LiveRun(name)
        self._heard: queue.Queue[Callable[[], None]] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()

    def show(self, event: "Event") -> None:
        """Hear an event of the run (on the run's thread: returns at once, raises nothing)."""
        self._remember(lambda: self._run.hear(event))

    def show_link(self, what: str, who: str) -> None:
        """Hear who joined, left or was refused (on the link's thread)."""
        self._remember(lambda: self._run.hear_link(what, who))

    def _remember(self, news: Callable[[], None]) -> None:
        with contextlib.suppress(queue.Full):
            self._heard.put_nowait(news)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve while the block runs; yields the page's address. A `UsageError` if the port is taken."""
        import uvicorn

        with _listen(self._port) as door:
            config = uvicorn.Config(
                self._app(), log_config=None, log_level="critical", timeout_graceful_shutdown=LAST_FRAME_SECONDS
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=_run_quietly, args=(server, door), name="dashboard", daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{door.getsockname()[1]}/"
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
            routes=[Route("/", self._page), Route("/events", self._events)],
            lifespan=self._keeping_up,
            # Another site's page could otherwise reach this one by a name that it points at 127.0.0.1.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)],
        )

    @contextlib.asynccontextmanager
    async def _keeping_up(self, app: "Starlette") -> AsyncIterator[None]:
        """Take in what is heard, also while nobody looks."""

        async def keep_up() -> None:
            while True:
                self._catch_up()
                await asyncio.sleep(FRAME_SECONDS)

        task = asyncio.create_task(keep_up())
        yield
        task.cancel()

    def _catch_up(self) -> None:
        """Take in what was heard; one thing that makes no sense is left out."""
        for _ in range(self._heard.qsize()):
            with contextlib.suppress(Exception):
                self._heard.get_nowait()()

    async def _page(self, request: "Request") -> "Response":
        from starlette.responses import HTMLResponse

        self._catch_up()
        page, policy = live_page(self._run)
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(page, headers=headers)

    async def _events(self, request: "Request") -> "Response":
        from starlette.responses import StreamingResponse

        return StreamingResponse(self._frames(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _frames(self) -> AsyncIterator[str]:
        """The page's inside as server-sent events: one now, one whenever something happened, and a last one."""
        shown, silent = -1, 0.0
        while True:
            ending = self._ending.is_set()
            self._catch_up()
            if self._run.version != shown:
                shown, silent = self._run.version, 0.0
                yield _sse("run", live_fragment(self._run))
            elif silent >= SILENCE_SECONDS:
                silent = 0.0
                yield ": nothing new\n\n"
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
    """A socket on loopback, taken now and not when it is too late to say so."""
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
            door.listen()  # from here on a viewer waits, and is not refused, until the server takes him in
        except (OSError, OverflowError):
            raise UsageError(f"--dashboard {port}: this port cannot be had; give another one") from None
        yield door


def _run_quietly(server: "uvicorn.Server", door: socket.socket) -> None:
    """A live page that fails ends; the run does not notice."""
    with contextlib.suppress(Exception, SystemExit):
        server.run(sockets=[door])
