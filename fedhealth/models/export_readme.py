"""What travels with an exported model: its description (columns, threshold, origin), and the README.txt beside the file."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedhealth.common.text_table import format_table
from fedhealth.data.schema import Column
from fedhealth.models.predict import NOT_A_DEVICE, is_synthetic
from fedhealth.models.saved_model import SavedModel

HEADINGS = ("column", "meaning", "unit", "range or codes", "if missing")
SYNTHETIC = "trained on SYNTHETIC patients: its risks do not apply to real people"
ORIGINS = {"own": "the hospitals' own files", "synthetic": "synthetic patients"}
"""Name of a dataset -> its words in README.txt."""
INDENT = "    "
"""Before each line of code, and no other line."""
READ_PATIENTS = 'patients = pandas.read_csv("patients.csv", na_values="?")[columns].to_numpy("float32")'
RUNTIMES: Mapping[str, tuple[str, str, str]] = {
    ".onnx": (
        "onnxruntime",
        "import onnxruntime, pandas",
        'risks = onnxruntime.InferenceSession({file}).run(["risk"], {{"patients": patients}})[0][:, 0]',
    ),
    ".keras": (
        "keras (3.3 or later) with tensorflow, jax or torch",
        "import keras, pandas",
        "risks = keras.saving.load_model({file}).predict(patients)[:, 0]",
    ),
    ".tflite": (
        "ai-edge-litert",
        "import pandas, ai_edge_litert.interpreter as litert",
        'risks = litert.Interpreter({file}).get_signature_runner()(patients=patients)["risk"][:, 0]',
    ),
}
"""Ending -> the package that runs it, its import, and the line that computes the risks."""
README = """\
{file}: risk of {title}, trained with flwr_federated_health {version} on {origin}
{use}

Input "patients": float32, one row for each patient, the {count} columns below in this order, NaN where a value is missing.
Output "risk": float32, one row for each patient, from 0 to 1. The file encodes and standardises by itself.
A risk from {threshold:g} on is predicted positive ({source}).

In Python, with pandas and {runtime}; patients.csv has a header:

{code}

{table}

The file checks nothing: a value out of range or in another unit, a code that is not in the table (it counts as none of
them), a column in another place, and a mark of a missing value, such as -9 or 0, that is not NaN give a wrong risk without
a word. `python -m fedhealth predict` checks all of these.
{where}
"""
WHERE = {
    ".onnx": "The metadata of the file describes columns and threshold in JSON.",
    ".keras": "fedhealth.json in the file, a zip archive, describes columns and threshold.",
    ".tflite": "fedhealth.json in the file, which can be read as a zip archive, describes columns and threshold.",
}
"""Ending -> where `describe_model` is in the file."""


def describe_model(model: SavedModel) -> dict[str, Any]:
    """The description that an exported file holds, for JSON."""
    return {
        "use": NOT_A_DEVICE,
        "dataset": str(model.about["dataset"]),
        "version": str(model.about["version"]),
        "schema": str(model.about["schema"]),
        "threshold": model.threshold,
        "threshold_source": model.threshold_source,
        "missing": "NaN",
        "columns": [describe_column(column) for column in model.schema.features],
    }


def describe_column(column: Column) -> dict[str, Any]:
    """A column for JSON: codes as numbers (JSON's keys are texts), or the range of a number."""
    values: dict[str, Any] = (
        {"codes": [{"code": code, "meaning": meaning} for code, meaning in column.codes.items()]}
        if not column.is_number
        else {"unit": column.unit, "minimum": column.minimum, "maximum": column.maximum}
    )
    return {
        "name": column.name,
        "meaning": column.meaning,
        "kind": column.kind,
        **values,
        "can_be_missing": column.can_be_missing,
        "missing_marks": list(column.missing_marks),
    }


def render_readme(model: SavedModel, file: str, ending: str) -> str:
    """The README.txt beside the exported `file`; lines that begin with `INDENT` are Python and run as they stand."""
    runtime, imports, risks = RUNTIMES[ending]
    columns = list_columns(model.schema.feature_names)
    code = (
        imports,
        columns,
        READ_PATIENTS,
        risks.format(file=repr(file)),
        f"predicted_positive = risks >= {model.threshold}",
    )
    return README.format(
        file=file,
        version=model.about["version"],
        origin=describe_origin(str(model.about["dataset"])),
        use="\n".join([NOT_A_DEVICE, *([SYNTHETIC] if is_synthetic(model) else [])]),
        title=model.schema.title,
        count=len(model.schema.features),
        threshold=model.threshold,
        source=model.threshold_source,
        runtime=runtime,
        code="\n".join(INDENT + line for line in code),
        table=format_table(
            HEADINGS, [table_line(column) for column in model.schema.features], text_columns=5, terminal=False
        ),
        where=WHERE[ending],
    )


def describe_origin(dataset: str) -> str:
    """What the patients were that a model was trained on, in words, of a dataset such as `own+synthetic`."""
    return " and ".join(ORIGINS.get(name, f"the dataset {name}") for name in dataset.split("+"))


def list_columns(names: Sequence[str]) -> str:
    """The line of Python that lists the columns."""
    are_words = not any(set(name) & set('"\\') or name.split() != [name] for name in names)
    return f'columns = "{" ".join(names)}".split()' if are_words else f"columns = {list(names)}"


def table_line(column: Column) -> tuple[str, ...]:
    """A column's line in the table of inputs, in README.txt and in docs/report.md."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in column.codes.items())
    values = f"{column.minimum:g} to {column.maximum:g}" if column.is_number else codes
    missing = "NaN" if column.can_be_missing else "must be known"
    return column.name, column.meaning, column.unit, values, missing
