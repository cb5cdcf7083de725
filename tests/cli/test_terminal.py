"""The terminal interface: flags, exit codes, one line per error, signals, quiet libraries."""

import dataclasses
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedhealth.cli.terminal import flag_groups, parse_flags, say, script, warn
from fedhealth.common import runtime_env
from fedhealth.common.errors import DataError, RunError, UsageError
from fedhealth.common.runtime_env import quiet_libraries, silenced_stderr
from fedhealth.config.scripts import ClientSettings, DatasetSettings, ServerSettings
from fedhealth.config.simulate import SimulateSettings
from tests.support.processes import PATIENCE

ROOT = Path(__file__).parents[2]


def error_line(kind: type[Any], argv: Sequence[str]) -> str:
    with pytest.raises(UsageError) as caught:
        parse_flags(kind, argv)
    line = str(caught.value)
    assert "\n" not in line
    assert not set("│╭╰─") & set(line), "the frame of the message is still there"
    return line


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "start"),
    [
        (["--rounds", "abc"], "--rounds is 'abc'; give a whole number; "),
        (["--rounds", "3.5"], "--rounds is '3.5'; give a whole number; "),
        (["--learning-rate", "x"], "--learning-rate is 'x'; give a number; "),
        (["--dashboard", "on"], "--dashboard is 'on'; give a whole number; "),
        (["--rounds", "1,000"], "--rounds is '1,000'; give a whole number without separators, such as 1000; "),
        (["--rounds", "1 000"], "--rounds is '1 000'; give a whole number without separators, such as 1000; "),
        (["--seed", "1'000.000"], '--seed is "1\'000.000"; give a whole number without separators, such as 1000; '),
        (["--dashboard", "8,080"], "--dashboard is '8,080'; give a whole number without separators, such as 1000; "),
        (
            ["--learning-rate", "0,15"],
            "--learning-rate is '0,15'; give a number with a decimal point and no commas, such as 0.5 or 1000; ",
        ),
        (
            ["--round-timeout", "3,600"],
            "--round-timeout is '3,600'; give a number with a decimal point and no commas, such as 0.5 or 1000; ",
        ),
    ],
)
def test_a_value_that_is_not_a_number_has_a_plain_message(argv: list[str], start: str) -> None:
    line = error_line(ServerSettings, argv)
    assert line.startswith(start)
    assert line.removeprefix(start).startswith("For full helptext, see "), "there is other text"


def test_flags_become_settings() -> None:
    argv = ["--hospitals", "2", "--learning-rate", "0.5", "--no-missing-indicators", "--out", "runs/a", "--verbose"]
    expected = ServerSettings(
        hospitals=2, learning_rate=0.5, missing_indicators=False, out=Path("runs/a"), verbose=True
    )
    assert parse_flags(ServerSettings, argv) == expected
    assert parse_flags(ServerSettings, []) == ServerSettings()
    assert parse_flags(ClientSettings, ["data/client_1.csv"]) == ClientSettings(Path("data/client_1.csv"))
    assert parse_flags(ClientSettings, ["a.csv", "--name", "va"]) == ClientSettings(Path("a.csv"), name="va")
    assert parse_flags(DatasetSettings, ["--split", "iid"]) == DatasetSettings(split="iid")


@pytest.mark.parametrize(
    ("kind", "argv", "wrong", "right"),
    [
        (ServerSettings, ["--rouns", "3"], "--rouns", "--rounds"),
        (ServerSettings, ["--hospital", "3"], "--hospital", "--hospitals"),
        (ServerSettings, ["--learning_rat", "3"], "--learning", "--learning-rate"),
        (ServerSettings, ["--verbos"], "--verbos", "--verbose"),
        (ClientSettings, ["a.csv", "--savemodel", "x.keras"], "--savemodel", "--save-model"),
        (DatasetSettings, ["--splt", "iid"], "--splt", "--split"),
    ],
)
def test_a_mistyped_flag_suggests_the_right_one_in_one_line(
    kind: type[Any], argv: list[str], wrong: str, right: str
) -> None:
    line = error_line(kind, argv)
    assert wrong in line
    assert "perhaps you meant" in line
    assert right in line.partition("perhaps you meant")[2]


