"""`python -m fedhealth schema`: drafts a schema file from a table, or checks a table against one."""

import sys
from collections.abc import Sequence
from pathlib import Path

from fedhealth.cli.terminal import note, parse_flags, say, script, warn
from fedhealth.config.commands import SchemaSettings


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Print the draft, or the summary of the schema and the table."""
    settings = parse_flags(SchemaSettings, argv, program="python -m fedhealth schema")
    if settings.action == "draft":
        (table,) = settings.files
        draft(table, settings.outcome, settings.min_count)
    else:
        schema, table = settings.files
        check(schema, table, settings.min_count)


def draft(table: Path, outcome: str | None, min_count: int) -> None:
    """Print the draft of a table's schema."""
    from fedhealth.data.schema_draft import draft_schema

    text = draft_schema(table, outcome, min_count)
    say(text.rstrip("\n"))
    note(f"decide the {text.count('# ?')} lines with # ? in it, then: python -m fedhealth schema check my.toml {table}")


def check(file: Path, table: Path, min_count: int) -> None:
    """Check both as client.py would, and print what they hold."""
    from fedhealth.data.hospital import load_hospital
    from fedhealth.data.schema_file import load_schema
    from fedhealth.reporting.console.schema_text import column_table, hospital_line, schema_line

    schema = load_schema(file)
    hospital = load_hospital(table, schema=schema)
    for warning in hospital.warnings:
        warn(warning)
    say(schema_line(schema))
    say(hospital_line(hospital, min_count))
    say(column_table(hospital, min_count, terminal=sys.stdout.isatty()))
    say(f"client.py {table} --schema {file} can take part")
