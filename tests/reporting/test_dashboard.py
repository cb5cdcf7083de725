"""The live page: what it knows, what it shows to whom, and that the run does not notice it."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from fedhealth.common.errors import UsageError
from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import reference_standardisation
from fedhealth.reporting.dashboard.app import MOST_WAITING, Dashboard, _listen
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.server.events import RunFinished, RunStarted, Waiting
from tests.support.processes import PATIENCE
from tests.support.run_folders import NAMES, make_histograms, make_members, make_record, make_weights

SETTINGS = FederationSettings(hospitals=4, rounds=3)
BEGAN = RunStarted(SETTINGS, make_members(), "synthetic")


def make_finished() -> RunFinished:
    rounds = [make_record(number) for number in (1, 2, 3)]
    standardisation = reference_standardisation()
    weights, histograms = make_weights(SETTINGS), make_histograms(3)
    return RunFinished(SETTINGS, make_members(), "synthetic", weights, standardisation, rounds, 1.5, histograms)


# --- what is known ----------------------------------------------------------------------------------------------------


def test_a_hospital_is_here_working_late_gone_and_done() -> None:
    run = LiveRun("")
    run.hear(Waiting(0, 4, 60.0))
    for name in NAMES:
        run.hear_link("joined", name)
    assert run.states() == [(name, "here", "") for name in sorted(NAMES)]
    run.hear_link("left", "va")
    assert run.states()[-1] == ("va", "gone", "")
    run.hear_link("joined", "va")
    run.hear(BEGAN)
    assert {state for _, state, _ in run.states()} == {"working"}
    run.hear(make_record(1, left_out={"hungary": "no answer in time"}))
    assert run.states()[1] == ("hungary", "late", "no answer in time")
    run.hear_link("left", "hungary")
    assert run.states()[1] == ("hungary", "gone", "no answer in time")
    run.hear(make_finished())
    assert run.states()[0] == ("cleveland", "done", "")


def test_only_the_last_refusals_are_kept() -> None:
    run = LiveRun("")
    for number in range(20):
        run.hear_link("refused", f"stranger {number}")
    assert run.refused == [f"stranger {number}" for number in range(15, 20)]


# --- the run does not notice ------------------------------------------------------------------------------------------


def test_more_events_than_can_wait_are_dropped_and_nobody_is_held_up() -> None:
    board = Dashboard(0)
    for _ in range(MOST_WAITING + 100):
        board.show(Waiting(0, 4, 60.0))
        board.show_link("joined", "va")
    assert board._heard.qsize() == MOST_WAITING


def test_an_event_that_makes_no_sense_is_left_out_and_the_next_is_shown() -> None:
    board = Dashboard(0)
    board.show(replace(BEGAN, settings=None))  # type: ignore[arg-type]
    board.show(BEGAN)
    board._catch_up()
    assert board._run.phase == "running"


@pytest.mark.enable_socket
def test_a_port_that_is_taken_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"--dashboard {port}: this port cannot be had; give another one"),
            Dashboard(port).serving(),
        ):
            pass


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.fixture
def board() -> Dashboard:
    return Dashboard(0, "2026-11-24")


@pytest.fixture
def address(board: Dashboard) -> Iterator[str]:
    with board.serving() as address:
        yield address


def read_frames(address: str, frames: list[str], first: threading.Event) -> None:
    """All server-sent events until the server ends them."""
    with httpx.stream("GET", f"{address}events", timeout=PATIENCE) as answer:
        text = ""
        for part in answer.iter_text():
            text += part
            *whole, text = text.split("\n\n")
            frames.extend(whole)
            if frames:
                first.set()


@pytest.mark.enable_socket
def test_who_comes_before_the_server_is_up_waits_and_is_not_refused() -> None:
    with _listen(0) as door, socket.create_connection(door.getsockname(), timeout=PATIENCE):
        pass


@pytest.mark.enable_socket
def test_a_viewer_follows_the_run_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fedhealth.reporting.dashboard.app.LAST_FRAME_SECONDS", 30
    )  # a busy machine may need more than 2 s for a frame
    board, frames, first = Dashboard(0), [], threading.Event()
    with board.serving() as address:
        viewer = threading.Thread(target=read_frames, args=(address, frames, first))
        viewer.start()
        assert first.wait(PATIENCE)
        assert "Waiting for hospitals" in frames[0]
        board.show(BEGAN)
        for number in (1, 2, 3):
            board.show(make_record(number))
        board.show(make_finished())
    viewer.join(PATIENCE)
    assert not viewer.is_alive()
    assert frames[-1] == "event: end\ndata: finished"
    assert "The run has ended" in frames[-2]
    assert "ROC curve" in frames[-2]
    assert frames[-2].startswith("event: run\ndata: ")


@pytest.mark.enable_socket
def test_what_happens_is_taken_in_while_nobody_looks(board: Dashboard, address: str) -> None:
    taken_in = threading.Event()
    board._remember(taken_in.set)
    assert taken_in.wait(PATIENCE)


@pytest.mark.enable_socket
def test_the_page_alone_shows_the_run_so_far(board: Dashboard, address: str) -> None:
    board.show(BEGAN)
    board.show(make_record(1))
    board.show_link("refused", "<script>alert(1)</script>")
    answer = httpx.get(address, timeout=PATIENCE)
    assert "Round 1 of 3" in answer.text
    assert "SYNTHETIC" in answer.text
    assert "<script>alert" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.enable_socket
def test_only_this_machine_may_ask_and_nobody_may_tell(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(address, headers={"Host": "evil.example"}, timeout=PATIENCE).status_code == 400
    assert httpx.post(address, timeout=PATIENCE).status_code == 405
    assert httpx.get(f"{address}../settings.json", timeout=PATIENCE).status_code == 404


@pytest.mark.enable_socket
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_live_page_without_a_complaint(
    board: Dashboard, address: str, width: int, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    board.show(BEGAN)
    board.show(make_record(1))
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr",
    ]
    command = [chromium, *flags, f"--window-size={width},900", "--timeout=1500", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert "Round 1 of 3" in done.stdout
    assert '<p class="soft" id="connection" role="status">Live.</p>' in done.stdout, "the script ran"
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
