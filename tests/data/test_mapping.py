"""A mapping is applied to a file's cells before they are checked, and every conversion is reported."""

from pathlib import Path
from typing import Any

import pytest

from fedhealth.common.errors import DataError
from fedhealth.data.csv_table import Sheet
from fedhealth.data.hospital import Hospital, parse_hospital
from fedhealth.data.mapping_file import parse_mapping
from fedhealth.data.readers.read_any import ReadOptions, read_any
from fedhealth.data.schema_file import heart_disease, parse_schema
from tests.support.format_files import to_csv, twenty_patients

HEART = heart_disease()
FILE = Path("p.csv")


def options(text: str, **others: Any) -> ReadOptions:
    return ReadOptions(mapping=parse_mapping(text, "my.toml", HEART), **others)


def read(mapping: str, content: str, **others: Any) -> Sheet:
    return read_any(content.encode(), FILE, HEART, options(mapping, **others))


def faults(mapping: str, content: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(mapping, content)
    return caught.value.faults


def column(name: str, *lines: str) -> str:
    return "\n".join(["[[column]]", f'name = "{name}"', *lines, ""])


CHOL = column("chol", 'in-file = "Cholesterin"', 'from = "mmol/l"')


def test_thousands_are_those_of_the_file_s_unit() -> None:
    mapping = column("chol", 'in-file = "chol"', 'from = "ug/l"', "factor = 0.0001")
    (line,) = faults(mapping, "age,chol\n63,7.500\n")
    assert "give --decimal" in line


def test_names_and_units_become_the_schema_s() -> None:
    sheet = read(CHOL, "age,cholesterin\n63,6\n40,5.2\n")
    assert sheet.header == ["age", "chol"]
    assert [cells for _, cells in sheet.patients] == [["63", "232.02"], ["40", "201.084"]]
    assert sheet.notes == (
        "columns are read under the schema's names: Cholesterin as chol",
        "chol: mmol/l times 38.67 gives mg/dl (in 2 cells)",
    )


def test_decimal_commas_are_read_before_units() -> None:
    sheet = read(CHOL, "age;Cholesterin\n63;6,0\n40;5,5\n")
    assert [cells for _, cells in sheet.patients] == [["63", "232.02"], ["40", "212.685"]]


def test_missing_values_have_no_unit() -> None:
    """0 and -9 are the schema's marks for a missing cholesterol, 999 is this hospital's."""
    sheet = read("missing-marks = [999]\n" + CHOL, "age,Cholesterin\n1,-9\n2,0\n3,NA\n4,\n5,999.0\n6,high\n7,6\n")
    assert [cells[1] for _, cells in sheet.patients] == ["-9", "0", "NA", "", "", "high", "232.02"]
    assert sheet.notes[1:] == (
        "chol: what the mapping file lists as missing is read as missing (in 1 cell)",
        "chol: mmol/l times 38.67 gives mg/dl (in 1 cell)",
    )


def test_codes_become_the_schema_s_and_marks_hold_for_every_column_or_one() -> None:
    text = 'missing-marks = ["n.b."]\n' + column(
        "sex", "codes = { 1 = 'male', 2 = 'female', D = 0 }", "missing-marks = [9]"
    )
    sheet = read(text, "age,sex,chol\n9,01,9\n9,2.0,N.B.\n9,d,9\n9,Female,9\n9,9,9\n")
    assert [cells for _, cells in sheet.patients] == [
        ["9", "1", "9"],
        ["9", "0", ""],
        ["9", "0", "9"],
        ["9", "Female", "9"],
        ["9", "", "9"],
    ]
    marked = "what the mapping file lists as missing is read as missing (in 1 cell)"
    assert sheet.notes == (
        "sex: codes of the mapping file are read as the schema's (in 2 cells)",
        f"sex: {marked}",
        f"chol: {marked}",
    )


def test_a_code_that_is_not_listed_is_one_line_even_if_the_schema_has_it() -> None:
    """Where 1 is male and 2 is female, a 0 is not the schema's 0."""
    text = column("sex", "codes = { 1 = 'male', 2 = 'female' }") + column("fbs", "codes = { J = 1, N = 0 }")
    assert faults(text, "age,sex,fbs\n63,1,J\n40,0,J\n41,2,?\n42,1,maybe\n") == [
        'p.csv: row 3: sex is "0", which is not among its codes in my.toml; add it there',
        'p.csv: row 5: fbs is "maybe", which is not among its codes in my.toml; add it there',
    ]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("age,kolesterol", 'p.csv has no column "Cholesterin"; give the name as the file\'s header has it'),
        ("Cholesterin,CHOL", '"Cholesterin" is to be chol, but p.csv has a column chol too; keep one of them'),
        ("Cholesterin,Cholesterin", 'p.csv has 2 columns "Cholesterin"; keep one in the file'),
    ],
)
def test_a_column_that_the_file_does_not_have_once_is_one_line(header: str, fault: str) -> None:
    assert faults("\n\n" + CHOL, f"{header}\n5.2,6\n") == [f"my.toml: line 3: {fault}"]


def test_names_that_differ_only_in_capital_letters_are_told_apart_if_both_are_there() -> None:
    sheet = read(column("chol", 'in-file = "C"') + column("age", 'in-file = "a"'), "C,c,A\n200,x,63\n")
    assert sheet.header == ["chol", "c", "age"]


