"""The file of keys, rosters and what was sent: private, whole after a kill, shared by processes, and never two answers."""

import json
import multiprocessing
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from fedhealth.client import masking_lines
from fedhealth.client.masking_lines import MaskingLines
from fedhealth.client.masking_state import LARGEST_KEPT, MaskingState, masking_path
from fedhealth.common.errors import RunError

RUN, OTHER = b"a run of 16 byte", b"another 16 bytes"
CONTEXT, WORDS = b"context", np.arange(3, dtype=np.uint64)
NAMES, KEYS = ("a", "b", "c"), (bytes(32), b"1" * 32, b"2" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return masking_path(tmp_path / "client_1.csv")


def public(state: MaskingState, run: bytes, *, make: bool = False) -> bytes | None:
    private = state.private_key(run, make=make)
    return private and private.public_key().public_bytes_raw()


def kinds(path: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in path.read_text().splitlines()]


def test_the_file_lies_beside_the_table_and_only_its_owner_can_read_it(path: Path) -> None:
    assert path.name == "client_1.secagg.jsonl"
    before = os.umask(0)
    try:
        state = MaskingState(path)
        state.private_key(RUN, make=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        state.remove_key(RUN)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_nothing_is_written_before_a_key_is_made(path: Path) -> None:
    state = MaskingState(path)
    assert state.private_key(RUN, make=False) is None
    assert state.accepted(RUN) is None
    assert state.find_sent(RUN, CONTEXT) is None
    assert state.known_codes() == set()
    assert not path.exists()


def test_all_is_known_after_a_start(path: Path) -> None:
    first = MaskingState(path)
    key = public(first, RUN, make=True)
    first.accept(RUN, b"digest", NAMES, KEYS, "code")
    first.keep(RUN, CONTEXT, WORDS)
    second = MaskingState(path)
    assert public(second, RUN) == key
    accepted = second.accepted(RUN)
    assert accepted is not None
    assert (accepted["digest"], tuple(accepted["names"])) == (b"digest".hex(), NAMES)
    assert tuple(bytes.fromhex(key) for key in accepted["keys"]) == KEYS
    assert second.known_codes() == {"code"}
    sent = second.find_sent(RUN, CONTEXT)
    assert sent is not None and sent.tolist() == WORDS.tolist()


def test_what_was_sent_is_found_for_its_run_and_context_only(path: Path) -> None:
    state = MaskingState(path)
    state.keep(RUN, CONTEXT, WORDS)
    assert state.find_sent(RUN, b"another") is None
    assert state.find_sent(OTHER, CONTEXT) is None


def test_the_same_vector_is_kept_once_and_another_is_refused(path: Path) -> None:
    state = MaskingState(path)
    state.keep(RUN, CONTEXT, WORDS)
    state.keep(RUN, CONTEXT, WORDS.copy())
    assert kinds(path) == ["sum"]
    for each in (state, MaskingState(path)):
        with pytest.raises(RunError, match=r"^the server asks again for a sum, and this hospital's numbers are others"):
            each.keep(RUN, CONTEXT, WORDS + np.uint64(1))
    state.keep(RUN, b"another context", WORDS + np.uint64(1))
    state.keep(OTHER, CONTEXT, WORDS + np.uint64(1))


def test_of_a_large_vector_only_the_hash_is_kept(path: Path) -> None:
    state, large = MaskingState(path), np.arange(LARGEST_KEPT // 8 + 1, dtype=np.uint64)
    state.keep(RUN, CONTEXT, large)
    assert state.find_sent(RUN, CONTEXT) is None
    assert path.stat().st_size < 400
    state.keep(RUN, CONTEXT, large)
    with pytest.raises(RunError, match=r"nothing is sent, since the difference would disclose patients"):
        MaskingState(path).keep(RUN, CONTEXT, large[::-1])
    state.keep(RUN, b"another", large[1:])
    assert state.find_sent(RUN, b"another") is not None


def test_a_second_roster_of_a_run_is_refused_and_the_same_is_accepted_again(path: Path) -> None:
    state = MaskingState(path)
    state.accept(RUN, b"digest", NAMES, KEYS, "code")
    state.accept(RUN, b"digest", NAMES, KEYS, "code")
    assert kinds(path) == ["roster", "hospitals"]
    with pytest.raises(RunError, match=r"^the server sends a second roster for the same run; nothing is sent$"):
        state.accept(RUN, b"other", NAMES, KEYS, "code")
    state.accept(OTHER, b"other", NAMES, KEYS, "code")


def test_a_run_that_is_over_keeps_no_key_and_the_next_run_removes_the_rest_of_it(path: Path) -> None:
    state = MaskingState(path)
    for run in (RUN, OTHER):
        state.private_key(run, make=True)
        state.accept(run, b"digest of " + run, NAMES, KEYS, "code")
        state.keep(run, CONTEXT, WORDS)
    state.remove_key(RUN)
    assert public(state, RUN) is None and public(MaskingState(path), RUN) is None
    assert state.find_sent(RUN, CONTEXT) is not None
    with pytest.raises(RunError, match=r"^the server asks for a new key in a run that is over; nothing is sent$"):
        state.private_key(RUN, make=True)
    state.private_key(b"a third 16 bytes", make=True)
    for each in (state, MaskingState(path)):
        assert each.accepted(RUN) is None and each.find_sent(RUN, CONTEXT) is None
        assert each.find_sent(OTHER, CONTEXT) is not None and public(each, OTHER)
        assert each.known_codes() == {"code"}


def test_a_state_in_memory_does_the_same_without_a_file(tmp_path: Path) -> None:
    state = MaskingState()
    key = public(state, RUN, make=True)
    assert public(state, RUN, make=True) == key
    state.accept(RUN, b"digest", NAMES, KEYS, "code")
    state.keep(RUN, CONTEXT, WORDS)
    with pytest.raises(RunError):
        state.keep(RUN, CONTEXT, WORDS[::-1])
    state.remove_key(RUN)
    state.private_key(OTHER, make=True)
    assert state.accepted(RUN) is None
    assert list(tmp_path.iterdir()) == []


# --- several processes ------------------------------------------------------------------------------------------------


def test_what_another_process_has_written_is_seen_also_after_it_has_removed_a_run(path: Path) -> None:
    """Flower starts a process for each message."""
    first, second = MaskingState(path), MaskingState(path)
    key = public(first, RUN, make=True)
    assert public(second, RUN, make=True) == key
    second.accept(RUN, b"digest", NAMES, KEYS, "code")
    second.keep(RUN, CONTEXT, WORDS)
    assert first.find_sent(RUN, CONTEXT) is not None
    second.remove_key(RUN)
    assert public(first, RUN) is None
    second.private_key(OTHER, make=True)
    assert first.find_sent(RUN, CONTEXT) is None
    assert public(first, OTHER) == public(second, OTHER)


def _make_key(path: Path) -> bytes | None:
    return public(MaskingState(path), RUN, make=True)


def test_processes_that_start_at_once_agree_on_one_key(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        keys = pool.map(_make_key, [path] * 6, chunksize=1)
    assert len(set(keys)) == 1
    assert kinds(path) == ["key"]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_a_kill_has_cut_is_removed_since_nothing_was_sent(path: Path, cut: int) -> None:
    state = MaskingState(path)
    state.private_key(RUN, make=True)
    before = path.read_bytes()
    state.keep(RUN, CONTEXT, WORDS)
    path.write_bytes(path.read_bytes()[:-cut])
    later = MaskingState(path)
    assert later.find_sent(RUN, CONTEXT) is None
    assert path.read_bytes() == before
    later.keep(RUN, CONTEXT, WORDS[::-1])
    sent = MaskingState(path).find_sent(RUN, CONTEXT)
    assert sent is not None and sent.tolist() == WORDS[::-1].tolist()


@pytest.mark.parametrize(
    "line", ["no json", "[]", "3", '{"kind": "sum"}', '{"kind": "other"}', '{"kind": ["key"]}', ""]
)
def test_a_damaged_line_stops_everything(path: Path, line: str) -> None:
    state = MaskingState(path)
    state.private_key(RUN, make=True)
    with path.open("a") as file:
        file.write(f"{line}\n")
    for each in (state, MaskingState(path)):
        with pytest.raises(RunError) as caught:
            each.find_sent(RUN, CONTEXT)
        assert str(caught.value) == (
            f"{path}: holds a line that is damaged; restore the file, or move it away and start a new run"
        )


def test_reading_waits_for_no_lock_unless_another_process_has_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, other = MaskingState(path), MaskingState(path)
    state.private_key(RUN, make=True)
    state.accept(RUN, b"digest", NAMES, KEYS, "code")
    state.keep(RUN, CONTEXT, WORDS)
    taken, real = list[Path](), masking_lines.briefly_locked

    def locked(file: Path):  # type: ignore[no-untyped-def]
        taken.append(file)
        return real(file)

    monkeypatch.setattr(masking_lines, "briefly_locked", locked)
    assert state.accepted(RUN) and public(state, RUN) and state.known_codes() == {"code"}
    np.testing.assert_array_equal(state.find_sent(RUN, CONTEXT), WORDS)
    assert taken == []
    other.keep(RUN, b"another", WORDS)
    taken.clear()
    np.testing.assert_array_equal(state.find_sent(RUN, b"another"), WORDS)
    assert taken == [path]


def test_vectors_are_kept_on_disk_and_not_in_memory(path: Path) -> None:
    MaskingState(path).keep(RUN, CONTEXT, WORDS)
    lines = MaskingLines(path)
    with lines.read():
        (kept,) = lines.sums.values()
    assert "words" not in kept and "words" in lines.with_words(kept)


def test_nothing_is_sent_if_the_file_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RunError(f"{path}: cannot be written (No space left on device)")

    state = MaskingState(path)
    state.private_key(RUN, make=True)
    monkeypatch.setattr(masking_lines, "append_line", fail)
    with pytest.raises(RunError, match=r"cannot be written"):
        state.keep(RUN, CONTEXT, WORDS)
    assert state.find_sent(RUN, CONTEXT) is None


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "x.secagg.jsonl"
    with pytest.raises(RunError) as caught:
        MaskingState(path).private_key(RUN, make=True)
    assert str(caught.value) == (
        f"{path}: cannot be used (No such file or directory), and nothing is sent under masks without it"
    )
