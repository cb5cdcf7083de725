"""The chain of receipts: the content of a line, what breaks the chain, what survives a crash, and the audit."""

import errno
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedhealth.cli.commands import receipts as command
from fedhealth.client.receipts import LONGEST_LINE, NOTHING_BEFORE, Receipts, decode_line, file_name, opened_receipts
from fedhealth.client.receipts_audit import audit_receipts, audit_text, read_chain
from fedhealth.common.errors import FedHealthError, RunError, UsageError
from fedhealth.transport.messages import encode_message, set_identity
from fedhealth.transport.protocol.masked_vectors import encode_masked
from tests.support.examples import examples

JOIN = {"protocol": "2", "schema": "abc", "hospital-bin": "Köln".encode()}


@pytest.fixture(autouse=True)
def identity() -> None:
    set_identity(1)


def question(kind: str, **config: Any) -> Message:
    records = (
        {"config": ConfigRecord({key.replace("_", "-"): value for key, value in config.items()})} if config else {}
    )
    return Message(RecordDict(dict(records)), dst_node_id=7, message_type=kind)


def trained(round_num: int, loss: float = 0.25) -> tuple[Message, Message]:
    """The server's message and the hospital's reply."""
    asked = question("train", server_round=round_num)
    arrays = ArrayRecord({"hidden/kernel": Array(np.zeros((2, 3), np.float32)), "bias": Array(np.ones(1, np.float32))})
    metrics = MetricRecord({"num-examples": 12, "train-loss": loss})
    return asked, Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=asked)


def write(receipts: Receipts, asked: Message, reply: Message) -> bytes:
    payload = encode_message(reply)
    answer = receipts.note_rounds(lambda question, context: reply)
    receipts.write_message(answer(asked, None), [payload[:9], payload[9:]])
    return payload


