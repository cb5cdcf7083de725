"""Invented hospitals that stand for the published ones in tests of what recognises a copy by its rows."""

import pandas as pd
import pytest

from fedhealth.data.sources import csv_source
from fedhealth.data.sources.heart import FEATURE_NAMES, HOSPITALS, LABEL
from fedhealth.data.sources.known_rows import describe_rows, parse_rows
from tests.support.layout_files import Row, invent_patient

PUBLISHED: dict[str, list[Row]] = {
    hospital: [invent_patient(first + number) for number in range(20)]
    for first, hospital in zip((100, 200, 300, 400), HOSPITALS, strict=True)
}
"""Hospital -> its patients, in UCI's codes with `num`; two have a missing value that copies fill in or recode."""
PUBLISHED["cleveland"][3]["ca"] = ""
PUBLISHED["hungary"][4]["chol"] = ""


def table_of(hospitals: dict[str, list[Row]]) -> pd.DataFrame:
    """Features, `num` and hospital as the UCI files give them."""
    parts = [pd.DataFrame(rows).assign(hospital=name) for name, rows in hospitals.items()]
    table = pd.concat(parts, ignore_index=True)
    for name in (*FEATURE_NAMES, LABEL.name):
        table[name] = pd.to_numeric(table[name])
    return table.astype({LABEL.name: "int64"})


def publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the invented hospitals' rows be the published ones."""
    known = parse_rows(describe_rows(table_of(PUBLISHED)))
    monkeypatch.setattr(csv_source, "load_known_rows", lambda: known)


def everybody() -> list[Row]:
    """The patients of all four hospitals, in the order of the UCI files."""
    return [row for rows in PUBLISHED.values() for row in rows]


def hospitals_of_everybody() -> list[str]:
    return [hospital for hospital, rows in PUBLISHED.items() for _ in rows]
