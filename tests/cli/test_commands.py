"""`python -m fedhealth`: one screen of commands, an example in each help text, no colour with NO_COLOR."""

import importlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import client
import create_dataset
import server
from fedhealth.__main__ import COMMANDS, help_text, main
from fedhealth.cli import demo
from fedhealth.cli.terminal import Script
from fedhealth.data.new_patients import flag_names
from fedhealth.data.sources.heart import FEATURE_NAMES, HEART

ROOT = Path(__file__).parents[2]


def test_the_commands_fit_on_one_screen() -> None:
    lines = help_text().splitlines()
    assert len(lines) <= 24
    assert all(any(line.strip().startswith(name) for line in lines) for name in COMMANDS)


def test_an_unknown_command_is_one_line_that_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predikt"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: predikt is not a command; give one of ")
    assert all(name in line for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_text_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"fedhealth.cli.commands.{name}").main(["--help"])
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
        importlib.import_module("fedhealth.cli.commands.report").main(["--help"])
    assert ("\x1b[" in sys.stdout.getvalue()) is coloured  # type: ignore[attr-defined]


@pytest.mark.parametrize("script", [server, client, create_dataset], ids=lambda script: script.__name__)
def test_the_help_text_of_a_script_has_an_example(script: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        script.main(["--help"])  # type: ignore[attr-defined]
    assert end.value.code == 0
    assert f"Example: python {script.__name__}.py" in capsys.readouterr().out  # type: ignore[attr-defined]


def test_a_patient_s_flags_have_the_names_of_the_features() -> None:
    assert tuple(flag_names(HEART).values()) == FEATURE_NAMES


def test_a_patient_s_flags_are_words_of_a_command_line_and_each_another_one() -> None:
    names = ("Mean Radius", "mean_radius", "ph.ecog", "run", "%", "out")
    columns = tuple(replace(HEART.features[0], name=name) for name in names)
    flags = flag_names(replace(HEART, features=columns))
    assert list(flags.values()) == ["mean-radius", "mean-radius-2", "ph-ecog", "run-4", "feature", "out-6"]


# --- exit codes -------------------------------------------------------------------------------------------------------

NO_FILE = "no/such/file"
WRONG: dict[str, list[str]] = {
    "certificates": ["--hospitals", "../up"],
    "schema": ["check", NO_FILE, NO_FILE],
    "doctor": [],
    "simulate": ["--data", NO_FILE],
    "receipts": [NO_FILE],
    "predict": [NO_FILE, "--age", "63"],
    "export": [NO_FILE],
    "coefficients": [NO_FILE],
    "report": [NO_FILE],
    "compare": ["--source", NO_FILE],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("bogus", [True, False], ids=["an unknown flag", "a wrong file or value"])
def test_a_wrong_flag_or_value_is_exit_code_2_and_one_line(
    name: str, bogus: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([name, "--bogus", "1"] if bogus else [name, *WRONG[name]]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ") and len(err) > 20


def test_a_demo_that_is_stopped_prints_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", stop)
    assert demo.main([]) == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"


# --- tab completion ---------------------------------------------------------------------------------------------------


def complete(completion: Path, *words: str) -> list[str]:
    """Bash's completions of the last of these words."""
    program = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        'function=$(complete -p "${1##*/}" | sed "s/.*-F \\([^ ]*\\).*/\\1/"); "$function"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "-c", program, "bash", str(completion), *words]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (
            server.main,
            {"./server.py --strat": ["--strategy"], "./server.py --strategy fedad": ["fedadam", "fedadagrad"]},
        ),
        (client.main, {"./client.py data/client_1.csv --save-m": ["--save-model"]}),
        (create_dataset.main, {"./create_dataset.py --split lab": ["label-skew"]}),
        (
            main,
            {
                "fedhealth pre": ["predict"],
                "fedhealth predict runs/x --se": ["--sex"],
                "fedhealth simulate --model m": ["mlp"],
            },
        ),
    ],
    ids=["server", "client", "create_dataset", "fedhealth"],
)
def test_bash_completes_flags_choices_and_commands(
    program: Script,
    lines: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [next(iter(lines)).split()[0]])
    with pytest.raises(SystemExit):
        program(["--tyro-print-completion", "bash"])
    completion = tmp_path / "completion.bash"
    completion.write_text(capsys.readouterr().out, encoding="utf-8")
    assert {line: complete(completion, *line.split()) for line in lines} == lines