def test_two_columns_can_change_their_names_with_each_other() -> None:
    sheet = read(
        column("chol", 'in-file = "trestbps"') + column("trestbps", 'in-file = "chol"'), "chol,trestbps\n1,2\n"
    )
    assert sheet.header == ["trestbps", "chol"]


def test_a_row_that_ends_early_and_an_unknown_column_stay() -> None:
    assert read(CHOL, "age,note,Cholesterin\n63,999\n").patients == [(2, ["63", "999"])]


def hospital_of(table: dict[str, list[Any]], mapping: str, name: str = "p.csv") -> Hospital:
    texts = {key: ["" if value is None else f"{value}" for value in values] for key, values in table.items()}
    return parse_hospital(to_csv(texts), Path(name), schema=HEART, options=options(mapping))


def test_a_mapped_hospital_is_checked_like_any_other_and_reports_its_conversions() -> None:
    table = twenty_patients()
    table["Cholesterin"] = [None if value is None else value / 38.67 for value in table.pop("chol")]
    table["Diagnose"] = ["krank" if value else "gesund" for value in table.pop("target")]
    diagnosis = column("target", 'in-file = "Diagnose"', 'codes = { krank = "disease", gesund = "healthy" }')
    hospital = hospital_of(table, CHOL + diagnosis)
    assert hospital.patients.features[1, HEART.places["chol"]] == pytest.approx(200.5)
    assert hospital.patients.labels[:4].tolist() == [0, 0, 1, 1]
    assert hospital.warnings[:3] == (
        "columns are read under the schema's names: Cholesterin as chol, Diagnose as target",
        "chol: mmol/l times 38.67 gives mg/dl (in 19 cells)",
        "target: codes of the mapping file are read as the schema's (in 20 cells)",
    )


def test_codes_of_a_mapping_stand_above_the_labels_of_an_spss_file() -> None:
    pytest.importorskip("pyreadstat", reason="pip install -r requirements-formats.txt")
    from tests.support.format_files import to_spss

    table = twenty_patients()
    table["sex"] = [1.0 + value for value in table["sex"]]
    content = to_spss(table, variable_value_labels={"sex": {1: "female", 2: "male"}})
    mapping = column("sex", "codes = { 1 = 'female', 2 = 'male' }")
    hospital = parse_hospital(content, Path("p.sav"), schema=HEART, options=options(mapping))
    assert hospital.patients.features[:2, HEART.places["sex"]].tolist() == [0, 1]


def twenty_rows(**changes: str) -> str:
    """A table of twenty patients with other texts in the first one's cells; chol is in mmol/l, as Cholesterin."""
    columns = twenty_patients() | {"chol": [5.2] * 20}
    for name, text in changes.items():
        columns[name] = [text, *columns[name][1:]]
    return to_csv({"Cholesterin" if name == "chol" else name: cells for name, cells in columns.items()}).decode()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"chol": "100"}, "Cholesterin is 100 in the file, so chol is 3867 mg/dl, outside 50..700; "),
        ({"sex": "9"}, "sex is 9 in the file, so sex is missing; give one of 0 (female), 1 (male) or drop the row"),
        ({"age": "200"}, "age is 200 years, outside 18..120; correct the value or drop the row"),
    ],
    ids=["unit", "mark", "as it is"],
)
def test_a_fault_shows_the_cell_as_it_stands_in_the_file(changes: dict[str, str], line: str) -> None:
    text = CHOL + column("sex", "missing-marks = [9]")
    with pytest.raises(DataError) as caught:
        parse_hospital(twenty_rows(**changes).encode(), FILE, options=options(text))
    (found,) = caught.value.faults
    assert found.startswith(f"p.csv: row 2: {line}")


WARMTH = parse_schema(
    """
title = "t"
source = "s"
[[column]]
name = "warmth"
meaning = "body temperature"
kind = "number"
unit = "C"
range = [30, 45]
other-units = { F = [0.5555555555555556, -17.77777777777778], K = [1, -273.15] }
[[outcome]]
name = "dead"
meaning = "died"
kind = "yes/no"
positive = [1]
""",
    "warmth.toml",
)


def test_a_unit_with_another_zero_is_converted_and_suggested() -> None:
    mapping = parse_mapping(column("warmth", 'in-file = "temp"', 'from = "f"'), "my.toml", WARMTH)
    sheet = read_any(b"temp,dead\n95,0\n104.0,1\n", FILE, WARMTH, ReadOptions(mapping=mapping))
    values = [float(cells[0]) for _, cells in sheet.patients]
    assert values == pytest.approx([35, 40], abs=1e-12)
    assert sheet.notes[-1] == "warmth: f times 0.555556 minus 17.7778 gives C (in 2 cells)"
    rows = "".join(f"{36 + place / 10},{place % 2}\n" for place in range(20))
    with pytest.raises(DataError) as caught:
        parse_hospital(f"warmth,dead\n{rows}310,0\n".encode(), FILE, schema=WARMTH)
    assert str(caught.value) == (
        "p.csv: row 22: warmth is 310 C, outside 30..45; is it in K (then multiply it by 1 and subtract 273.15)? give C"
    )


def test_marks_between_thousands_are_judged_by_the_range_in_a_unit_with_another_zero() -> None:
    mapping = parse_mapping(column("warmth", 'from = "x"', "factor = 0.001", "offset = 30"), "my.toml", WARMTH)
    with pytest.raises(DataError, match="give --decimal"):
        read_any(b"warmth,dead\n1.500,0\n", FILE, WARMTH, ReadOptions(mapping=mapping))