@pytest.mark.parametrize(
    ("kind", "argv", "parts"),
    [
        (ServerSettings, ["--rounds", "abc"], ["--rounds", "abc"]),
        (ServerSettings, ["--rounds", "2.5"], ["--rounds", "2.5"]),
        (ServerSettings, ["--rounds"], ["--rounds"]),
        (ServerSettings, ["--learning-rate", "fast"], ["--learning-rate", "fast"]),
        (ServerSettings, ["--model", "cnn"], ["--model", "cnn", "mlp", "logistic"]),
        (ServerSettings, ["--scaling", "none"], ["--scaling", "none", "federated", "reference", "local"]),
        (ServerSettings, ["--colour", "red"], ["--colour"]),
        (ServerSettings, ["surplus"], ["surplus"]),
        (ClientSettings, ["a.csv", "b.csv"], ["b.csv"]),
        (DatasetSettings, ["--split", "fair"], ["--split", "fair", "natural", "label-skew"]),
    ],
)
def test_a_wrong_value_is_named_with_its_flag_in_one_line(kind: type[Any], argv: list[str], parts: list[str]) -> None:
    line = error_line(kind, argv)
    for part in parts:
        assert part in line


def test_a_value_out_of_its_range_has_the_message_of_the_settings() -> None:
    assert error_line(ServerSettings, ["--rounds", "0"]) == "--rounds is 0; give 1 or more"


def test_a_client_without_a_file_names_the_missing_argument() -> None:
    line = error_line(ClientSettings, [])
    assert "PATH" in line
    assert "CSV" in line


