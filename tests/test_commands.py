"""`python -m fedhealth`: one screen of commands, an example in each help, no colour where none is wanted."""

import importlib
import io
import sys

import pytest

from fedhealth.__main__ import help_text, main
from fedhealth.commands import COMMANDS


def test_the_commands_fit_on_one_screen() -> None:
    lines = help_text().splitlines()
    assert len(lines) <= 24
    assert all(any(line.strip().startswith(name) for line in lines) for name in COMMANDS)


def test_an_unknown_command_is_one_line_that_lists_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predikt"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: predikt is no command; there are ")
    assert all(name in line for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_to_paste(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"fedhealth.commands.{name}").main(["--help"])
    assert end.value.code == 0
    assert f"Example: python -m fedhealth {name} " in capsys.readouterr().out


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_no_color_is_honoured(no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(SystemExit):
        importlib.import_module("fedhealth.commands.report").main(["--help"])
    assert ("\x1b[" in sys.stdout.getvalue()) is coloured  # type: ignore[attr-defined]
