"""`python -m fedhealth COMMAND`, installed as `fedhealth COMMAND`: everything beside the three scripts of a run."""

import functools
import importlib
import operator
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from fedhealth.cli.terminal import Script, parse_flags, say, script
from fedhealth.common.errors import UsageError
from fedhealth.config.commands import CertificatesSettings, DoctorSettings, ReceiptsSettings
from fedhealth.config.results import ExportSettings, PredictSettings, ReportSettings
from fedhealth.config.simulate import SimulateSettings

COMMANDS: dict[str, tuple[type, str]] = {
    "certificates": (CertificatesSettings, "make the certificates of a federation (TLS)"),
    "doctor": (DoctorSettings, "ask from a hospital's computer whether it is ready to take part"),
    "simulate": (SimulateSettings, "a whole federation on this machine, of some or very many hospitals"),
    "receipts": (ReceiptsSettings, "check a hospital's record of what has left it, and sum it up"),
    "predict": (PredictSettings, "risk of heart disease for new patients, from a run's model"),
    "export": (ExportSettings, "a run's model for other programs (Keras, ONNX, TensorFlow Lite)"),
    "report": (ReportSettings, "report.html and MODEL_CARD.md of a run; several runs compared"),
}
"""Command -> its flags and what it does, in the order of the help page; `cli.commands` has a module of that name."""


@script
def main(argv: Sequence[str] | None = None) -> int | None:
    """Hand the command line to its command, or list the commands."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        say(help_text())
        return None
    if name.startswith("--tyro-"):  # a completion, of all commands at once
        parse_flags(all_flags(), [name, *arguments], program="fedhealth")
    if name not in COMMANDS:
        raise UsageError(f"{name} is no command; there are {', '.join(COMMANDS)} (python -m fedhealth --help)")
    command: Script = importlib.import_module(f"fedhealth.cli.commands.{name}").main
    return command(arguments)


def all_flags() -> Any:
    """The commands as tyro's subcommands."""
    import tyro

    flags = (Annotated[kind, tyro.conf.subcommand(name, description=what)] for name, (kind, what) in COMMANDS.items())
    return functools.reduce(operator.or_, flags)


def help_text() -> str:
    """All commands on one screen."""
    width = max((len(name) for name in COMMANDS), default=0)
    lines = [f"  {name:<{width}}   {what}" for name, (_, what) in COMMANDS.items()]
    more = [
        "python -m fedhealth COMMAND --help tells its flags, with an example to paste.",
        "Exit codes: 0 done, 1 failed, 2 wrong flags or files, 130 stopped by Ctrl-C. NO_COLOR=1 switches colours off.",
    ]
    return "\n".join(["usage: python -m fedhealth COMMAND ...", "", *lines, "", *more])


if __name__ == "__main__":
    sys.exit(main())
