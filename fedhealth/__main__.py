"""`python -m fedhealth COMMAND`, installed as `fedhealth COMMAND`: the commands besides the three scripts of a run."""

import functools
import importlib
import operator
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from fedhealth.cli.terminal import Script, parse_flags, say, script
from fedhealth.common.errors import UsageError
from fedhealth.config.commands import CertificatesSettings, DoctorSettings, ReceiptsSettings, SchemaSettings
from fedhealth.config.results import CoefficientsSettings, ExportSettings, PredictSettings, ReportSettings
from fedhealth.config.simulate import SimulateSettings

COMMANDS: dict[str, tuple[type, str]] = {
    "certificates": (CertificatesSettings, "make the TLS certificates of a federation"),
    "schema": (SchemaSettings, "draft a schema file from a table of your own, or check a table against one"),
    "doctor": (DoctorSettings, "check on a hospital's computer whether it is ready to take part"),
    "simulate": (SimulateSettings, "run a whole federation on this machine, with few or very many hospitals"),
    "receipts": (ReceiptsSettings, "verify and summarise a hospital's record of what it has sent"),
    "predict": (PredictSettings, "predict the risks of new patients with a run's model"),
    "export": (ExportSettings, "export a run's model to Keras, ONNX or TensorFlow Lite"),
    "coefficients": (CoefficientsSettings, "print the odds ratios of a run with --strategy newton, with intervals"),
    "report": (ReportSettings, "write report.html and MODEL_CARD.md of a run, or compare several runs"),
}
"""Command -> (settings, summary), in the order of the help page; the module in `cli.commands` has the same name."""


@script
def main(argv: Sequence[str] | None = None) -> int | None:
    """Run the command that the command line names, or list the commands."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        say(help_text())
        return None
    if name.startswith("--tyro-"):  # a completion script for all commands
        parse_flags(all_flags(), [name, *arguments], program="fedhealth")
    if name not in COMMANDS:
        raise UsageError(f"{name} is not a command; give one of {', '.join(COMMANDS)} (python -m fedhealth --help)")
    command: Script = importlib.import_module(f"fedhealth.cli.commands.{name}").main
    return command(arguments)


def all_flags() -> Any:
    """The settings of all commands as a union of tyro subcommands."""
    import tyro

    from fedhealth.cli.patient_flags import predict_settings
    from fedhealth.data.schema_file import heart_disease

    kinds = {**COMMANDS, "predict": (predict_settings(heart_disease()), COMMANDS["predict"][1])}
    flags = (Annotated[kind, tyro.conf.subcommand(name, description=what)] for name, (kind, what) in kinds.items())
    return functools.reduce(operator.or_, flags)


def help_text() -> str:
    """The help page: all commands on one screen."""
    width = max((len(name) for name in COMMANDS), default=0)
    lines = [f"  {name:<{width}}   {what}" for name, (_, what) in COMMANDS.items()]
    more = [
        "python -m fedhealth COMMAND --help lists its flags, with an example.",
        "Exit codes: 0 done, 1 failed, 2 wrong flags or files, 130 stopped by Ctrl-C. NO_COLOR=1 turns colours off.",
    ]
    return "\n".join(["usage: python -m fedhealth COMMAND ...", "", *lines, "", *more])


if __name__ == "__main__":
    sys.exit(main())
