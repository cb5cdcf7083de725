"""A lock is for one process at a time, ends with the process and leaves no file behind."""

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from fedhealth.common import atomic_files
from fedhealth.common.atomic_files import append_line, locked


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
