"""A run as the coordinator and the hospitals read it: `words.py` makes the lines, `screen.py` decides where they go."""

from fedhealth.console.screen import ServerConsole
from fedhealth.console.words import (
    SYNTHETIC,
    client_line,
    describe_source,
    footnotes,
    header_lines,
    number,
    pace_line,
    round_line,
    round_notes,
    table_text,
)

__all__ = [
    "SYNTHETIC",
    "ServerConsole",
    "client_line",
    "describe_source",
    "footnotes",
    "header_lines",
    "number",
    "pace_line",
    "round_line",
    "round_notes",
    "table_text",
]
