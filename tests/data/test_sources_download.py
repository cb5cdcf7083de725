"""The download: checked, kept, and every way to fail is one line."""

import io
import sys
import time
from pathlib import Path

import httpx
import pytest

from fedhealth.common.errors import RunError
from fedhealth.data.sources import uci
from fedhealth.data.sources.download import Patience, download, progress_bar, transfer
from tests.support.sources_fixtures import (
    UCI_FILES,
    UCI_SUMS,
    check_invented_uci_table,
    make_zip,
    one_line,
    pin_invented_sums,
    serve,
    write_files,
)

ARCHIVE = make_zip({"heart-disease.names": b"about", **UCI_FILES})
PATIENT = Patience(tries=3, timeout=20, deadline=40)
# Each differs in the one limit that its test is about, so that a busy machine cannot reach the other first.
NO_BYTE_FOR_LONG = Patience(tries=3, timeout=0.2, deadline=40)
NOT_DONE_FOR_LONG = Patience(tries=3, timeout=20, deadline=0.4)


def quiet(line: str) -> None:
    """Ignore a progress line."""


@pytest.fixture(autouse=True)
def invented_sums(monkeypatch):
    pin_invented_sums(monkeypatch)


@pytest.fixture
def web():
    with serve(ARCHIVE) as server:
        yield server


@pytest.mark.enable_socket
@pytest.mark.parametrize("how", ["good.zip", "moved.zip"])
def test_a_download_is_checked_kept_and_not_needed_again(web, tmp_path, how):
    raw_folder = tmp_path / "data" / "raw"
    check_invented_uci_table(uci.load_uci(web.url(how), raw_folder, quiet, PATIENT).table)
    assert {path.name: path.read_bytes() for path in raw_folder.iterdir()} == UCI_FILES
    asked = len(web.asked)
    again = uci.load_uci(web.url(how), raw_folder, quiet, PATIENT)
    check_invented_uci_table(again.table)
    assert len(web.asked) == asked


@pytest.mark.enable_socket
def test_a_spoilt_kept_copy_is_fetched_again(web, tmp_path):
    write_files(tmp_path, UCI_FILES | {"processed.va.data": b"spoilt"})
    check_invented_uci_table(uci.load_uci(web.url("good.zip"), tmp_path, quiet, PATIENT).table)
    assert (tmp_path / "processed.va.data").read_bytes() == UCI_FILES["processed.va.data"]


@pytest.mark.enable_socket
def test_a_server_that_fails_twice_is_asked_a_third_time_after_growing_pauses(web, tmp_path):
    pauses: list[float] = []
    source = uci.load_uci(web.url("third-time.zip"), tmp_path, quiet, PATIENT, sleep=pauses.append)
    check_invented_uci_table(source.table)
    assert pauses == [1, 2]


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("how", "fault", "num_asked"),
    [
        ("nothing.zip", "the server answered 404", 1),
        ("page.zip", "not a zip archive", 1),
        ("cut.zip", "not a zip archive", 1),
        ("huge.zip", "more than 10 MB", 1),
        ("elsewhere.zip", "unsupported protocol 'file://'", 1),
        ("broken-off.zip", "peer closed connection", 3),
    ],
)
def test_a_failed_download_is_one_line_with_address_and_fault_and_keeps_nothing(web, tmp_path, how, fault, num_asked):
    with pytest.raises(RunError) as error:
        uci.load_uci(web.url(how), tmp_path / "raw", quiet, PATIENT, sleep=lambda pause: None)
    assert one_line(error).startswith(web.url(how))
    assert fault in str(error.value)
    assert len(web.asked) == num_asked
    assert not (tmp_path / "raw").exists()


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("how", "patience", "fault"),
    [
        ("stalled.zip", NO_BYTE_FOR_LONG, "no answer within 0.2 s"),
        ("dripping.zip", NOT_DONE_FOR_LONG, "not done within 0.4 s"),
    ],
)
def test_a_transfer_that_never_ends_is_given_up_after_three_tries(web, tmp_path, how, patience, fault):
    pauses: list[float] = []
    with pytest.raises(RunError) as error:
        uci.load_uci(web.url(how), tmp_path / "raw", quiet, patience, sleep=pauses.append)
    assert fault in one_line(error)
    assert pauses == [1, 2]