def write_run(folder: Path, rounds: int = 3, hospital: str = "cleveland") -> Path:
    """One run of `rounds` lines and a join."""
    with opened_receipts(folder, hospital) as receipts:
        receipts.write_join(JOIN)
        for round_num in range(1, rounds + 1):
            write(receipts, *trained(round_num))
        return receipts.path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_line_contains_everything_that_is_sent_with_a_message(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with opened_receipts(tmp_path, "cleveland") as receipts:
        payload = write(receipts, *trained(3))
    (line,) = read(tmp_path / "cleveland.jsonl")
    assert before <= datetime.fromisoformat(line.pop("time")) <= before + timedelta(minutes=1)
    assert line == {
        "number": 1,
        "run": 1,
        "kind": "train",
        "round": 3,
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "arrays": {
            "arrays": {
                "hidden/kernel": {"shape": [2, 3], "dtype": "float32"},
                "bias": {"shape": [1], "dtype": "float32"},
            }
        },
        "statistics": {"metrics": {"num-examples": 12, "train-loss": 0.25}},
        "previous": NOTHING_BEFORE,
    }


def test_a_masked_reply_is_recorded_as_it_is_sent_and_what_is_inside_apart_from_it(tmp_path: Path) -> None:
    """The statistics inside stay in the hospital's own file."""
    request, clear = trained(3)
    masked = Message(encode_masked(np.arange(5, dtype=np.uint64)), reply_to=request)
    payload = encode_message(masked)
    with opened_receipts(tmp_path, "cleveland") as receipts:
        receipts.write_message(masked, [payload], clear=lambda reply: clear)
        receipts.write_message(masked, [payload], clear=lambda reply: reply)
    first, again = read(tmp_path / "cleveland.jsonl")
    for line in (first, again):
        assert (line["bytes"], line["sha256"]) == (len(payload), hashlib.sha256(payload).hexdigest())
        assert line["arrays"] == {"masked": {"words": {"shape": [5], "dtype": "uint64"}}}
        assert "statistics" not in line
    assert first["inside"]["statistics"] == {"metrics": {"num-examples": 12, "train-loss": 0.25}}
    assert first["inside"]["arrays"]["arrays"]["bias"] == {"shape": [1], "dtype": "float32"}
    assert "inside" not in again


def test_histograms_words_and_errors_are_recorded_in_full(tmp_path: Path) -> None:
    asked = question("query.describe")
    who = ConfigRecord({"name": "Köln", "source": "own", "key": b"\x01\xff"})
    counts = MetricRecord({"positives": list(range(200)), "loss": 0.1 + 0.2})
    bins = ArrayRecord({"tested": Array(np.array([[1, 0], [2, 3]], np.uint8))})
    with opened_receipts(tmp_path, "x") as receipts:
        write(receipts, asked, Message(RecordDict({"hospital": who, "counts": counts, "bins": bins}), reply_to=asked))
        write(receipts, asked, Message(Error(code=1, reason="ValueError"), reply_to=asked))
    first, second = read(tmp_path / "x.jsonl")
    assert first["config"] == {"hospital": {"name": "Köln", "source": "own", "key": "01ff"}}
    assert first["statistics"] == {
        "counts": {"positives": list(range(200)), "loss": 0.1 + 0.2},
        "bins": {"tested": [[1, 0], [2, 3]]},
    }
    assert audit_receipts(tmp_path / "x.jsonl").numbers["query.describe", "bins.tested"] == 4
    assert "round" not in first
    assert second["error"] == {"code": 1, "reason": "ValueError"}


def test_the_join_is_a_line_too(tmp_path: Path) -> None:
    line = read(write_run(tmp_path, rounds=0))[0]
    assert (line["kind"], line["told"]) == ("join", {"protocol": "2", "schema": "abc", "hospital-bin": "Köln"})
    assert line["bytes"] == sum(len(key) + len(value) for key, value in JOIN.items())


def test_attempts_to_join_in_a_row_are_one_line_but_a_return_is_another(tmp_path: Path) -> None:
    """A client may look for its server for days."""
    with opened_receipts(tmp_path, "x") as receipts:
        receipts.write_join(JOIN)
        receipts.write_join(JOIN)
        receipts.write_join(JOIN | {"protocol": "3"})
        receipts.write_join(JOIN)
        write(receipts, *trained(1))
        receipts.write_join(JOIN)
    assert audit_receipts(tmp_path / "x.jsonl").kinds == {"join": 4, "train": 1}


def test_each_line_holds_the_hash_of_the_line_before_and_runs_append(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    write_run(tmp_path)
    lines = path.read_bytes().splitlines()
    receipts = [json.loads(line) for line in lines]
    assert [receipt["number"] for receipt in receipts] == list(range(1, 9))
    assert [receipt["run"] for receipt in receipts] == [1] * 4 + [2] * 4
    assert [receipt.get("round", 0) for receipt in receipts] == [0, 1, 2, 3] * 2
    assert receipts[0]["previous"] == "0" * 64
    for line, receipt in zip(lines, receipts[1:], strict=False):
        assert receipt["previous"] == hashlib.sha256(line).hexdigest()


def test_a_line_is_written_before_its_message_is_sent_and_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from fedhealth.client.receipts import opened_receipts
with opened_receipts(Path({str(tmp_path)!r}), "x") as receipts:
    receipts.write_join({{"a": "b"}})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert audit_receipts(tmp_path / "x.jsonl").kinds == {"join": 1}


def test_the_echo_is_called_with_each_line(tmp_path: Path) -> None:
    heard: list[str] = []
    with opened_receipts(tmp_path, "x", echo=heard.append) as receipts:
        receipts.write_join(JOIN)
        write(receipts, *trained(1))
    assert heard == (tmp_path / "x.jsonl").read_text().splitlines()


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_plain_name_names_its_file() -> None:
    assert file_name("cleveland") == "cleveland.jsonl"
    assert file_name("St.Mary-2_b") == "St.Mary-2_b.jsonl"


@settings(derandomize=True, max_examples=examples(300))
@given(
    st.text(min_size=1, max_size=100) | st.sampled_from(["..", ".", "../../etc/passwd", "a/b", "a\\b", "~", "x" * 100])
)
def test_every_name_has_a_file_of_its_own_in_the_folder(name: str) -> None:
    file = file_name(name)
    assert Path(file).name == file
    assert len(file.encode()) <= 120
    assert file.isascii()
    assert not set(file) & set('/\\:*?"<>| ')
    assert not file.startswith(".")
    assert file != file_name(name + "x")


def test_names_that_look_alike_have_files_of_their_own() -> None:
    names = ["a/b", "a_b", "a b", "a\\b", "_a_b", "Köln", "K_ln", "..", ".", "~", "../x", "x"]
    assert len({file_name(name) for name in names}) == len(names)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_two_processes_cannot_write_one_chain(tmp_path: Path) -> None:
    with (
        opened_receipts(tmp_path, "x"),
        pytest.raises(UsageError, match=r"x\.jsonl: another client is writing it; is this hospital running already\?"),
        opened_receipts(tmp_path, "x"),
    ):
        pytest.fail("opened twice")
    with opened_receipts(tmp_path, "x"), opened_receipts(tmp_path, "y"):
        pass
    with opened_receipts(tmp_path, "x"):
        pass


class FullDisk(io.FileIO):
    """Takes `room` more bytes, then none."""

    room = 0

    def write(self, content: Any, /) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(content[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 100])
def test_on_a_full_disk_nothing_is_half_written_and_the_run_ends_in_one_line(tmp_path: Path, room: int) -> None:
    path = write_run(tmp_path)
    before = path.read_bytes()
    with FullDisk(str(path), "r+") as file:
        receipts = Receipts(path, file)
        file.room = room
        with pytest.raises(RunError) as caught:
            write(receipts, *trained(4))
        assert path.read_bytes() == before
        assert str(caught.value) == (
            f"{path}: a receipt cannot be written (No space left on device), and nothing is sent without one; "
            "free space there, or give another folder with --receipts"
        )
        file.room = 10**6
        write(receipts, *trained(4))
    assert audit_receipts(path).lines == 5


def test_a_line_that_is_written_in_pieces_is_whole_in_the_end(tmp_path: Path) -> None:
    class Pieces(io.FileIO):
        def write(self, content: Any, /) -> int:
            return super().write(content[:7])

    path = tmp_path / "x.jsonl"
    path.touch()
    with Pieces(str(path), "r+") as file:
        receipts = Receipts(path, file)
        write(receipts, *trained(1))
        write(receipts, *trained(2))
    assert audit_receipts(path).lines == 2


@pytest.mark.parametrize("taken", ["file", "folder", "read-only"])
def test_a_place_that_cannot_be_written_is_one_line_at_the_start(tmp_path: Path, taken: str) -> None:
    folder = tmp_path / "receipts"
    if taken == "file":
        folder.write_text("")
    elif taken == "folder":
        (folder / "x.jsonl").mkdir(parents=True)
    else:
        folder = Path("/proc/self")
    line = r"x\.jsonl: receipts cannot be written there \(.*\); give another folder with --receipts"
    with pytest.raises(UsageError, match=line), opened_receipts(folder, "x"):
        pytest.fail("opened")


@pytest.mark.parametrize(
    "content", ["a line\n", "a line", "{}\n", "[1]\n", '{"number":"1"}\n', "[" * 100_000 + "\n", "\n", "\0" * 9, "1\n2"]
)
def test_a_file_that_is_no_chain_is_never_written_to(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    line = r"x\.jsonl: does not end in a receipt; move it away or give another folder"
    with pytest.raises(UsageError, match=line), opened_receipts(tmp_path, "x"):
        pytest.fail("opened")
    assert path.read_text() == content


@pytest.mark.parametrize("kept", [1, 9, 10, 200, -1])
def test_a_last_line_that_was_cut_short_is_kept_inside_a_line_of_its_own(tmp_path: Path, kept: int) -> None:
    path = write_run(tmp_path)
    *whole, last = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*whole, last[:kept]]))
    with pytest.raises(RunError, match=r"line 4 is cut short .*; the 3 before it are intact"):
        audit_receipts(path)
    write_run(tmp_path)
    lines = path.read_bytes().splitlines()
    assert lines[:3] == whole
    repair = json.loads(lines[3])
    assert (repair["kind"], repair["number"], repair["cut"].encode()) == ("repair", 4, last[:kept])
    assert audit_receipts(path).lines == 8


