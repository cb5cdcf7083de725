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
        draft(settings, table)
    else:
        schema, table = settings.files
        check(settings, schema, table)


def draft(settings: SchemaSettings, table: Path) -> None:
    """Print the draft of a table's schema."""
    from fedhealth.data.readers.read_any import ReadOptions
    from fedhealth.data.schema_draft import draft_schema

    options = ReadOptions(settings.sheet, settings.decimal)
    text = draft_schema(table, settings.outcome, settings.min_count, options)
    say(text.rstrip("\n"))
    note(f"decide the {text.count('# ?')} lines with # ? in it, then: python -m fedhealth schema check my.toml {table}")


def check(settings: SchemaSettings, file: Path, table: Path) -> None:
    """Check both as client.py would, and print what they hold."""
    from fedhealth.data.hospital import load_hospital
    from fedhealth.data.patients import fits_usual_split
    from fedhealth.data.readers.read_any import load_options
    from fedhealth.data.schema_file import load_schema
    from fedhealth.reporting.console.schema_text import column_table, hospital_line, schema_line

    schema = load_schema(file)
    options = load_options(schema, settings.sheet, settings.decimal, settings.mapping)
    hospital = load_hospital(table, schema=schema, options=options)
    for warning in hospital.warnings:
        warn(warning)
    say(schema_line(schema))
    say(hospital_line(hospital, settings.min_count))
    say(column_table(hospital, settings.min_count, terminal=sys.stdout.isatty()))
    only = "" if fits_usual_split(hospital.patients) else ", but only in runs with a larger --test-share than usual"
    say(f"client.py {table} --schema {file} can take part{only}")
