"""The live page: its state, its content, who may request it, and that it never slows the run."""

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
from fedhealth.data.sources.heart import HEART
from fedhealth.reporting.dashboard.app import MAX_QUEUED, Dashboard, _listen
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.server.events import RunFinished, RunStarted, Waiting
from tests.support.processes import PATIENCE
from tests.support.run_folders import NAMES, make_histograms, make_members, make_record, make_weights

SETTINGS = FederationSettings(hospitals=4, rounds=3)
BEGAN = RunStarted(SETTINGS, HEART, make_members(), "synthetic")


def make_finished() -> RunFinished:
    rounds = [make_record(number) for number in (1, 2, 3)]
    standardisation = reference_standardisation(HEART)
    weights, histograms = make_weights(SETTINGS), make_histograms(3)
    return RunFinished(SETTINGS, HEART, make_members(), "synthetic", weights, standardisation, rounds, 1.5, histograms)


# --- state -----------------------------------------------------------------------------------------------------------


def test_the_states_of_a_hospital_are_joined_working_late_left_and_done() -> None:
    run = LiveRun("")
    run.on_event(Waiting(0, 4, 60.0))
    for name in NAMES:
        run.on_link("joined", name)
    assert run.states() == [(name, "joined", "") for name in sorted(NAMES)]
    run.on_link("left", "va")
    assert run.states()[-1] == ("va", "left", "")
    run.on_link("joined", "va")
    run.on_event(BEGAN)
    assert {state for _, state, _ in run.states()} == {"working"}
    run.on_event(make_record(1, left_out={"hungary": "no answer in time"}))
    assert run.states()[1] == ("hungary", "late", "no answer in time")
    run.on_link("left", "hungary")
    assert run.states()[1] == ("hungary", "left", "no answer in time")
    run.on_event(make_finished())
    assert run.states()[0] == ("cleveland", "done", "")


def test_a_hospital_that_can_take_no_part_is_shown_with_the_reason() -> None:
    run = LiveRun("")
    run.on_event(replace(BEGAN, left_out={"zurich": "could not reply to query.describe: MemoryError"}))
    assert run.states()[-1] == ("zurich", "refused", "could not reply to query.describe: MemoryError")
    assert len(run.states()) == len(NAMES) + 1


def test_a_resumed_run_is_shown_with_the_rounds_before() -> None:
    run = LiveRun("")
    run.on_event(replace(BEGAN, done=2, rounds=(make_record(1), make_record(2))))
    run.on_event(make_record(3))
    assert [record.round_num for record in run.record().history] == [1, 2, 3]


def test_only_the_last_refusals_are_kept() -> None:
    run = LiveRun("")
    for number in range(20):
        run.on_link("refused", f"caller {number}")
    assert run.refused == [f"caller {number}" for number in range(15, 20)]


# --- the run is not slowed -------------------------------------------------------------------------------------------


def test_events_beyond_the_limit_of_the_queue_are_dropped_without_blocking() -> None:
    board = Dashboard(0)
    for _ in range(MAX_QUEUED + 100):
        board.show(Waiting(0, 4, 60.0))
        board.show_link("joined", "va")
    assert board._updates.qsize() == MAX_QUEUED


def test_an_update_that_fails_is_skipped_and_the_next_is_applied() -> None:
    board = Dashboard(0)
    board.show(replace(BEGAN, settings=None))  # type: ignore[arg-type]
    board.show(BEGAN)
    board._apply_updates()
    assert board._run.phase == "running"


@pytest.mark.enable_socket
def test_a_port_that_is_taken_is_an_error_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"--dashboard {port}: this port is not available; give another one"),
            Dashboard(port).serving(),
        ):
            pass


# --- content ---------------------------------------------------------------------------------------------------------


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
def test_a_connection_before_the_server_is_up_waits_and_is_not_refused() -> None:
    with _listen(0) as listener, socket.create_connection(listener.getsockname(), timeout=PATIENCE):
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
def test_updates_are_applied_while_no_browser_is_connected(board: Dashboard, address: str) -> None:
    applied = threading.Event()
    board._enqueue(applied.set)
    assert applied.wait(PATIENCE)


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
def test_only_this_machine_may_request_the_page_and_nobody_may_post(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(address, headers={"Host": "evil.example"}, timeout=PATIENCE).status_code == 400
    assert httpx.post(address, timeout=PATIENCE).status_code == 405
    assert httpx.get(f"{address}../settings.json", timeout=PATIENCE).status_code == 404


@pytest.mark.enable_socket
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_live_page_without_a_console_message(
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
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert messages == []
