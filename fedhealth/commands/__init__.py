"""The commands of `python -m fedhealth`, a file each: flags in, story, lines out. The work is done in other rooms."""

COMMANDS: dict[str, str] = {
    "compare": "what federation is worth: each hospital alone, federated, all rows in one place",
}
"""Command -> what it does, in the order of the help page; the module of that name here holds its `main`."""
