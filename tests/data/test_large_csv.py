"""A large CSV that Arrow reads has the patients, names and warnings that the reading cell by cell gives, or is read so."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhealth.common.errors import DataError
from fedhealth.data import large_csv
from fedhealth.data.csv_table import Table, parse_table
from fedhealth.data.hospital import load_hospital, parse_hospital
from fedhealth.data.large_csv import read_large_table
from fedhealth.data.schema import Schema
from fedhealth.data.schema_file import parse_schema
from fedhealth.data.sources.heart import HEART
from fedhealth.data.validation import validate_table
from tests.support.examples import examples
from tests.support.hospital_files import write_hospitals

FILE = Path("p.csv")
SCHEMA = parse_schema(
    """
title = "a test"
source = "a test"
missing-marks = [-9]
[[column]]
name = "age"
meaning = "age"
kind = "number"
range = [-1000, 1e6]
[[column]]
name = "ward"
meaning = "ward"
kind = "category"
codes = { 1 = "north", 2 = "south", 3 = "west" }
[[outcome]]
name = "dead"
meaning = "dead"
kind = "yes/no"
positive = [1]
""",
    "test.toml",
)
NUMBERS = [
    "63",
    "63.0",
    " 63 ",
    "-9",
    "",
    "?",
    "NA",
    "nan",
    "NULL",
    "1e3",
    "+5",
    ".5",
    "5.",
    "007",
    "-0",
    "1e400",
    "1.234",
    "63.000",
    "inf",
]
ODD = ["0x1F", "1_0", "1,5", "true", "2020-01-01", "12:30", "n/a", "-", "\u0663", "9007199254740993", "x", '"', "Nan"]
COMMAS = [
    "1,5",
    "12,25",
    "5,",
    ",5",
    "1,5e3",
    "1.234,5",
    "1,234",
    "0,500",
    "63,000",
    " 7,5 ",
    "-nan",
    "NAN",
    " null ",
    ".",
]
AGES = st.sampled_from([*NUMBERS, *ODD]) | st.floats(-100, 100).map(lambda value: f"{value:.3g}")
WARDS_TEXTS = ["1", "2", "3", "1.0", "north", " South", "", "?", "NULL", "4", "true"]
WARDS = st.sampled_from(WARDS_TEXTS)
DEATHS = st.sampled_from(["0", "1", "yes", "No", "y"])
ROWS = st.lists(st.tuples(AGES, WARDS, DEATHS), min_size=17, max_size=30)


@pytest.fixture(autouse=True)
def small_files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_csv, "LARGE", 0)


def to_bytes(rows: list[tuple[str, ...]], separator: str = ",", end: str = "\n") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerow(["age", "ward", "dead"])
    writer.writerows(rows)
    return text.getvalue().encode()


def values_of(table: Table, schema: Schema = SCHEMA) -> tuple[np.ndarray, list[str]] | str:
    try:
        values, warnings = validate_table(schema, table, FILE)
    except DataError:
        return "faults"
    return values.to_numpy(), warnings


def require_same(content: bytes, schema: Schema = SCHEMA) -> None:
    """The fast reading gives what the other gives, or refuses the file, or says that it has faults."""
    large = read_large_table(content, FILE, schema)
    if large is None or (fast := values_of(large, schema)) == "faults":
        return
    table = parse_table(content, FILE, schema)
    slow = values_of(table, schema)
    assert slow != "faults"
    np.testing.assert_array_equal(fast[0], slow[0])
    assert fast[1] == slow[1]
    assert (large.rows, large.ignored, large.short_rows) == (table.rows, table.ignored, table.short_rows)


@settings(max_examples=examples(200), deadline=None)
@given(ROWS, st.sampled_from([",", ";", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_any_cells_are_read_as_one_by_one_or_left_to_that(
    rows: list[tuple[str, ...]], separator: str, end: str
) -> None:
    require_same(to_bytes(rows, separator, end))


@settings(max_examples=examples(400), deadline=None)
@given(st.data(), st.sampled_from([",", ";", "\t"]))
def test_a_few_kinds_of_cells_are_read_as_one_by_one_or_left_to_that(data: st.DataObject, separator: str) -> None:
    """A file of few kinds is often read fast."""
    kinds = [
        data.draw(st.lists(st.sampled_from(texts), min_size=1, max_size=3))
        for texts in ([*NUMBERS, *ODD, *COMMAS], [*WARDS_TEXTS, "NULL", "n/a", "1.5"], ["0", "1", "yes", "no"])
    ]
    cells = [st.sampled_from(texts) for texts in kinds]
    good = [(text.replace(".", data.draw(st.sampled_from([".", ","]))), "1", "1") for text in ("40", "41.5")]
    require_same(to_bytes([*good, *data.draw(st.lists(st.tuples(*cells), min_size=17, max_size=20))], separator))


GOOD = [(str(40 + place), str(1 + place % 3), str(place % 2)) for place in range(20)]


def test_a_file_of_numbers_is_read_fast() -> None:
    table = read_large_table(to_bytes(GOOD), FILE, SCHEMA)
    assert table is not None
    assert {*table.numbers} == {"age", "ward", "dead"}
    require_same(to_bytes(GOOD))


def test_words_of_codes_are_read_fast_too() -> None:
    rows = [(age, "South", "yes" if dead == "1" else "no") for age, _, dead in GOOD]
    table = read_large_table(to_bytes(rows), FILE, SCHEMA)
    assert table is not None
    assert {*table.numbers} == {"age", "ward", "dead"}
    require_same(to_bytes(rows))


@pytest.mark.parametrize(
    ("ages", "separator"),
    [
        (["NULL", "n/a", "63"], ","),
        (["NULL", ".", " null ", "63.5"], ","),
        (["63,5", "", "7,25"], ";"),
        (["63,5", "NULL", "-", "7"], "\t"),
    ],
    ids=["marks", "marks and points", "decimal commas", "marks and commas"],
)
def test_marks_of_a_missing_value_and_decimal_commas_are_read_fast_too(ages: list[str], separator: str) -> None:
    rows = [(ages[place % len(ages)], ward, dead) for place, (_, ward, dead) in enumerate(GOOD)]
    assert read_large_table(to_bytes(rows, separator), FILE, SCHEMA) is not None
    require_same(to_bytes(rows, separator))


def test_true_and_false_and_words_with_an_x_are_read_fast_too() -> None:
    text = SCHEMA.text.replace('"west"', '"annex"')
    rows = [(age, "Annex" if ward == "3" else ward, "true" if dead == "1" else "False") for age, ward, dead in GOOD]
    schema = parse_schema(text, "test.toml")
    assert read_large_table(to_bytes(rows), FILE, schema) is not None
    require_same(to_bytes(rows), schema)


LATER = {
    "whole numbers": ("50", "2", "1"),
    "fractions": ("50.5", "2", "1"),
    "marks": ("NULL", "n/a", "1"),
    "words": ("50", "south", "no"),
    "none": ("", "2", "0"),
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
@pytest.mark.parametrize("first", [GOOD, [("", ward, dead) for _, ward, dead in GOOD]], ids=["known", "missing"])
def test_rows_after_the_first_ones_may_hold_what_those_do_not_show(
    first: list[tuple[str, ...]], later: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_csv, "HEAD", 120)
    monkeypatch.setattr(large_csv, "BLOCK", 150)
    content = to_bytes([("41.5", "1", "0"), *first, later, *GOOD, later])
    assert read_large_table(content, FILE, SCHEMA) is not None
    require_same(content)


@pytest.mark.parametrize("age", ["5,", "1,5e3", "1.500", "1.5", "0x1F", "-nan", "1,2,3"])
def test_what_only_arrow_takes_for_a_number_is_refused_as_in_a_small_file(age: str) -> None:
    rows = [("63,5", "1", "0"), *GOOD, (age, "1", "0")]
    assert read_large_table(to_bytes(rows, ";"), FILE, SCHEMA) is None
    require_same(to_bytes(rows, ";"))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n45,", b"\n0x1F,"),
        lambda content: content.replace(b"\n45,", b"\ninf,"),
        lambda content: content.replace(b"\n45,", b"\n,,\n45,"),
        lambda content: content.replace(b"\n45,", b"\n45,1\n45,"),
        lambda content: content.replace(b"\n45,", b"\n45,1,1,1\n45,"),
        lambda content: b"sep=,\n" + content,
        lambda content: content.replace(b"age,ward", b"age, ward"),
        lambda content: content + b"\0",
        lambda content: content.replace(b"age", b"height"),
        lambda content: content.replace(b"\n45,", "\n45,\u00fc,".encode("latin-1")),
    ],
    ids=["0x", "inf", "blank", "short", "wide", "sep", "name", "zero byte", "header", "latin-1"],
)
def test_what_needs_an_explanation_is_left_to_the_reading_cell_by_cell(change) -> None:  # type: ignore[no-untyped-def]
    assert read_large_table(change(to_bytes(GOOD)), FILE, SCHEMA) is None


def test_points_that_may_stand_between_thousands_are_a_question_as_in_a_small_file() -> None:
    rows = [(f"{place}.500", ward, dead) for place, (_, ward, dead) in enumerate(GOOD, start=1)]
    assert read_large_table(to_bytes(rows), FILE, SCHEMA) is None
    with pytest.raises(DataError, match=r"age is 1\.500, which is 1500 with a decimal comma .* give --decimal"):
        parse_hospital(to_bytes(rows), FILE, schema=SCHEMA)
    require_same(to_bytes([("63.5", "1", "0"), *rows]))
    assert read_large_table(to_bytes([("63.5", "1", "0"), *rows]), FILE, SCHEMA) is not None


def test_a_beginning_that_ends_within_a_quoted_cell_is_read_cell_by_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"note,age,ward,dead\n" + b'"two\nlines",1.500,1,0\n' * 20
    monkeypatch.setattr(large_csv, "HEAD", content.index(b"lines"))
    assert read_large_table(content, FILE, SCHEMA) is None


@pytest.mark.parametrize("name", ["007", "7", "", "Ulm"])
def test_the_name_of_a_hospital_is_its_text(name: str) -> None:
    schema = replace(SCHEMA, hospital="site")
    content = b"age,ward,dead,site\n" + b"".join(f"{','.join(row)},{name}\n".encode() for row in [*GOOD, GOOD[0]])
    large = read_large_table(content + b"50,1,0,7\n", FILE, schema)
    small = parse_table(content + b"50,1,0,7\n", FILE, schema)
    assert large is not None
    assert large.cells["site"] == small.cells["site"] == [name] * 21 + ["7"]


def test_faults_of_a_large_file_are_the_usual_lines() -> None:
    rows = [*GOOD[:5], ("2e6", "9", "0"), *GOOD[5:]]
    with pytest.raises(DataError) as caught:
        parse_hospital(to_bytes(rows), FILE, schema=SCHEMA)
    age, ward = caught.value.faults
    assert age == "p.csv: row 7: age is 2e6, outside -1000..1e+06; correct the value or leave the cell empty"
    assert ward.startswith("p.csv: row 7: ward is 9, not one of 1 (north), 2 (south), 3 (west);")


def test_a_hospital_of_heart_patients_is_the_same_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in write_hospitals(tmp_path).values():
        fast = load_hospital(path)
        assert read_large_table(path.read_bytes(), path, HEART) is not None
        with monkeypatch.context() as usual:
            usual.setattr(large_csv, "LARGE", 10**9)
            slow = load_hospital(path)
        np.testing.assert_array_equal(fast.patients.features, slow.patients.features)
        np.testing.assert_array_equal(fast.patients.labels, slow.patients.labels)
        assert (fast.name, fast.source, fast.warnings) == (slow.name, slow.source, slow.warnings)
