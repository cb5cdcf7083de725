"""Lines with the time before them, or as JSON: the same events, for people and for programs."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from fedhealth.cli.terminal import parse_flags, say, script, use_line_format, warn
from fedhealth.common.errors import DataError
from fedhealth.config.commands import ReceiptsSettings
from fedhealth.config.scripts import ServerSettings


@pytest.fixture(autouse=True)
def plain_afterwards() -> Iterator[None]:
    yield
    use_line_format(None)


def speak(flags: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    @script
    def main(argv: Any = None) -> None:
        parse_flags(ServerSettings, argv)
        say("round 1/3   loss 0.5")
        say()
        say("two\nlines")
        warn("slow")
        raise DataError(["row 3", "row 4"])

    assert main(flags) == 2
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_plain_lines_are_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = speak([], capsys)
    assert out == ["round 1/3   loss 0.5", "", "two", "lines"]
    assert err == ["warning: slow", "error: row 3", "error: row 4"]


def test_each_event_is_one_json_object_with_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = speak(["--log-format", "json"], capsys)
    entries = [json.loads(line) for line in out + err]
    assert [(entry["level"], entry["message"]) for entry in entries] == [
        ("info", "round 1/3   loss 0.5"),
        ("info", "two\nlines"),
        ("warning", "slow"),
        ("error", "row 3"),
        ("error", "row 4"),
    ]
    assert all(datetime.fromisoformat(entry["time"]).tzinfo for entry in entries)


def test_timestamps_stand_before_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = speak(["--timestamps"], capsys)
    times, texts = zip(*(line.split("  ", 1) for line in out + err), strict=True)
    assert list(texts) == ["round 1/3   loss 0.5", "", "two", "lines", "warning: slow", "error: row 3", "error: row 4"]
    assert all(datetime.fromisoformat(time).tzinfo for time in times)


def test_a_command_without_these_flags_prints_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    speak(["--log-format", "json"], capsys)
    parse_flags(ReceiptsSettings, ["a.jsonl"])
    say("plain")
    assert capsys.readouterr().out == "plain\n"
