"""`python -m fedhealth predict`: predicts risks of new patients with a run's model."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedhealth.cli.patient_flags import find_schema, predict_settings
from fedhealth.cli.terminal import note, parse_flags, say, script, warn
from fedhealth.config.checks import require
from fedhealth.config.results import PredictSettings

if TYPE_CHECKING:
    from fedhealth.data.new_patients import NewPatients
    from fedhealth.data.schema import Schema


@script
def main(argv: Sequence[str] | None = None) -> None:
    """Read the model, check the patients, predict, and write or print the risks."""
    kind = predict_settings(find_schema(sys.argv[2:] if argv is None else argv))
    settings = parse_flags(kind, argv, program="python -m fedhealth predict")
    from fedhealth.common.atomic_files import write_file
    from fedhealth.models.predict import (
        HEADINGS,
        as_csv,
        as_json,
        find_notes,
        find_prevalence,
        predict,
        prevalence_note,
        threshold_note,
    )
    from fedhealth.models.saved_model import read_model

    id_column = settings.id_column
    others = f"a column with another name than the output's ({', '.join(HEADINGS)})"
    require(id_column not in HEADINGS, "id-column", id_column, others)
    model = read_model(settings.run)
    patients = read_patients(settings, model.schema)
    prevalence = find_prevalence(model, patients) if settings.adapt_prevalence else None
    predictions = predict(model, patients, prevalence)
    adapted = [prevalence_note(prevalence, len(predictions))] if prevalence else []
    for line in (*patients.warnings, *find_notes(model, predictions), *adapted):
        warn(line)
    note(threshold_note(model, adapted=bool(prevalence)))
    text = as_csv(predictions, id_column) if settings.format == "csv" else as_json(model, predictions, id_column)
    if settings.out is None:
        say(text.rstrip("\n"))
    else:
        write_file(settings.out, text.encode())
        say(f"wrote {settings.out}: risks of {len(predictions)} patient{'s' * (len(predictions) != 1)}")


def read_patients(settings: PredictSettings, schema: "Schema") -> "NewPatients":
    """The patients of the file, of standard input or of the flags."""
    from fedhealth.data.csv_table import read_file
    from fedhealth.data.new_patients import read_new_patient, read_new_patients
    from fedhealth.data.readers.read_any import load_options

    if not settings.patients:
        return read_new_patient(settings.patient(), schema)
    (path,) = settings.patients
    options = load_options(schema, settings.sheet, settings.decimal, settings.mapping)
    if str(path) == "-":
        return read_new_patients(sys.stdin.buffer.read(), Path("standard input"), schema, settings.id_column, options)
    return read_new_patients(read_file(path), path, schema, settings.id_column, options)