@pytest.mark.parametrize("rest", [b"\xff\xfe\x00", b"\0" * 4096, "ä€😀".encode(), b'"\\\n'[:2]])
def test_whatever_a_power_failure_leaves_at_the_end_is_kept(tmp_path: Path, rest: bytes) -> None:
    path = write_run(tmp_path)
    with path.open("ab") as file:
        file.write(rest)
    write_run(tmp_path)
    assert read(path)[4]["cut"] == rest.decode("utf-8", "backslashreplace")
    assert audit_receipts(path).lines == 9


def test_a_first_line_that_was_cut_short_is_kept_as_well(tmp_path: Path) -> None:
    path = write_run(tmp_path, rounds=0)
    path.write_bytes(path.read_bytes()[:50])
    write_run(tmp_path, rounds=0)
    assert [receipt["kind"] for receipt in read(path)] == ["repair", "join"]
    assert audit_receipts(path).lines == 2


def test_a_long_last_line_is_found_without_reading_the_file(tmp_path: Path) -> None:
    asked = question("evaluate", server_round=1)
    reply = Message(RecordDict({"metrics": MetricRecord({"many": list(range(50_000))})}), reply_to=asked)
    for _ in range(2):
        with opened_receipts(tmp_path, "x") as receipts:
            write(receipts, asked, reply)
    assert audit_receipts(tmp_path / "x.jsonl").lines == 2


