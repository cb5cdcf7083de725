"""The commands of `python -m fedhealth`, a file each: flags in, story, lines out. The work is done in other rooms."""

COMMANDS: dict[str, str] = {}
"""Command -> what it does, in the order of the help page; the module of that name here holds its `main`."""