def test_a_wrong_flag_prints_nothing_itself(capsys: pytest.CaptureFixture[str]) -> None:
    error_line(ServerSettings, ["--rouns", "3"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [ServerSettings, ClientSettings, DatasetSettings], ids=lambda kind: kind.__name__)
def test_help_ends_with_0_and_lists_every_flag(kind: type[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_flags(kind, ["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for field in dataclasses.fields(kind):
        flag = "PATH" if field.default is dataclasses.MISSING else f"--{field.name.replace('_', '-')}"
        assert flag in shown.out, flag
    assert "Example: python" in shown.out


def test_the_servers_help_shows_its_flags_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_flags(ServerSettings, ["--help"])
    titles = re.findall(r"(\S+) options\W*$", capsys.readouterr().out, re.MULTILINE)
    assert titles == ["run", "model", "robustness", "model-selection", "privacy", "server"]


def test_every_flag_of_the_server_and_the_simulation_is_in_one_group() -> None:
    for kind in (ServerSettings, SimulateSettings):
        grouped = [field.name for group in flag_groups(kind).values() for field in dataclasses.fields(group)]
        assert sorted(grouped) == sorted(field.name for field in dataclasses.fields(kind))


# --- exit codes -------------------------------------------------------------------------------------------------------


def end_with(error: BaseException | None, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    @script
    def main(argv: Sequence[str] | None = None) -> None:
        """A main function."""
        if error:
            raise error

    code = main([])
    output = capsys.readouterr()
    assert output.out == ""
    return code, output.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 0, ""),
        (UsageError("--rounds is 0; give 1 or more"), 2, "error: --rounds is 0; give 1 or more\n"),
        (DataError(["row 2: chol is -4", "row 3: age is 7"]), 2, "error: row 2: chol is -4\nerror: row 3: age is 7\n"),
        (RunError("every hospital has left"), 1, "error: every hospital has left\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
        (KeyboardInterrupt("stopped by SIGTERM"), 143, "stopped by SIGTERM\n"),
    ],
)
def test_every_end_has_an_exit_code_and_one_line_per_error_on_stderr(
    error: BaseException | None, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_with(error, capsys) == (code, text)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RunError("round 3: too few"), "error: round 3: too few; go on with: --resume runs/a\n"),
        (KeyboardInterrupt("stopped by Ctrl-C"), "stopped by Ctrl-C; go on with: --resume runs/a\n"),
        (KeyboardInterrupt(), "go on with: --resume runs/a\n"),
    ],
)
def test_a_note_on_an_exception_is_printed_in_the_same_line(
    error: BaseException, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error.add_note("go on with: --resume runs/a")
    assert end_with(error, capsys)[1] == text


def test_an_exit_code_of_its_own_is_returned() -> None:
    @script
    def main(argv: Sequence[str] | None = None) -> int:
        """A main function with an exit code of its own."""
        return 3

    assert main([]) == 3


def test_a_file_with_very_many_errors_shows_twenty_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = end_with(DataError([f"row {number}: bad" for number in range(1, 46)]), capsys)
    lines = text.splitlines()
    assert (code, len(lines)) == (2, 21)
    assert (lines[0], lines[19], lines[20]) == (
        "error: row 1: bad",
        "error: row 20: bad",
        "error: ... and 25 more faults",
    )


def test_a_bug_keeps_its_traceback() -> None:
    @script
    def main(argv: Sequence[str] | None = None) -> None:
        """A main function with a bug."""
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])


def test_a_script_passes_its_arguments_on_and_keeps_its_name() -> None:
    received: list[Sequence[str] | None] = []

    @script
    def main(argv: Sequence[str] | None = None) -> None:
        """The main function."""
        received.append(argv)

    assert (main(["--rounds", "3"]), main(None), main()) == (0, 0, 0)
    assert received == [["--rounds", "3"], None, None]
    assert (main.__name__, main.__doc__) == ("main", "The main function.")  # type: ignore[attr-defined]  # functools.wraps


def test_a_closed_pipe_causes_no_traceback() -> None:
    program = (
        "import sys; from fedhealth.cli import terminal\n"
        "@terminal.script\n"
        "def main(argv=None):\n"
        "    for _ in range(100_000): terminal.say('a line without reader')\n"
        "sys.exit(main([]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"a line without reader\n"
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == 1
    assert errors == b""


def test_say_writes_to_stdout_and_warn_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("listening")
    say()
    warn("patients repeat")
    assert capsys.readouterr() == ("listening\n\n", "warning: patients repeat\n")


@pytest.mark.parametrize(
    ("encoding", "lodz"),
    [("cp1252", b"\\u0141\xf3d\\u017a"), ("ascii", b"\\u0141\\xf3d\\u017a")],
    ids=["cp1252", "ascii"],
)
def test_a_name_that_the_output_cannot_encode_is_escaped_and_ends_no_script(
    encoding: str, lodz: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    @script
    def main(argv: Sequence[str] | None = None) -> None:
        """A story of two hospitals."""
        say("joined: Łódź")
        raise RunError("病院 cannot train")

    assert main([]) == 1
    err.flush()
    assert out.buffer.getvalue() == b"joined: " + lodz + b"\n"  # type: ignore[attr-defined]
    assert err.buffer.getvalue() == b"error: \\u75c5\\u9662 cannot train\n"  # type: ignore[attr-defined]


# --- stopped ----------------------------------------------------------------------------------------------------------

WAITING = """
import sys, threading
from fedhealth.common.errors import RunError
from fedhealth.cli.terminal import say, script
@script
def main(argv=None):
    try:
        say("ready")
        threading.Event().wait()
    finally:
        say("cleaning up")
        {afterwards}
sys.exit(main([]))
"""


def stop(afterwards: str, *signals: int) -> tuple[int, list[str], str]:
    """(exit code, lines, errors) of a script that receives these signals, each after the line that follows the one before."""
    program = [sys.executable, "-c", WAITING.format(afterwards=afterwards)]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        lines = []
        for number in signals:
            lines.append(process.stdout.readline().strip())
            process.send_signal(number)
        rest, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, [*lines, *rest.splitlines()], errors


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C\n"), (signal.SIGTERM, 143, "stopped by SIGTERM\n")],
)
def test_a_script_that_is_stopped_cleans_up_and_prints_one_line(number: int, code: int, text: str) -> None:
    assert stop("say('done')", number) == (code, ["ready", "cleaning up", "done"], text)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_script_at_once_during_its_clean_up(first: int, second: int) -> None:
    for_ever = "threading.Event().wait()"
    assert stop(for_ever, first, second) == (128 + second, ["ready", "cleaning up"], "")


def test_an_error_during_clean_up_is_still_one_line() -> None:
    code, _, errors = stop("raise RunError('the port stays open')", signal.SIGTERM)
    assert (code, errors) == (1, "error: the port stays open\n")


def test_signal_handlers_are_restored_after_a_script() -> None:
    received: list[int] = []
    own = {number: signal.signal(number, lambda number, _: received.append(number)) for number in (2, 15)}
    try:
        before = [signal.getsignal(number) for number in own]
        for error in (None, RunError("too few"), KeyboardInterrupt("stopped by Ctrl-C")):

            @script
            def main(argv: Sequence[str] | None = None, error: BaseException | None = error) -> None:
                """A main function."""
                assert [signal.getsignal(number) for number in own] != before
                if error:
                    raise error

            main([])
            assert [signal.getsignal(number) for number in own] == before
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)


def test_a_script_in_another_thread_leaves_signals_alone() -> None:
    seen: list[object] = []

    @script
    def main(argv: Sequence[str] | None = None) -> None:
        """A main function."""
        seen.append(signal.getsignal(signal.SIGTERM))

    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main([])))
    thread.start()
    thread.join()
    assert (codes, seen) == ([0], [signal.getsignal(signal.SIGTERM)])


