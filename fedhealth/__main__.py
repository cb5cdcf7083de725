"""`python -m fedhealth COMMAND`: everything beside the three scripts of a run."""

import importlib
import sys
from collections.abc import Sequence

from fedhealth.cli.commands import COMMANDS
from fedhealth.cli.terminal import Script, say, script
from fedhealth.common.errors import UsageError


@script
def main(argv: Sequence[str] | None = None) -> int | None:
    """Hand the command line to its command, or list the commands."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        say(help_text())
        return None
    if name not in COMMANDS:
        raise UsageError(f"{name} is no command; there are {', '.join(COMMANDS)} (python -m fedhealth --help)")
    command: Script = importlib.import_module(f"fedhealth.cli.commands.{name}").main
    return command(arguments)


def help_text() -> str:
    """All commands on one screen."""
    width = max((len(name) for name in COMMANDS), default=0)
    lines = [f"  {name:<{width}}   {what}" for name, what in COMMANDS.items()]
    more = [
        "python -m fedhealth COMMAND --help tells its flags, with an example to paste.",
        "Tab completion: python -m fedhealth completion > completion.bash && source completion.bash (bash).",
        "Exit codes: 0 done, 1 failed, 2 wrong flags or files, 130 stopped by Ctrl-C. NO_COLOR=1 switches colours off.",
    ]
    return "\n".join(["usage: python -m fedhealth COMMAND ...", "", *lines, "", *more])


if __name__ == "__main__":
    sys.exit(main())