# --- the audit --------------------------------------------------------------------------------------------------------

Change = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda lines: [*lines[:2], lines[2].replace(b"0.25", b"0.35"), *lines[3:]],
            "line 4 does not contain the hash of the line before it: one of the two was altered; the 3 before it",
        ),
        (
            lambda lines: [lines[0].replace(b'"protocol":"2"', b'"protocol":"3"'), *lines[1:]],
            "line 2 does not contain the hash of the line before it: one of the two was altered; the 1 before it",
        ),
        (
            lambda lines: [*lines[:2], *lines[3:]],
            "line 3 is receipt 4: an earlier receipt is missing or was moved; the 2 be",
        ),
        (lambda lines: lines[1:], "line 1 is receipt 2: an earlier receipt is missing or was moved"),
        (
            lambda lines: [*lines[:2], lines[3], lines[2], lines[4]],
            "line 3 is receipt 4: an earlier receipt is missing or was",
        ),
        (
            lambda lines: [*lines[:3], lines[2], *lines[3:]],
            "line 4 is receipt 3: it was moved or copied here; the 3 before",
        ),
        (
            lambda lines: [*lines[:2], b"{}", *lines[3:]],
            "line 3 is not a receipt: it was altered; the 2 before it are intact",
        ),
        (
            lambda lines: [*lines[:2], b"", *lines[2:]],
            "line 3 is not a receipt: it was altered; the 2 before it are intact",
        ),
        (lambda lines: [*lines[:4], lines[4][:99]], "line 5 is cut short"),
    ],
)
def test_the_first_broken_line_is_named(tmp_path: Path, change: Change, line: str) -> None:
    path = write_run(tmp_path, rounds=4)
    content = path.read_bytes()
    changed = b"\n".join(change(content.splitlines()))
    path.write_bytes(changed if b"cut" in line.encode() else changed + b"\n")
    assert path.read_bytes() != content
    with pytest.raises(RunError) as caught:
        audit_receipts(path)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


