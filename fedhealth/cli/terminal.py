"""The terminal interface of scripts and commands: flags, printed lines, exit codes, signals.

Only the scripts and `python -m fedhealth` print, and they print with `say`, `note` and `warn`.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TextIO, TypeVar, cast

from fedhealth.common.errors import FedHealthError, UsageError

Settings = TypeVar("Settings")
STOPS = (signal.SIGINT, signal.SIGTERM)
REWRITES = (
    (r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*?); ", r"\1 is \2; give a whole number; "),
    (r"Error parsing (\S+): could not convert string to float: (.*?); ", r"\1 is \2; give a number; "),
    (
        r"Error parsing (\S+): no type matching {None}\|INT .*? from \[(.*?)\]\. .*?; (?=For)",
        r"\1 is \2; give a whole number; ",
    ),
    (
        r"Error parsing (\S+): no type matching {None}\|FLOAT .*? from \[(.*?)\]\. .*?; (?=For)",
        r"\1 is \2; give a number; ",
    ),
    (r"Argument helptext: .*(?=For full helptext)", ""),
    (
        r"( is (['\"])\d{1,3}(?:[,.'\s]\d{3})+\2; give a whole number);",
        r"\1 without separators, such as 1000;",
    ),
    (r"( is '[\d.\s]*,[\d.,]*'; give a number);", r"\1 with a decimal point and no commas, such as 0.5 or 1000;"),
)
"""Patterns of messages of Python and tyro about a wrong value, and their replacements."""


class Script(Protocol):
    """The type of a decorated main function: command line (default: the process's own) -> exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the script."""
        ...


def parse_flags(settings_class: type[Settings], argv: Sequence[str] | None, program: str | None = None) -> Settings:
    """Parse a command line into settings; raises a one-line `UsageError` that suggests the right flag for a wrong one.

    `program` is the name in the help text (default: the script's file name).
    """
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.OmitArgPrefixes)
    groups = flag_groups(settings_class)
    kind: type[Any] = _grouped_class(settings_class, groups) if groups else settings_class
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), respect_no_color():
            flags = tyro.cli(kind, prog=program, args=argv, config=config)
    except SystemExit as end:
        if not end.code:  # None, where tyro has printed a completion
            raise
        raise UsageError(_as_one_line(errors.getvalue())) from None
    if groups:
        flags = settings_class(
            **{name: value for group in groups for name, value in vars(getattr(flags, group)).items()}
        )
    use_line_format(flags)
    return cast(Settings, flags)


def flag_groups(settings_class: type[Any]) -> dict[str, type[Any]]:
    """Title -> class, for the classes named `...Flags` that the settings inherit from, last base first."""
    bases = reversed(inspect.getmro(settings_class)) if isinstance(settings_class, type) else ()
    groups = (base for base in bases if base.__name__.endswith("Flags"))
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", base.__name__.removesuffix("Flags")).lower(): base for base in groups}


def _grouped_class(settings_class: type[Any], groups: Mapping[str, type[Any]]) -> type[Any]:
    """A class with one field per group, which tyro shows as one box each; the defaults are those of the settings."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings_class)}
    fields = [
        (title, base, base(**{f.name: defaults[f.name] for f in dataclasses.fields(base)}))
        for title, base in groups.items()
    ]
    return dataclasses.make_dataclass(
        settings_class.__name__, fields, frozen=True, namespace={"__doc__": settings_class.__doc__}
    )


@contextlib.contextmanager
def respect_no_color() -> Iterator[None]:
    """Turn colours off in help texts if NO_COLOR is set (https://no-color.org); tyro only reads TERM."""
    term = os.environ.get("TERM")
    if not os.environ.get("NO_COLOR") or term is None:
        yield
        return
    os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        os.environ["TERM"] = term


def _as_one_line(text: str) -> str:
    """Tyro's boxed error message as one line, without frame, title and rules."""
    lines = [line.strip("│ ") for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    words = " ".join(";" if set(line) <= {"─"} else line for line in lines if line)
    words = words.replace(" ; ", "; ").replace("Perhaps you", "perhaps you")
    for pattern, replacement in REWRITES:
        words = re.sub(pattern, replacement, words)
    return words


def script(main: Callable[[Sequence[str] | None], int | None]) -> Script:
    """Decorate a main function to return an exit code: 0 or its own; 2 or 1 after errors; 130 or 143 if it was stopped.

    Errors are printed as one line each. The first Ctrl-C or SIGTERM raises `KeyboardInterrupt`, a second one ends the process
    at once. A note on an exception (`add_note`), such as how to resume, is printed in the same line.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        escape_unencodable()
        try:
            with _stoppable():
                return main(argv) or 0
        except FedHealthError as error:
            for line in _with_notes(error).splitlines():
                _print(line, "error", sys.stderr)
            return error.exit_code
        except KeyboardInterrupt as stop:
            _print(_with_notes(stop) or "stopped by Ctrl-C", "info", sys.stderr)
            return 128 + (signal.SIGTERM if "SIGTERM" in str(stop) else signal.SIGINT)
        except BrokenPipeError:
            # The reader of our output (`| head`) has ended; without this, Python would print another error at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    return run


def escape_unencodable() -> None:
    """Let stdout and stderr print every text: a character that their encoding lacks is escaped as Python writes it.

    On Windows `python server.py > log.txt` is cp1252, which has no letter for the hospital of Łódź.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `KeyboardInterrupt` for the first Ctrl-C or SIGTERM; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers, and only it is interrupted
        return

    def stop(number: int, _: object) -> None:
        for each in STOPS:
            signal.signal(each, lambda again, _: os._exit(128 + again))
        raise KeyboardInterrupt("stopped by Ctrl-C" if number == signal.SIGINT else "stopped by SIGTERM")

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_notes(error: BaseException) -> str:
    return "; ".join(filter(None, [str(error), *getattr(error, "__notes__", [])]))


@dataclasses.dataclass
class LineFormat:
    """How lines are printed: as they are, with the time before each, or as one JSON object for each."""

    timestamps: bool = False
    log_format: str = "text"

    def render(self, text: str, level: str) -> str | None:
        """The text as it is printed; None for an empty line that JSON does not need."""
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        if self.log_format == "json":
            line = json.dumps({"time": now, "level": level, "message": text}, ensure_ascii=False)
            return line if text.strip() else None
        shown = text if level == "info" else f"{level}: {text}"
        return "\n".join(f"{now}  {line}" for line in shown.split("\n")) if self.timestamps else shown


_format = LineFormat()


def use_line_format(settings: object) -> None:
    """From now on print as the settings say; those of a command without such flags mean plain lines."""
    _format.timestamps = getattr(settings, "timestamps", False)
    _format.log_format = getattr(settings, "log_format", "text")


def say(text: str = "") -> None:
    """Print one line, flushed at once even in a pipe."""
    _print(text, "info", sys.stdout)


def note(text: str) -> None:
    """Print one line to stderr that is no warning, where stdout holds data."""
    _print(text, "info", sys.stderr)


def warn(text: str) -> None:
    """Print one line to stderr as a warning."""
    _print(text, "warning", sys.stderr)


def _print(text: str, level: str, file: TextIO) -> None:
    rendered = _format.render(text, level)
    if rendered is not None:
        print(rendered, file=file, flush=True)
