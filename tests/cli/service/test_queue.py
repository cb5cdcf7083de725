"""The queue: order, what an interruption leaves, and one service for each queue."""

from pathlib import Path

import pytest

from fedhealth.cli.service.queue import FAILED, FINISHED, RunQueue
from fedhealth.common.errors import UsageError


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.toml"))


def test_run_files_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "b.toml", "a.toml", ".c.toml", "notes.txt")
    queue = RunQueue(tmp_path)
    with queue.opened():
        for name in ("a.toml", "b.toml"):
            taken = queue.take()
            assert taken is not None
            assert (taken.path, taken.interrupted) == (tmp_path / "running" / name, False)
            queue.put_away(taken.path, FINISHED)
        assert queue.take() is None
    assert names_of(tmp_path / "finished") == ["a.toml", "b.toml"]


def test_an_interrupted_run_comes_before_every_other(tmp_path: Path) -> None:
    fill(tmp_path, "a.toml")
    fill(tmp_path / "running", "z.toml")
    queue = RunQueue(tmp_path)
    with queue.opened():
        taken = queue.take()
        assert taken is not None
        assert (taken.path.name, taken.interrupted) == ("z.toml", True)
        queue.put_away(taken.path, FAILED)
        assert [path.name for path in queue.waiting()] == ["a.toml"]
    assert names_of(tmp_path / "failed") == ["z.toml"]


def test_a_second_service_of_one_queue_is_refused(tmp_path: Path) -> None:
    with RunQueue(tmp_path).opened():
        second = RunQueue(tmp_path).opened()
        with pytest.raises(UsageError, match="another service runs it; stop that one first"):
            second.__enter__()
    with RunQueue(tmp_path).opened():
        pass


def test_a_queue_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    fill(tmp_path, "queue")
    with pytest.raises(UsageError, match="queue: cannot be written to"), RunQueue(tmp_path / "queue").opened():
        pass