@settings(derandomize=True, max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_before_the_last_line_is_detected(tmp_path: Path, place: int, byte: int) -> None:
    path = write_run(tmp_path / f"{place}-{byte}")
    content = bytearray(path.read_bytes())
    place %= content.rstrip(b"\n").rindex(b"\n") + 1
    if content[place] == byte:
        byte ^= 1
    content[place] = byte
    path.write_bytes(content)
    with pytest.raises(FedHealthError):
        audit_receipts(path)


def test_an_end_that_was_cut_off_shows_only_against_a_noted_hash(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    noted = audit_receipts(path).last_hash
    write_run(tmp_path)
    assert audit_receipts(path, noted).lines == 8
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert audit_receipts(path).lines == 3
    with pytest.raises(
        RunError, match=f"no line has the noted hash {noted}: since it was noted, the chain was cut off"
    ):
        audit_receipts(path, noted)


def test_the_audit_summarises_all_that_was_sent(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    write_run(tmp_path)
    audit = audit_receipts(path)
    assert (audit.lines, audit.runs) == (8, {1, 2})
    assert audit.kinds == {"join": 2, "train": 6}
    assert audit.bytes["train"] == sum(line["bytes"] for line in read(path) if line["kind"] == "train")
    assert audit.arrays == {
        ("train", "arrays.hidden/kernel [2, 3] float32"): 6,
        ("train", "arrays.bias [1] float32"): 6,
    }
    assert audit.statistics == {("train", "metrics.num-examples"): 6, ("train", "metrics.train-loss"): 6}
    assert audit.numbers == audit.statistics
    assert audit.words == {("join", f"told.{key}"): 2 for key in JOIN}
    assert (audit.first_time, audit.last_time) == (read(path)[0]["time"], read(path)[-1]["time"])


def test_what_is_behind_masks_is_listed_as_not_sent_in_clear(tmp_path: Path) -> None:
    asked, plain = trained(1)
    words = ArrayRecord({"words": Array(np.zeros(9, np.uint64))})
    masked = Message(RecordDict({"masked": words}), reply_to=asked)
    with opened_receipts(tmp_path, "cleveland") as receipts:
        receipts.write_message(masked, [encode_message(masked)], clear=lambda sent: plain)
    audit = audit_receipts(receipts.path)
    assert not audit.statistics
    assert audit.arrays == {("train", "masked.words [9] uint64"): 1}
    assert audit.inside_numbers == {
        ("train", "arrays.hidden/kernel"): 6,
        ("train", "arrays.bias"): 1,
        ("train", "metrics.num-examples"): 1,
        ("train", "metrics.train-loss"): 1,
    }
    assert "behind the masks, not sent in clear" in audit_text(audit, terminal=False)


@pytest.mark.parametrize("shape", [[-1], [2**40, 2**40], ["a"], 3, [1] * 1000, None])
def test_a_shape_behind_masks_that_is_none_counts_as_nothing(tmp_path: Path, shape: Any) -> None:
    path = tmp_path / "x.jsonl"
    inside = {"arrays": {"arrays": {"a": {"shape": shape, "dtype": "float32"}}}}
    head = {"number": 1, "run": 1, "time": "t", "kind": "train", "previous": NOTHING_BEFORE, "inside": inside}
    path.write_text(json.dumps(head) + "\n")
    assert sum(audit_receipts(path).inside_numbers.values()) == 0


def test_the_command_shows_it_on_one_screen_and_ends_with_0_1_or_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_run(tmp_path)
    assert command.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: intact, 4 lines of 1 run, 20")
    (join,) = re.findall(r"^sent +messages +bytes\njoin +1 +(\d+)$", out, re.MULTILINE)
    assert int(join) == read(path)[0]["bytes"]
    assert re.search(r"^train +metrics\.train-loss +3 +3$", out, re.MULTILINE)
    last = hashlib.sha256(path.read_bytes().splitlines()[-1]).hexdigest()
    assert f"\nlast hash: {last}\n" in out
    assert command.main([str(path), "--noted", last]) == 0
    capsys.readouterr()
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.26"))
    assert command.main([str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: line 3 does not contain the hash of the line before it")


@pytest.mark.parametrize(
    "content", [None, b"", b"a,b,c\n1,2,3\n", b"\0" * 1000, b"{}\n", b"[" * 10**6, b'{"number":1', b"\xff\n"]
)
def test_a_file_that_is_no_chain_of_receipts_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert command.main([str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {path}: ")
    assert printed.err.count("\n") == 1


def test_a_folder_and_a_bad_hash_are_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: cannot be read (Is a directory); give a file of receipts\n"
    assert command.main([str(tmp_path), "--noted", "12"]) == 2
    assert capsys.readouterr().err.startswith("error: --noted is 12; give the 64 letters and digits")


def test_a_hostile_file_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\nok: intact"
    receipt = {"number": 1, "run": 1, "time": evil, "kind": evil, "statistics": {evil: {evil: 1}}, "bytes": "many"}
    receipt |= {"arrays": {evil: {evil: {"dtype": evil}}}, "error": [evil], "previous": NOTHING_BEFORE}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(receipt) + "\n")
    assert command.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nok: intact" not in out


FUZZ = settings(
    derandomize=True, max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = (
    "number",
    "run",
    "time",
    "kind",
    "previous",
    "bytes",
    "arrays",
    "statistics",
    "config",
    "told",
    "error",
    "cut",
    "inside",
)


@FUZZ
@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from(KEYS), JSON).map(lambda d: json.dumps(d).encode()))
def test_any_bytes_are_audited_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    try:
        audit_text(audit_receipts(path), terminal=False)
    except FedHealthError as error:
        assert "\n" not in str(error)


@FUZZ
@given(st.dictionaries(st.sampled_from(KEYS[5:]), JSON))
def test_any_receipt_in_a_whole_chain_can_be_shown(tmp_path: Path, facts: dict[str, Any]) -> None:
    path = tmp_path / "x.jsonl"
    head = {"number": 1, "run": 1, "time": "t", "kind": "k", "previous": NOTHING_BEFORE}
    path.write_text(json.dumps(head | facts) + "\n")
    text = audit_text(audit_receipts(path), terminal=False)
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.slow
def test_a_large_file_is_audited_in_a_stream(tmp_path: Path) -> None:
    asked = question("evaluate", server_round=1)
    histogram = MetricRecord({"positives": list(range(200)), "negatives": list(range(200))})
    reply = Message(RecordDict({"metrics": histogram}), reply_to=asked)
    payload = encode_message(reply)
    with opened_receipts(tmp_path, "x") as receipts:
        for _ in range(5000):
            receipts.write_message(reply, [payload])
    path = tmp_path / "x.jsonl"
    assert path.stat().st_size > 8e6
    tracemalloc.start()
    assert audit_receipts(path).numbers[("evaluate", "metrics.positives")] == 5000 * 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_a_line_that_never_ends_is_not_read_into_memory(tmp_path: Path) -> None:
    path = write_run(tmp_path, rounds=0)
    with path.open("ab") as file:
        file.truncate(3 * LONGEST_LINE)
    with pytest.raises(RunError, match="line 2 is cut short"):
        list(read_chain(path))


def test_decode_returns_none_for_what_is_no_receipt() -> None:
    good = {"number": 1, "run": 1, "time": "", "kind": "", "previous": ""}
    assert decode_line(json.dumps(good).encode()) == good
    assert decode_line(json.dumps(good | {"number": True}).encode()) is None
    assert decode_line(json.dumps(good | {"number": 1.0}).encode()) is None
    assert decode_line(json.dumps([good]).encode()) is None