@pytest.mark.enable_socket
def test_a_refused_connection_is_one_line(tmp_path):
    with serve(ARCHIVE) as web:
        url = web.url("good.zip")
    with pytest.raises(RunError, match="refused"):
        uci.load_uci(url, tmp_path, quiet, PATIENT, sleep=lambda pause: None)


@pytest.mark.enable_socket
def test_a_wrong_sum_is_an_error_that_names_the_file_and_keeps_nothing(web, tmp_path):
    web.archive = make_zip(UCI_FILES | {"processed.va.data": UCI_FILES["processed.cleveland.data"]})
    with pytest.raises(RunError) as error:
        uci.load_uci(web.url("good.zip"), tmp_path / "raw", quiet, PATIENT)
    assert "processed.va.data: sha256 is " + UCI_SUMS["processed.cleveland.data"] in one_line(error)
    assert UCI_SUMS["processed.va.data"] in str(error.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.enable_socket
def test_an_archive_of_other_files_is_refused(web, tmp_path):
    web.archive = make_zip({"iris.data": b"5.1"})
    with pytest.raises(RunError, match="without the four UCI files"):
        uci.load_uci(web.url("good.zip"), tmp_path, quiet, PATIENT)


@pytest.mark.enable_socket
def test_a_folder_that_cannot_be_written_is_only_a_warning(web, tmp_path):
    (tmp_path / "raw").write_text("a file stands in the way")
    source = uci.load_uci(web.url("good.zip"), tmp_path / "raw", quiet, PATIENT)
    check_invented_uci_table(source.table)
    assert "could not be kept" in source.warnings[0]


@pytest.mark.enable_socket
def test_a_stalled_look_up_of_a_name_ends_at_the_deadline(monkeypatch):
    def stall(*args: object, **options: object) -> None:
        time.sleep(2)
        raise OSError("name not known")

    monkeypatch.setattr("socket.getaddrinfo", stall)
    start = time.monotonic()
    with pytest.raises(RunError, match=r"not done within 0\.5 s"):
        download("http://example.invalid/x.zip", Patience(1, 20, 0.5), quiet)
    assert time.monotonic() - start < 1.5


@pytest.mark.enable_socket
@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999/", f"http://{'a' * 70}.invalid/", "http://[::1/"])
def test_an_impossible_address_is_a_fault_and_no_traceback(url):
    assert transfer(url, PATIENT, lambda num_bytes, total: None).fault


def test_a_socks_proxy_without_its_package_is_a_fault(monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")

    monkeypatch.setattr(httpx, "stream", refuse)
    assert "SOCKS" in transfer("http://127.0.0.1/", PATIENT, lambda num_bytes, total: None).fault


@pytest.mark.enable_socket
def test_progress_is_reported_in_bytes(web):
    reported: list[tuple[int, int | None]] = []
    transfer(web.url("good.zip"), PATIENT, lambda num_bytes, total: reported.append((num_bytes, total)))
    assert reported[-1] == (len(ARCHIVE), len(ARCHIVE))


@pytest.mark.enable_socket
def test_a_write_that_fails_leaves_no_half_file_behind(web, tmp_path, monkeypatch):
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    source = uci.load_uci(web.url("good.zip"), tmp_path, quiet, PATIENT)
    assert "No space left on device" in source.warnings[0]
    assert list(tmp_path.iterdir()) == []


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar("http://hospital/[heart].zip") as advance:
            advance(500, 1000)
        assert ("http://hospital/[heart].zip" in stream.getvalue()) == drawn
