"""A lock is for one process at a time, ends with the process and leaves no file behind."""

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from fedhealth.common import atomic_files
from fedhealth.common.atomic_files import append_line, briefly_locked, locked


def test_a_second_holder_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with locked(path):
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pytest.fail("locked twice")
        with locked(tmp_path / "other.jsonl", wait=False):
            pass
    assert list(tmp_path.iterdir()) == []
    with locked(path, wait=False):
        pass


def test_a_waiting_process_continues_when_the_first_is_done(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "ledger.jsonl"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "ledger.jsonl"):
        thread.start()
        order.append("first")
    thread.join(timeout=30)
    assert order == ["first", "second"]


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    killed = multiprocessing.get_context("spawn").Process(target=lock_and_die, args=(tmp_path / "ledger.jsonl",))
    killed.start()
    killed.join(timeout=60)
    assert killed.exitcode == 9
    with locked(tmp_path / "ledger.jsonl", wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "nowhere" / "ledger.jsonl"):
        pytest.fail("locked nothing")


def lock_and_die(path: Path) -> None:
    """Hold the lock and end without any clean-up."""
    with locked(path):
        os._exit(9)


def test_a_line_feed_is_one_byte_on_windows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, binary, real = [], 1 << 30, os.open  # `binary` stands for Windows' os.O_BINARY
    monkeypatch.setattr(atomic_files, "BINARY", binary)

    def note(path: Path, flag: int, mode: int) -> int:
        flags.append(flag)
        return real(path, flag & ~binary, mode)

    monkeypatch.setattr(os, "open", note)
    append_line(tmp_path / "lines", "one")
    assert [flag & binary for flag in flags] == [binary]
    assert (tmp_path / "lines").read_bytes() == b"one\n"


def count_up(path: Path, times: int) -> None:
    """Read a number and write the next one, so often."""
    for _ in range(times):
        with briefly_locked(path):
            number = int(path.read_text())
            time.sleep(0)
            path.write_text(str(number + 1))


@pytest.mark.parametrize("without_flock", [False, True])
def test_a_brief_lock_is_for_one_at_a_time_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_flock: bool
) -> None:
    path, times = tmp_path / "number", 20 if without_flock else 200
    path.write_text("0")
    if without_flock:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    processes = [multiprocessing.get_context("fork").Process(target=count_up, args=(path, times)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert path.read_text() == str(3 * times)
    assert list(tmp_path.iterdir()) == [path]


def test_a_brief_lock_in_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), briefly_locked(tmp_path / "gone" / "x"):
        pytest.fail("locked")
