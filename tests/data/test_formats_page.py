"""docs/own-files.md: its example of a mapping file is read and applied, and its table has every ending."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from fedhealth.data.file_kinds import ENDINGS
from fedhealth.data.hospital import parse_hospital
from fedhealth.data.mapping_file import parse_mapping
from fedhealth.data.readers.read_any import ReadOptions
from fedhealth.data.schema_file import heart_disease
from tests.support.format_files import to_csv, twenty_patients

PAGE = (Path(__file__).parents[2] / "docs" / "own-files.md").read_text(encoding="utf-8")
HEART = heart_disease()


def test_the_example_of_a_mapping_file_is_read_and_applied() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    table: dict[str, list[Any]] = twenty_patients()
    expected = parse_hospital(to_csv(texts(table)), Path("p.csv"), schema=HEART)
    table["Cholesterin"] = [value and value / 38.67 for value in table.pop("chol")]
    table["Geschlecht"] = [1 if value else 2 for value in table.pop("sex")]
    table["Diagnose"] = ["krank" if value else "gesund" for value in table.pop("target")]
    table["ca"][-1] = "n.b."
    table["Cholesterin"][0] = 999
    options = ReadOptions(mapping=parse_mapping(example, "my-hospital.toml", HEART))
    hospital = parse_hospital(to_csv(texts(table)), Path("p.csv"), schema=HEART, options=options)
    np.testing.assert_allclose(hospital.patients.features, expected.patients.features)
    np.testing.assert_array_equal(hospital.patients.labels, expected.patients.labels)
    assert sum("(in " in line for line in hospital.warnings) == 5, (
        "two columns with marks, two with codes, one with a unit"
    )


def texts(table: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {name: ["" if value is None else str(value) for value in values] for name, values in table.items()}


def test_the_table_of_formats_has_every_ending() -> None:
    assert all(f"`{ending}`" in PAGE for endings in ENDINGS.values() for ending in endings)