# --- quiet libraries --------------------------------------------------------------------------------------------------

FORCED = {
    **{"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"},
    **{"KERAS_BACKEND": "tensorflow", "KERAS_HOME": runtime_env.__file__},
}
DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "GRPC_VERBOSITY": "NONE",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An environment without settings of the libraries; Flower's logger is restored afterwards."""
    logger = logging.getLogger("flwr")
    before = logger.disabled
    rest = {name: value for name, value in os.environ.items() if name not in FORCED | DEFAULTS}
    monkeypatch.setattr(os, "environ", rest)
    yield rest
    logger.disabled = before


def test_quiet_libraries_send_no_telemetry_and_print_nothing(environment: dict[str, str]) -> None:
    environment.update(dict.fromkeys(FORCED, "something else"))
    quiet_libraries()
    assert environment.items() >= (FORCED | DEFAULTS).items()


def test_a_user_can_set_more_threads_or_more_log(environment: dict[str, str]) -> None:
    environment.update(dict.fromkeys(DEFAULTS, "2"))
    quiet_libraries()
    assert environment.items() >= (FORCED | dict.fromkeys(DEFAULTS, "2")).items()


@pytest.mark.usefixtures("environment")
def test_flower_s_log_is_silent_unless_asked_for() -> None:
    logger = logging.getLogger("flwr")
    quiet_libraries()
    assert logger.disabled
    quiet_libraries(verbose=True)
    assert not logger.disabled


def test_flower_reads_the_variables_that_switch_off_telemetry_and_update_check() -> None:
    program = (
        "import os; from fedhealth.common import runtime_env; runtime_env.quiet_libraries()\n"
        "from flwr.supercore import constant, telemetry\n"
        "print(telemetry.FLWR_TELEMETRY_ENABLED, os.environ[constant.FLWR_DISABLE_UPDATE_CHECK])"
    )
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "1", "FLWR_DISABLE_UPDATE_CHECK": "0"}
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.split() == ["0", "1"]


def test_silenced_stderr_silences_native_code_and_restores_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced_stderr():
        os.write(2, b"a native library prints\n")
    os.write(2, b"back again\n")
    assert capfd.readouterr().err == "back again\n"


def test_stderr_is_restored_when_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), silenced_stderr():
        raise ImportError
    os.write(2, b"back again\n")
    assert capfd.readouterr().err == "back again\n"
