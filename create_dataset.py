#!/usr/bin/env python
"""Make the hospitals' CSV files from one source of patients. The steps are functions of `fedhealth.data`."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedhealth.cli.terminal import note, parse_flags, say, script, warn
from fedhealth.common.atomic_files import write_file
from fedhealth.config.scripts import DatasetSettings, ServerSettings
from fedhealth.data.dataset_writer import Origin, client_file, write_dataset
from fedhealth.data.partition import SPLITS_WITH_ALPHA, deal_out
from fedhealth.data.partition_plot import draw_hospitals
from fedhealth.data.partition_table import hospital_table
from fedhealth.data.readers.read_any import load_options
from fedhealth.data.schema_file import load_schema
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.load import load_source
from fedhealth.data.sources.readings import Answers

RAW_FOLDER, PICTURE = Path("data/raw"), "hospitals.svg"


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Load the patients, divide them among hospitals, write the files, show how the hospitals differ."""
    settings = parse_flags(DatasetSettings, argv)
    schema = load_schema(settings.schema)
    source = load_source(
        settings.source,
        schema=schema,
        url=settings.url,
        patients=settings.patients,
        seed=settings.seed,
        raw_folder=RAW_FOLDER,
        answers=Answers(settings.codes, settings.label_1),
        options=load_options(schema, settings.sheet, settings.decimal, settings.mapping),
        say=note,  # on stderr: the first line of stdout names the source
    )
    say(source.description)
    for line in source.warnings:
        warn(line)
    hospitals = deal_out(
        source.table, schema, split=settings.split, clients=settings.clients, alpha=settings.alpha, seed=settings.seed
    )
    for line in write_dataset(settings.out, source.table, hospitals, origin_of(source, settings), schema):
        warn(line)
    title = f"How {len(hospitals)} hospitals differ: {settings.split} split"
    write_file(settings.out / PICTURE, draw_hospitals(schema, hospitals, title=title))
    say(hospital_table(schema, hospitals, terminal=sys.stdout.isatty()))
    say_next_steps(settings, hospitals)


def origin_of(source: Source, settings: DatasetSettings) -> Origin:
    """What `dataset.json` records of the origin of the files."""
    alpha = settings.alpha if settings.split in SPLITS_WITH_ALPHA else None
    return Origin(source.name, source.description, source.sha256, settings.split, settings.seed, alpha)


def say_next_steps(settings: DatasetSettings, hospitals: Sequence[pd.DataFrame]) -> None:
    """Print where the files are and the next commands."""
    files = "client_1.csv" if len(hospitals) == 1 else f"client_1.csv to {client_file(len(hospitals))}"
    say(f"wrote full_dataset.csv, {files}, dataset.json and {PICTURE} to {settings.out}")
    many = "" if len(hospitals) == ServerSettings().hospitals else f" --hospitals {len(hospitals)}"
    schema = f" --schema {shlex.quote(str(settings.schema))}" if settings.schema else ""
    say(f"next: python server.py{many}{schema}")
    own = shlex.quote(str(settings.out / client_file(1)))
    say(f"then, for each hospital in its own terminal: python client.py {own}{schema}")


if __name__ == "__main__":
    sys.exit(main())
