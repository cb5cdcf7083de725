"""Invented raw files as UCI has them, and a small web server that misbehaves on request. No real patient is in them."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from fedhealth.data.sources import uci
from fedhealth.data.sources.heart import FEATURE_NAMES

# Every quirk of the real files once: decimals everywhere, ".7", a negative oldpeak, `?`, -9, chol 0, trestbps 0, two twins.
UCI_FILES = {
    "processed.cleveland.data": b"61.0,1.0,1.0,141.0,231.0,1.0,2.0,151.0,0.0,2.2,3.0,0.0,6.0,0\n"
    b"44.0,0.0,4.0,122.0,?,0.0,1.0,161.0,1.0,0.0,1.0,?,3.0,4\n",
    "processed.hungarian.data": b"33,1,2,131,211,0,2,181,0,0,?,?,?,0\n33,1,2,131,211,0,2,181,0,0,?,?,?,0\n",
    "processed.switzerland.data": b"38,1,4,112,0,?,0,121,1,.7,2,?,7,1\n41,0,3,?,0,?,0,-9,1,-1.5,1,?,?,0\n",
    "processed.va.data": b"66,1,3,0,263,1,1,111,1,3,2,2,?,3\n",
}
UCI_SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in UCI_FILES.items()}


def pin_invented_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pin the sums of the invented files instead of the real ones, and let no proxy come between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in UCI_SUMS.items():
        monkeypatch.setitem(uci.UCI_SHA256, name, value)


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write name -> content into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check_invented_uci_table(table: pd.DataFrame) -> None:
    """Compare with what stands in `UCI_FILES`, counted by hand."""
    assert table["hospital"].tolist() == ["cleveland"] * 2 + ["hungary"] * 2 + ["switzerland"] * 2 + ["va"]
    assert table["age"].tolist() == [61, 44, 33, 33, 38, 41, 66]
    assert table["num"].tolist() == [0, 4, 0, 0, 1, 0, 3]
    assert table["target"].tolist() == [0, 1, 0, 0, 1, 0, 1]
    missing = table[list(FEATURE_NAMES)].isna().sum()
    by_hand = {"trestbps": 2, "chol": 3, "fbs": 2, "thalach": 1, "slope": 2, "ca": 5, "thal": 4}
    assert missing[missing > 0].to_dict() == by_hand
    assert table.index.tolist() == list(range(7))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Give the error's text, which must be a single line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def make_zip(files: dict[str, bytes]) -> bytes:
    """Member name -> content, as a zip."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


class FaultyHandler(BaseHTTPRequestHandler):
    """Answers by path; see `answer`."""

    server: "Web"

    def do_GET(self) -> None:
        """Record the request and reply to it."""
        self.server.asked.append(self.path)
        self.answer(self.path.strip("/"))

    def answer(self, how: str) -> None:
        """Reply in the way that the path names."""
        archive = self.server.archive
        if how == "good.zip":
            self.reply(200, archive)
        elif how == "moved.zip":
            self.reply(302, b"", location="/good.zip")
        elif how == "elsewhere.zip":
            self.reply(302, b"", location="file:///etc/hostname")
        elif how == "page.zip":
            self.reply(200, b"<html>please log in</html>")
        elif how == "cut.zip":
            self.reply(200, archive[: len(archive) // 2])
        elif how == "broken-off.zip":
            self.reply(200, archive[:100], length=len(archive))
        elif how == "huge.zip":
            self.reply(200, bytes(11_000_000))
        elif how == "third-time.zip":
            self.reply(200, archive) if len(self.server.asked) >= 3 else self.reply(503, b"busy")
        elif how == "stalled.zip":
            self.reply(200, archive[:10], length=len(archive), then_wait=True)
        elif how == "dripping.zip":
            self.drip(archive)
        else:
            self.reply(404, b"no such file")

    def reply(
        self, status: int, body: bytes, length: int | None = None, location: str = "", then_wait: bool = False
    ) -> None:
        """Send a status and a body; `length` may declare another length."""
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if then_wait:
            self.server.over.wait(10)

    def drip(self, body: bytes) -> None:
        """One byte at a time: each comes in time, the whole never does."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            if self.server.over.wait(0.05):
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Keep the test's output clean."""

    def handle(self) -> None:
        """Ignore it if the client closes the connection."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True


class Web(ThreadingHTTPServer):
    """The server on a free port of the loopback, and the requests that it received."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), FaultyHandler)
        self.archive = archive
        self.asked: list[str] = []
        self.over = threading.Event()

    def url(self, how: str) -> str:
        """The URL with this kind of reply."""
        return f"http://127.0.0.1:{self.server_address[1]}/{how}"


@contextmanager
def serve(archive: bytes) -> Iterator[Web]:
    """Serve until the block ends."""
    with Web(archive) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            web.over.set()
            web.shutdown()
            thread.join()
