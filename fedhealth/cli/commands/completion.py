"""`python -m fedhealth completion`: tab completion for bash, of the scripts and of all commands.

tyro writes a completion for a program of one word; ours are called `python server.py` and `python -m fedhealth COMMAND`. So
tyro's functions are taken as they are, and one of ours, for `python`, finds out which of them is meant.
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Sequence
from functools import partial

from fedhealth.cli.commands import COMMANDS
from fedhealth.cli.terminal import Script, parse_flags, say, script
from fedhealth.config.commands import CompletionSettings
from fedhealth.config.scripts import ClientSettings, DatasetSettings, ServerSettings

SCRIPTS: dict[str, type] = {
    "create_dataset.py": DatasetSettings,
    "server.py": ServerSettings,
    "client.py": ClientSettings,
}
ASK_TYRO = ["--tyro-print-completion", "bash"]
REGISTRATION = "# Register completion"
"""Where tyro's text goes on to claim its program's words for itself."""
DISPATCH = """
# Hand the words after our program to its function; whatever else python is called for keeps the shell's own completion.
_fedhealth() {
  local skip function
  case "${COMP_WORDS[1]##*/}" in
%(scripts)s
  esac
  if [[ "${COMP_WORDS[1]}" == -m && "${COMP_WORDS[2]}" == fedhealth ]]; then
    if [[ $COMP_CWORD -eq 3 ]]; then
      COMPREPLY=($(compgen -W "%(names)s --help" -- "${COMP_WORDS[3]}"))
      return
    fi
    case "${COMP_WORDS[3]}" in
%(commands)s
    esac
  fi
  COMPREPLY=()
  if [[ -n "$function" && $COMP_CWORD -gt $skip ]]; then
    local -a COMP_WORDS=("${COMP_WORDS[@]:$skip}")
    local COMP_CWORD=$((COMP_CWORD - skip))
    "$function"
  fi
}
complete -o bashdefault -o default -F _fedhealth python python3
"""


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Print what a shell has to read."""
    parse_flags(CompletionSettings, argv, program="python -m fedhealth completion")
    say(completion_text())


def completion_text() -> str:
    """Tyro's function for each program, and ours that chooses between them."""
    scripts = {name: _ask(partial(parse_flags, kind, ASK_TYRO, name)) for name, kind in SCRIPTS.items()}
    commands = {name: _ask(partial(_find_main(name), ASK_TYRO)) for name in COMMANDS if name != "completion"}
    dispatch = DISPATCH % {
        "scripts": _cases(scripts, skip=1),
        "commands": _cases(commands, skip=3),
        "names": " ".join(COMMANDS),
    }
    return "\n".join([*(text for _, text in (*scripts.values(), *commands.values())), dispatch])


def _find_main(name: str) -> Script:
    command: Script = importlib.import_module(f"fedhealth.cli.commands.{name}").main
    return command


def _ask(print_completion: Callable[[], object]) -> tuple[str, str]:
    """Tyro's completion function for one program: its name and its text."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        print_completion()
    text, registration = printed.getvalue().split(REGISTRATION, 1)
    return registration.split("complete -F ", 1)[1].split()[0], text


def _cases(programs: dict[str, tuple[str, str]], skip: int) -> str:
    return "\n".join(f"    {name}) skip={skip} function={function} ;;" for name, (function, _) in programs.items())
